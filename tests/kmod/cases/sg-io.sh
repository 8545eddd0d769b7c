# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10 6.1 6.12
# SG_IO writes go past the bio hook: the second witness flags the disk; reads, inquiries, reservations
# and flushes flag nothing.
load
modprobe sg
d=$(disk scsi1)
fresh "$d"
id=$(attach "$d" 1)
ebbtest mark-all "$id"
for c in "sg_inq $d" "sg_readcap $d" "sg_turs $d" "sg_sync $d" "sg_vpd -p 0x83 $d" "sg_modes $d" \
    "sg_dd if=$d of=/dev/null bs=512 count=16 blk_sgio=1"; do
    $c >"$W/sg.out" 2>&1
    [ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by: $c"
done
dd if="$d" of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null
dd if=/dev/urandom of="$d" bs=1M count=4 oflag=direct 2>/dev/null
sync "$d"
[ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "flagged by plain reads and writes"
sg_dd if=/dev/urandom of="$d" bs=512 bpt=16 count=16 seek=4096 blk_sgio=1 >"$W/sg.out" 2>&1 || fail "sg_dd"
reasons=$(disk_get "$id" resync_reasons)
[ $((reasons & 4)) = 4 ] || fail "an SG_IO write was not flagged (reasons $reasons)"
ebbtest mark-all "$id"
[ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "the flag stays after mark-all"
sg_write_same --lba=8192 --num=8 --in=/dev/zero "$d" >"$W/sg.out" 2>&1 || sg_write_same -U --lba=8192 --num=8 "$d" >>"$W/sg.out" 2>&1
[ $(($(disk_get "$id" resync_reasons) & 4)) = 4 ] || fail "WRITE SAME was not flagged: $(cat "$W/sg.out")"
# The flag tells the truth: what mark-all takes back on is brought over.
replicate r 1 "$id" --initial --interval 200 --compare
replica_good r 1
