# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# A SCSI disk that comes and goes while a dm device is tracked: what its driver asks it flags nothing, since nothing is
# stacked on it yet; a command that writes to it, once it is there, does.
modprobe -a sg dm-mod scsi_mod sd_mod
modprobe scsi_debug dev_size_mb=8 add_host=0 || skip "no scsi_debug"
load
n=$(nullb ha 32) || fail "null_blk"
dmsetup create ebbha --table "0 65536 linear $n 0" && dmsetup mknodes
d=$(readlink -f /dev/mapper/ebbha)
id=$(attach "$d" 1)
ebbtest mark-all "$id"
finish() { dmsetup remove ebbha; nullb_gone ha; }
driver=/sys/bus/pseudo/drivers/scsi_debug
found() { ls -d $driver/adapter*/host*/target*/*/block/* >/dev/null 2>&1; }
for _ in 1 2 3; do
    echo 1 >$driver/add_host || fail "add_host"
    wait_for 30 found || fail "no disk came"
    s=/dev/$(ls -d $driver/adapter*/host*/target*/*/block/* | sed 's,.*/,,')
    wait_for 30 test -b "$s" || fail "no $s"
    [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by a disk that was added"
    echo 1 >"/sys/block/${s##*/}/device/delete"
    [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by a disk that was removed"
    echo -1 >$driver/add_host || fail "remove the host"
done
echo 1 >$driver/add_host || fail "add_host"
wait_for 30 found || fail "no disk came"
s=/dev/$(ls -d $driver/adapter*/host*/target*/*/block/* | sed 's,.*/,,')
wait_for 30 test -b "$s" || fail "no $s"
sg_dd if=/dev/urandom of="$s" bs=512 bpt=8 count=8 seek=2048 blk_sgio=1 >"$W/dd.out" 2>&1 || fail "sg_dd: $(cat "$W/dd.out")"
flagged "$id" 4 || fail "a command that writes was not flagged"
detach_all
echo -1 >$driver/add_host
rmmod scsi_debug || fail "rmmod scsi_debug"
finish
