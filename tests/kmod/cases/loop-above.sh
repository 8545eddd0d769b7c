# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Loop devices over files of a filesystem on a tracked disk, with direct I/O and without, the loop devices tracked too
# in the same group: what is held above waits for what is held below and no deadlock comes of it.
modprobe loop || skip "no loop"
v=$(disk virtio0)
wipefs -qa "$v"
mkfs.ext4 -q -F -b 4096 "$v" || fail "mkfs"
m=$W/mnt
mkdir -p "$m"
mount "$v" "$m" || fail "mount"
truncate -s 12M "$m/one"
dd if=/dev/zero of="$m/two" bs=1M count=12 2>/dev/null
a=$(losetup -f --show "$m/one") && b=$(losetup -f --show --direct-io=on "$m/two") || fail "losetup"
finish() {
    detach_all
    losetup -d "$a"
    losetup -d "$b"
    umount "$m"
    wipefs -qa "$v"
}
load
ids="$(attach "$v" 1) $(attach "$a" 1) $(attach "$b" 1)"
replicate r 1 "$ids" --initial --interval 100 --depth 8 --slow-us 2000 --compare
mix w --disk "$a" --disk "$b" --rate 150 --discard-zeroes --need direct,subblock,uring,forced
enough() { cuts r 4 && [ "$(disk_get "${ids##* }" held)" -ge 5 ] && [ "$(disk_get "${ids%% *}" held)" -ge 5 ]; }
stamped_until w enough
sync
umount "$m" 2>/dev/null || mount -o remount,ro "$m"
replica_good r 3
# shellcheck disable=SC2086
seen $ids
