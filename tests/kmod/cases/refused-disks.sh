# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# What bypasses bios or cannot be cut is refused: zoned disks, and memory that is mapped (DAX).
load
modprobe nd_e820 && modprobe nd_pmem || fail "no pmem driver"
wait_for 20 test -b /dev/pmem0 || fail "no persistent memory"
refused EOPNOTSUPP ebbtest attach /dev/pmem0 pmem 1
ebbtest attach /dev/pmem0 pmem 1 2>&1 | grep -q DAX || fail "it does not say why"
z=$(nullb zn 64 zoned=1 zone_size=16)
finish() { nullb_gone zn; }
[ -n "$z" ] || skip "no zoned null_blk"
refused EOPNOTSUPP ebbtest attach "$z" zoned 1
ebbtest attach "$z" zoned 1 2>&1 | grep -q zoned || fail "it does not say why"
[ -z "$(ebbtest list)" ] || fail "something is attached"
