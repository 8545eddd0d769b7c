# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# A command past the hook is flagged when it is issued, and may take its time. The flag is taken back by
# MARK_ALL only when the command is over: else the pass that is begun then could read before it.
load
modprobe scsi_debug dev_size_mb=16 delay=0 || fail "scsi_debug"
modprobe sg
finish() { rmmod scsi_debug; }
there() { d=$(grep -l scsi_debug /sys/block/sd*/device/model) && d=/dev/$(echo "$d" | cut -d/ -f4) && [ -b "$d" ]; }
wait_for 20 there || fail "no disk of scsi_debug"
id=$(attach "$d" 1)
expect "mark-all" ebbtest mark-all "$id"
of() { echo $(($(cat "/sys/block/${d##*/}/device/$1"))); }
idle() { [ "$(of iorequest_cnt)" = "$(of iodone_cnt)" ]; }
wait_for 20 idle || fail "the disk is busy"
tried=0
# On a busy machine even a slow write may be over before we come to ask.
for ticks in 1000 2000 4000 6500; do # of the kernel's timer, 250 a second
    echo $ticks >/sys/bus/pseudo/drivers/scsi_debug/delay || fail "no delay"
    sg_dd if=/dev/urandom of="$d" bs=512 bpt=8 count=8 seek=512 blk_sgio=1 >"$W/sg.out" 2>&1 &
    writer=$!
    background+=("$writer")
    wait_for 40 flagged "$id" 4 || fail "the write was not flagged"
    # All that was sent by now, the write among it, is to be over when the flag is taken back.
    sent=$(of iorequest_cnt)
    if ! idle; then
        expect "mark-all" ebbtest mark-all "$id"
        [ "$(of iodone_cnt)" -ge "$sent" ] || fail "the flag was taken back with the write on its way"
        tried=1
    fi
    wait "$writer" || fail "sg_dd: $(cat "$W/sg.out")"
    echo 0 >/sys/bus/pseudo/drivers/scsi_debug/delay || fail "no delay"
    expect "mark-all" ebbtest mark-all "$id"
    [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged, with nothing on its way"
    if [ $tried = 1 ]; then break; fi
done
[ $tried = 1 ] || fail "each write was over too soon"
replicate r 1 "$id" --initial --compare
replica_good r 1
detach_all
