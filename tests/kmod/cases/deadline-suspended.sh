# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# The disk below is suspended (dm) while a hold waits to read it: the deadline voids the cut and lets
# the write go, which then waits for dm alone; after resuming, nothing is lost.
load hold_deadline_ms=200
n=$(nullb ds 32) || fail "null_blk"
modprobe dm-mod
dmsetup create ebbds --table "0 65536 linear $n 0" && dmsetup mknodes
d=$(readlink -f /dev/mapper/ebbds)
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 100 --depth 4 --slow-us 50000 --compare
stamp w --disk "$d@0+4000" --engine aio --writers 2 --seconds "$(seconds 12)" --rate 1000
sleep 1
# Whether a cut has blocks left to preserve just then is luck.
for _ in 1 2 3 4; do
    dmsetup suspend --nolockfs ebbds || fail "suspend"
    sleep 1.5
    dmsetup resume ebbds
    [ "$(disk_get "$id" held_ns_max)" -ge 200000000 ] && break
    sleep 0.7
done
[ "$(disk_get "$id" held_ns_max)" -ge 200000000 ] || fail "no write was held until the deadline: the test proves nothing"
stamped w
replica_good r 1
finish() { dmsetup resume ebbds; dmsetup remove ebbds; nullb_gone ds; }
detach_all
dmsetup remove ebbds
