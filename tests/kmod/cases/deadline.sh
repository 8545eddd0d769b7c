# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10 6.1 6.12
# Reads of 300 ms below (dm-delay) and a deadline of 50 ms: every hold runs into the deadline; cuts
# are void with that reason, writers go on with their own data and none waits much longer.
load hold_deadline_ms=50
n=$(nullb dl 32) || fail "null_blk"
d=$(delay ebbdl "$n" 300 0) || fail "dm-delay"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 50 --slow-us 100000 --depth 16 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp w --disk "$d@0+500" --engine direct --writers 2
stamped_until w cuts r 2 "void deadline"
replica_good r 1
grep -q '"deadline":' "$W/r.json" || fail "no hold reached its deadline"
judge r
held=$(disk_get "$id" held_ns_max)
say "held at most $((held / 1000000)) ms"
# Emulation may be late, but a hold that waits for the read takes 300 ms and more.
[ "$held" -ge 40000000 ] || fail "nothing was held for as long as the deadline"
finish() { dmsetup remove ebbdl; nullb_gone dl; }
detach_all
dmsetup remove ebbdl
