# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# A dm disk that is tracked gets a zoned disk below it: the commands of zones are flagged, each anew.
n=$(nullb zb0 64) z=$(nullb zb1 64 zoned=1 zone_size=16) || skip "no zoned null_blk"
modprobe dm-mod
dmsetup create ebbzb --table "0 131072 linear $n 0" && dmsetup mknodes || fail "linear"
d=$(readlink -f /dev/mapper/ebbzb)
finish() {
    detach_all
    dmsetup remove ebbzb
    nullb_gone zb0
    nullb_gone zb1
    rmmod issue
}
load
id=$(attach "$d" 1)
ebbtest mark-all "$id"
dd if=/dev/urandom of="$d" bs=1M count=4 oflag=direct conv=notrunc 2>/dev/null || fail "write"
[ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged without reason"
dmsetup load ebbzb --table "0 131072 linear $z 0" && dmsetup suspend ebbzb && dmsetup resume ebbzb || skip "dm keeps its model"
grep -q host "/sys/dev/block/$(($(stat -Lc 0x%t "$d"))):$(($(stat -Lc 0x%T "$d")))/queue/zoned" || skip "dm is not zoned by that"
dd if=/dev/urandom of="$d" bs=64k seek=256 count=4 oflag=direct conv=notrunc 2>/dev/null || fail "sequential write"
insmod "$TESTKO/issue.ko" || fail "issue.ko"
append() { echo "append $(($(stat -c 0x%t "$d"))) $(($(stat -c 0x%T "$d"))) 65536 3" >/sys/module/issue/parameters/bio; }
for command in append "blkzone reset -o 32768 -c 1 $d" "blkzone finish -o 65536 -c 1 $d" "blkzone reset $d"; do
    ebbtest mark-all "$id"
    flagged "$id" 8 && fail "the flag stays after mark-all"
    $command || fail "$command"
    flagged "$id" 8 || fail "not flagged: $command"
done
ebbtest detach "$id"
refused EOPNOTSUPP ebbtest attach "$d" zoned 1
