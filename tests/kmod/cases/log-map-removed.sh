# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# machine: own
# The map device is pulled, under load: the log is given up by name, the disk goes on being tracked;
# detach and unload leave nothing behind.
# The debug kernel runs without ACPI, and so without hot plug of PCI devices: there a SCSI target goes.
victim=virtio1
[ "$SLOW" = 0 ] || victim=scsi1
load log_cool_s=0
d=$(nullb lr 64) || fail "null_blk"
m=$(disk "$victim")
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
stamp w --disk "$d@0+8000" --engine mixed --writers 2
replicate r 1 "$id" --initial --interval 200 --compare
echo "HOST: unplug $victim"
wait_for 30 [ ! -e "/sys/block/${m##*/}" ] || say "the kernel still lists the disk"
failed() {
    dd if=/dev/urandom of="$d" bs=4k count=1 seek=$((8000 + RANDOM % 8000)) oflag=direct conv=notrunc 2>/dev/null
    ebbtest confirm 1 cookie
    [ "$(disk_get "$id" log_state)" = 2 ]
}
wait_for 30 failed || fail "the log is not given up"
stamped_until w cuts r 4
replica_good r 4
expect "detach" ebbtest detach "$id"
finish() { nullb_gone lr; }
detach_all
