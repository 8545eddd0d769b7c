# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10 trixie 6.12 sid
# Bios far larger than the disk takes at once: split by limits, by a partition, by dm's and md's
# chunks; the remainders come back through the hook on some kernels and not on others.
load
n=$(nullb sp 64 max_sectors=8) || n=$(nullb sp2 64) || fail "null_blk"
d=$(disk virtio1)
fresh "$d"
echo 8 >"/sys/block/${d##*/}/queue/max_sectors_kb"
[ -e "/sys/block/${n##*/}/queue/max_sectors_kb" ] && echo 4 >"/sys/block/${n##*/}/queue/max_sectors_kb"
p=$(partition "$d")
modprobe dm-mod
ids="$(attach "$d" 1) $(attach "$n" 1)"
dmsetup create ebbstripe --table "0 65536 striped 2 16 $p 0 $n 65536" || fail "stripes"
dmsetup mknodes
replicate r 1 "$ids" --initial --interval 200 --compare
for i in 1 2 3; do
    dd if=/dev/urandom of="$n" bs=1M count=16 seek=$i oflag=direct conv=notrunc 2>/dev/null || fail "dd"
    dd if=/dev/urandom of="$p" bs=2M count=4 seek=$i oflag=direct conv=notrunc 2>/dev/null || fail "dd"
    dd if=/dev/urandom of=/dev/mapper/ebbstripe bs=4M count=4 seek=$i oflag=direct conv=notrunc 2>/dev/null ||
        fail "dd"
    dd if=/dev/urandom of="$n" bs=$((512 * 37)) count=20 seek=$((i * 7)) oflag=direct conv=notrunc 2>/dev/null
done
replica_good r 2
[ "$(disk_get "${ids%% *}" in_flight)" = 0 ] || fail "writes counted in flight for ever"
[ "$(disk_get "${ids##* }" in_flight)" = 0 ] || fail "writes counted in flight for ever"
[ "$(disk_get "${ids##* }" untracked_requests)" = 0 ] || fail "the witness saw writes that the hook did not"
finish() { dmsetup remove ebbstripe; rmdir /sys/kernel/config/nullb/sp 2>/dev/null; nullb_gone sp; nullb_gone sp2; }
dmsetup remove ebbstripe
detach_all
