# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12 debug
# A pool of 256 KiB under a slow reader: cuts become void with that reason, writers are never failed,
# the data is right afterwards, and a cut that may take its time closes.
load pool_bytes=262144
d=$(nullb po 64) || fail "null_blk"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 50 --depth 4 --slow-us 20000 --compare --log "$W/r.cuts" \
    --tickets "$TICKETS"
stamp w --disk "$d@0+8000" --engine aio --writers 2
stamped_until w cuts r 2 "void pool-full"
replica_good r 1
grep -q '"pool-full":' "$W/r.json" || fail "the pool was never full"
judge r
[ "$(ebbtest info | field pool_used_bytes)" = 0 ] || fail "the pool is not empty after the last pass"
finish() { nullb_gone po; }
detach_all
