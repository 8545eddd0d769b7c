# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# Every kind of write that user space has, by one writer for each disk, under cuts whose blocks are being
# preserved: what the writer remembers, the disk and the replica are equal.
n=$(nullb ek 24 submit_queues=2 poll_queues=1) || n=$(nullb ek1 24) || fail "null_blk"
finish() { nullb_gone ek; nullb_gone ek1; }
v=$(disk virtio0) s=$(disk scsi0)
load
ids="$(attach "$v" 1) $(attach "$s" 1) $(attach "$n" 1)"
replicate r 1 "$ids" --initial --interval 50 --depth 8 --slow-us 3000 --compare
mix w --disk "$v@0+25165824" --disk "$s@0+25165824" --disk "$n" --discard-zeroes \
    --need buffered,flushed,mapped,direct,subblock,large,vectored,batched,sequential,uring,hipri,nowait,forced,synced,zeroout,zero,discard
held() { [ "$(disk_get "${ids##* }" held)" -ge 20 ] && [ "$(disk_get "${ids%% *}" held)" -ge 20 ]; }
more() { cuts r 6 && held; }
wait_for 100 more || fail "nothing was held: the test proves nothing"
stamped_until w test "$(cat "/sys/block/${n##*/}/stat" | awk '{print $6}')" -ge 1
say "$(cat "$W/w.mixer.out")"
replica_good r 6
# shellcheck disable=SC2086
seen $ids
exact r
