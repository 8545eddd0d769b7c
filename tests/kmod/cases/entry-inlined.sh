# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10 6.12 sid
# The compiler has put a copy of submit_bio_noacct into submit_bio, as it does on some kernels: what comes
# by submit_bio alone is seen all the same, and counted once where it comes by both.
if insmod "$TESTKO/inlined.ko" 2>"$W/i.out"; then
    finish() { nullb_gone ei; rmmod inlined; }
else
    grep -qi "no such device" "$W/i.out" || fail "inlined: $(cat "$W/i.out")"
    say "the compiler has done it already"
    finish() { nullb_gone ei; }
fi
modprobe dm-mod
load
n=$(nullb ei 24 submit_queues=2) || fail "null_blk"
v=$(disk virtio0)
below=$(attach "$v" 1) || fail "attach"
dmesg | tail -n 20 | grep -q 'ebb: submit_bio is intercepted as well' || fail "the log does not say it"
memory=$(attach "$n" 1) || fail "attach"
# What comes through dm is sent on from there by submit_bio_noacct.
l=$(linear ei "$v") || fail "dm"
replicate r 1 "$below $memory" --initial --interval 50 --depth 8 --slow-us 3000 --compare
mix w --disk "$l@0+25165824" --disk "$n" --need buffered,flushed,direct,large,vectored,batched,synced,zero
held() { [ "$(disk_get "$below" held)" -ge 20 ] && [ "$(disk_get "$memory" held)" -ge 20 ]; }
more() { cuts r 6 && held; }
wait_for 100 more || fail "nothing was held: the test proves nothing"
stamped_until w true
replica_good r 6
seen "$below" "$memory"
dmsetup remove ei || fail "dm"
detach_all
