# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# Request-based multipath: its member gets requests whose bios never came by the hook. The second
# witness flags the member with the first write; reads flag nothing. The multipath device itself is
# tracked as any other.
modprobe dm-multipath || skip "no dm-multipath"
modprobe dm-round-robin
load
m=$(disk scsi0)
fresh "$m"
dmsetup create ebbmp --table "0 $(blockdev --getsz "$m") multipath 0 0 1 1 round-robin 0 1 1 $m 1000" || fail "multipath"
dmsetup mknodes
d=$(readlink -f /dev/mapper/ebbmp)
finish() { detach_all; dmsetup remove ebbmp; }
id=$(attach "$m" 1) || fail "attach"
ebbtest mark-all "$id"
dd if="$d" of=/dev/null bs=64k count=8 iflag=direct 2>/dev/null || fail "read"
[ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by a read"
dd if=/dev/urandom of="$d" bs=4k count=1 seek=9000 oflag=direct conv=notrunc 2>/dev/null || fail "write"
[ $(($(disk_get "$id" resync_reasons) & 2)) = 2 ] || fail "a write past the hook was not flagged"
[ "$(disk_get "$id" untracked_requests)" -ge 1 ] || fail "it was not counted"
ebbtest detach "$id"
id=$(attach "$d" 1) || fail "attach of the multipath device"
replicate r 1 "$id" --initial --interval 100 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp w --disk "$d@0+4000" --engine mixed --writers 2 --rate 800
stamped_until w cuts r 3
replica_good r 2
judge r
[ $(($(disk_get "$id" resync_reasons) & 2)) = 0 ] || fail "the witness does not know the device's own bios"
sg_dd if=/dev/urandom of="$d" bs=512 bpt=8 count=8 seek=4096 blk_sgio=1 >"$W/sg.out" 2>&1 || fail "SG_IO: $(cat "$W/sg.out")"
flagged "$id" 4 || fail "SG_IO through the multipath device was not flagged"
detach_all
dmsetup remove ebbmp
# Multipath that works with bios: what reaches the member came by the hook, and nothing is flagged.
dmsetup create ebbmp --table "0 $(blockdev --getsz "$m") multipath 2 queue_mode bio 0 1 1 round-robin 0 1 1 $m 1000" ||
    fail "multipath of bios"
dmsetup mknodes
ids="$(attach "$m" 1) $(attach "$(readlink -f /dev/mapper/ebbmp)" 1)"
replicate b 1 "$ids" --initial --interval 100 --compare
mix x --disk "$(readlink -f /dev/mapper/ebbmp)" --operations 200 --discard-zeroes --need direct,subblock,uring
stamped x
replica_good b 1
# shellcheck disable=SC2086
seen $ids
detach_all
