# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: trixie 6.1 6.12 sid
# One discard that becomes a chain of more than 10,000 bios completing out of order: no recursion, no
# trap in bio_chain_endio, nothing left in flight, every block marked, and cuts taken in between.
modprobe scsi_debug delay=0 ndelay=200000 dev_size_mb=64 lbpu=1 lbpws=1 unmap_max_blocks=8 \
    unmap_granularity=1 unmap_max_desc=1 sector_size=512 random=1 max_queue=64 2>/dev/null ||
    modprobe scsi_debug delay=0 ndelay=200000 dev_size_mb=64 lbpu=1 unmap_max_blocks=8 unmap_max_desc=1 ||
    fail "scsi_debug"
find_sdd() { s=$(grep -l scsi_debug /sys/block/sd*/device/model | head -1) && [ -n "$s" ]; }
wait_for 20 find_sdd || fail "no scsi_debug disk"
s=/dev/$(echo "$s" | cut -d/ -f4)
say "discard_max_bytes $(cat "/sys/block/${s##*/}/queue/discard_max_bytes")"
load
id=$(attach "$s" 1) || fail "attach"
dd if=/dev/urandom of="$s" bs=1M count=48 oflag=direct 2>/dev/null
replicate r 1 "$id" --initial --interval 300 --compare
before=$(disk_get "$id" discards)
(blkdiscard -o 0 -l 41943040 "$s"; echo ended >"$W/discarded") &
background+=($!)
dd if=/dev/urandom of="$s" bs=64k count=32 seek=700 oflag=direct conv=notrunc 2>/dev/null
wait_for 80 test -e "$W/discarded" || fail "the discard did not end"
say "discards $(($(disk_get "$id" discards) - before)), in flight $(disk_get "$id" in_flight)"
landed() { [ "$(disk_get "$id" in_flight)" = 0 ]; }
wait_for 20 landed || fail "in flight for ever"
replica_good r 1
finish() { rmmod scsi_debug; }
detach_all
