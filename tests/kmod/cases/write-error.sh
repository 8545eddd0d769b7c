# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# A write that fails stays dirty, and is counted; the disk goes on being tracked.
modprobe dm-flakey || skip "no dm-flakey"
load
n=$(nullb we 32) || fail "null_blk"
dmsetup create ebbwe --table "0 65536 flakey $n 0 3600 0" && dmsetup mknodes
d=$(readlink -f /dev/mapper/ebbwe)
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --cuts 1 --interval 10
wait "$pid_r" || fail "first replicator"
dmsetup suspend ebbwe && dmsetup load ebbwe --table "0 65536 flakey $n 0 0 3600 1 error_writes" && dmsetup resume ebbwe
dd if=/dev/urandom of="$d" bs=4k count=8 oflag=direct conv=notrunc 2>/dev/null && fail "the write did not fail"
dmsetup suspend ebbwe && dmsetup load ebbwe --table "0 65536 flakey $n 0 3600 0" && dmsetup resume ebbwe
[ "$(disk_get "$id" write_errors)" -ge 1 ] || fail "the error was not counted"
[ "$(disk_get "$id" dirty_blocks)" -ge 1 ] || fail "the failed block is clean"
finish() { dmsetup remove ebbwe; nullb_gone we; }
detach_all
dmsetup remove ebbwe
