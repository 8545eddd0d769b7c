# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Image devices are twins of disks in use. With the product's udev rules nothing looks into one while
# a pass makes it readable: no label, no link of it, no second physical volume.
# However long udev and LVM take: the pass lasts as long as its socket.
load owner_timeout_ms=600000
d=$(disk virtio0) p=$(disk scsi0)
fresh "$d"
fresh "$p"
mkfs.ext4 -q -L ebbtwin "$d" || fail "mkfs"
pvcreate -qq "$p" || fail "pvcreate"
mkdir -p /run/udev/rules.d
cp /ebb/udev/60-ebb.rules /run/udev/rules.d/
pgrep -x systemd-udevd >/dev/null || /lib/systemd/systemd-udevd --daemon || fail "udevd"
udevd=$(pgrep -xo systemd-udevd)
finish() {
    rm -f /run/udev/rules.d/60-ebb.rules
    kill "$udevd"
    rm -rf /run/udev/data
    wipefs -qa "$p" "$d"
}
ids="$(attach "$d" 1) $(attach "$p" 1)" || fail "attach"
coproc EBB { ebbtest script; }
must pass-begin whole 1
ready() { ebbtest pass-get 1 | grep -q '"state_name":"ready"'; }
wait_for 60 ready || fail "no pass"
images=
for id in $ids; do images="$images $(image_of "$id")"; done
for i in $images; do
    dd if="$i" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || fail "$i cannot be read: the test proves nothing"
done
udevadm trigger --action=add --subsystem-match=block || fail "trigger"
udevadm settle --timeout=60 || fail "settle"
udevadm info -q property "$d" >"$W/disk.out"
grep -q '^ID_FS_LABEL=ebbtwin' "$W/disk.out" || fail "udev did not look into the disk either: $(cat "$W/disk.out")"
for i in $images; do
    udevadm info -q property "$i" >"$W/image.out"
    grep -q '^SYSTEMD_READY=0' "$W/image.out" || fail "$i is ready for systemd: $(cat "$W/image.out")"
    grep -qE '^ID_FS_[A-Z_]+=.' "$W/image.out" && fail "udev looked into $i: $(cat "$W/image.out")"
    find /dev/disk -lname "*/${i##*/}" 2>/dev/null | grep -q . && fail "a link to $i"
    [ "$(stat -c '%a %U' "$i")" = "600 root" ] || fail "$i: $(stat -c '%a %U' "$i")"
done
[ "$(readlink -f /dev/disk/by-label/ebbtwin)" = "$d" ] || fail "by-label is not the disk"
pvs --noheadings -o pv_name >"$W/pvs.out" 2>&1 || fail "pvs"
[ "$(tr -d ' ' <"$W/pvs.out")" = "$p" ] || fail "LVM sees more than the disk: $(cat "$W/pvs.out")"
ready || fail "the pass was over in the meantime: the test proves nothing"
must abandon 1
hang_up
# What udev still has open cannot be detached.
udevadm settle --timeout=60 || fail "settle"
kill "$udevd"
wait_for 60 test ! -d "/proc/$udevd" || fail "udevd goes on"
unload
