# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# disks: more
# Polled writes, on queues of NVMe and null_blk that raise no interrupt, while blocks are being preserved: nobody polls
# for what is held, and nothing is lost or hangs. Before 5.16 the sender polls with what the entry returned: for a bio
# that was taken that must be nothing, and a bio that is made an ordinary one must be taken.
modprobe -r nvme && modprobe nvme poll_queues=1 || fail "nvme"
wait_for 20 test -b /dev/nvme0n1 || fail "no nvme"
finish() {
    nullb_gone po
    modprobe -r nvme && modprobe nvme
}
d=("$(disk nvme0)")
modprobe null_blk nr_devices=0
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
# Before 5.17 null_blk has no queues that are polled.
if grep -q poll_queues /sys/kernel/config/nullb/features; then
    d+=("$(nullb po 24 submit_queues=2 poll_queues=1)") || fail "null_blk"
fi
load
ids=()
targets=()
for x in "${d[@]}"; do
    [ "$(cat "/sys/block/${x##*/}/queue/io_poll")" = 1 ] || fail "$x is not polled"
    ids+=("$(attach "$x" 1)")
    targets+=(--disk "$x")
done
replicate r 1 "${ids[*]}" --initial --interval 50 --depth 8 --slow-us 2000 --compare
mix w "${targets[@]}" --discard-zeroes --kinds polled,hipri,uring,direct,nowait,forced --need polled,hipri
held() {
    cuts r 4 || return 1
    for id in "${ids[@]}"; do [ "$(disk_get "$id" held)" -ge 20 ] || return 1; done
}
stamped_until w held
say "$(cat "$W/w.mixer.out")"
replica_good r 3
seen "${ids[@]}"
exact r
detach_all
