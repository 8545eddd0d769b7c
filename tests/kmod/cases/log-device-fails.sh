# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# The map device fails under load: writes go on at once, the log is given up by name, nothing that was
# tracked is lost; marking everything makes the map anew once the device works again.
load log_cool_s=0

# A part of the area alone fails: the rest says so before the write that found out goes on.
p=$(nullb lp 64) && q=$(nullb lq 16) || fail "null_blk"
part=$(attach_logged "$p" 2 "$q" 0 create) || fail "attach"
sector() { dd if="$q" bs=512 skip="$1" count=1 iflag=direct 2>/dev/null; }
number() { sector "$1" | od -An -tu8 -j8 -N8 | tr -d ' '; }
state() { sector "$1" | od -An -tu4 -j28 -N4 | tr -d ' '; }
# Both slots of the log block, and that of the superblock that is written next.
older=0
[ "$(number 8)" -gt "$(number 0)" ] || older=8
echo "+16-31" >/sys/kernel/config/nullb/lq/badblocks
echo "+$older-$((older + 7))" >/sys/kernel/config/nullb/lq/badblocks
dd if=/dev/urandom of="$p" bs=4k count=1 seek=16000 oflag=direct conv=notrunc 2>/dev/null || fail "a write failed"
[ "$(state $((8 - older)))" = 4 ] || fail "the area does not say that its log failed"
[ "$(disk_get "$part" log_state)" = 2 ] || fail "a log that cannot be written is used"
expect "detach" ebbtest detach "$part"
nullb_gone lp
nullb_gone lq

d=$(nullb lf 64) || fail "null_blk"
m=$(disk scsi0)
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
cold() { ebbtest confirm 1 && is hot_regions 0; }
all_cold() { # all is replicated, and its regions are cold
    ebbtest mark-all "$id"
    replicate "$1" 1 "$id" --cuts 1
    wait "$pid_r" || fail "replicator"
    wait_for 20 cold || fail "regions do not go cold"
}
all_cold r
uuid=$(disk_get "$id" map_uuid)
# It listens until it is killed: what is to come may take long to begin.
ebbtest events 3600000 >"$W/events.out" 2>&1 &
background+=($!)
wait_for 10 grep -q subscribed "$W/events.out" || fail "no events"
stamp w --disk "$d@0+8000" --engine mixed --writers 3
replicate q 1 "$id" --interval 200 --compare
echo offline >"/sys/block/${m##*/}/device/state"
dd if=/dev/urandom of="$d" bs=4k count=1 seek=16000 oflag=direct conv=notrunc 2>/dev/null || fail "a write failed"
is log_state 2 || fail "the log is not given up"
is resync_reasons 2048 || fail "reasons are $(disk_get "$id" resync_reasons)"
wait_for 5 grep -q '"resync_reasons":2048' "$W/events.out" || fail "no event says so"
stamped_until w cuts q 4
replica_good q 4
# Still down: marking everything clears nothing.
ebbtest mark-all "$id"
is log_state 2 || fail "active without a device"
is resync_reasons 2048 || fail "the reason has gone"
echo running >"/sys/block/${m##*/}/device/state"
# The area says so as soon as it can be written: a cookie tries.
ebbtest confirm 1 cookie
dd if="$m" bs=4k count=2 iflag=direct 2>/dev/null | od -An -tx4 -j28 -N4 | grep -q 00000004 ||
    dd if="$m" bs=4k count=2 iflag=direct 2>/dev/null | od -An -tx4 -j4124 -N4 | grep -q 00000004 ||
    fail "the area does not say that the log failed"
ebbtest mark-all "$id"
is log_state 1 || fail "the map is not made anew"
is resync_reasons 0 || fail "reasons are $(disk_get "$id" resync_reasons)"
[ "$(disk_get "$id" map_uuid)" != "$uuid" ] || fail "the map is the old one"
all_cold r
held=$(disk_get "$id" log_held)
dd if=/dev/urandom of="$d" bs=4k count=1 seek=16000 oflag=direct conv=notrunc 2>/dev/null || fail "a write failed"
is log_held $((held + 1)) || fail "the log is not used again"
# A confirmation that cannot be noted is one all the same.
echo offline >"/sys/block/${m##*/}/device/state"
expect "confirm" ebbtest confirm 1 cookie
is log_state 2 || fail "the log is not given up by a confirmation"
finish() {
    echo running >"/sys/block/${m##*/}/device/state"
    nullb_gone lf
}
detach_all
