# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12 debug
# A reader slower than the writers: blocks must be preserved, cuts close, and every one is right.
load
d=$(nullb slow 64 submit_queues=2) || fail "null_blk"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 50 --depth 8 --slow-us 8000 --compare --log "$W/r.cuts" \
    --tickets "$TICKETS"
stamp w --disk "$d@0+3000" --engine mixed --writers 3 --rate 1500
enough() { cuts r 3 && [ "$(disk_get "$id" preserved)" -ge 50 ]; }
stamped_until w enough
replica_good r 3
judge r
finish() { nullb_gone slow; }
detach_all
