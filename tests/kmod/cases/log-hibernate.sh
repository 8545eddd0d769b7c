# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# machine: own
# After a hibernation the disk's blocks are not known: its image was not tracked. (The kernel goes
# through the first steps of one and comes back.)
load log_cool_s=0
[ -w /sys/power/pm_test ] || skip "no /sys/power/pm_test"
d=$(nullb lh 64) || fail "null_blk"
m=$(disk virtio0)
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
ebbtest mark-all "$id"
is resync_reasons 0 || fail "reasons"
echo freezer >/sys/power/pm_test
echo disk >/sys/power/state || skip "no hibernation"
is resync_reasons 8192 || fail "reasons are $(disk_get "$id" resync_reasons)"
is log_state 1 || fail "the log is not active"
dd if=/dev/urandom of="$d" bs=4k count=1 seek=16000 oflag=direct conv=notrunc 2>/dev/null || fail "write"
finish() { nullb_gone lh; }
detach_all
