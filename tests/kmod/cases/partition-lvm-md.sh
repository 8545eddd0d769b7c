# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# Writes through a partition, LVM on two disks and md raid1, as filesystems and databases reach disks.
load
v=$(disk virtio0) s0=$(disk scsi0) s1=$(disk scsi1) l0=$(disk virtio1) l1=$(nullb pm 64) || fail "disks"
for d in $v $s0 $s1 $l0 $l1; do fresh "$d"; done
p=$(partition "$v")
modprobe dm-mod
modprobe raid1
vgcreate -qq ebbvg "$s0" "$s1" || fail vgcreate
lvcreate -qq -y -i 2 -L 48M -n lv ebbvg || fail lvcreate
mdadm --create /dev/md7 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean "$l0" "$l1" \
    >"$W/md.out" 2>&1 || fail "mdadm"
finish() {
    detach_all
    vgremove -qq -y ebbvg
    mdadm --stop /dev/md7
    wipefs -qa "$s0" "$s1" "$l0"
    nullb_gone pm
}
ids=
for d in $v $s0 $s1 $l0 $l1; do ids="$ids $(attach "$d" 1)"; done
# Named after the fact: disk numbers of the replica are its own, stamps are compared at the devices.
replicate r 1 "$ids" --initial --interval 400 --compare
stamp w --disk "$p@0+6000" --disk /dev/ebbvg/lv@0+6000 --disk /dev/md7@0+6000 --engine mixed \
    --writers 2 --seconds "$(seconds 8)" --rate 1500
mkfs.ext4 -q /dev/ebbvg/lv -b 4096 -E lazy_itable_init=0 2>/dev/null
stamped w
echo check >/sys/block/md7/md/sync_action
wait_for 30 grep -q idle /sys/block/md7/md/sync_action
blkdiscard -o 4M -l 4M "$p"
blkdiscard -z -o 8M -l 4M /dev/ebbvg/lv
blkdiscard -o 16M -l 4M /dev/ebbvg/lv
sync
replica_good r 3
vgchange -qq -an ebbvg
mdadm --stop /dev/md7 >/dev/null 2>&1
detach_all
