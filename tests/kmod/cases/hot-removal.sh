# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# machine: own
# The disk is pulled in the middle of a pass, under load: a named state, a void cut, the other disk
# goes on, and detach cleans up.
# The debug kernel runs without ACPI, and so without hot plug of PCI devices: there a SCSI target goes.
victim=virtio1
[ "$SLOW" = 0 ] || victim=scsi1
load
a=$(disk "$victim") b=$(nullb hr 32) || fail "null_blk"
ia=$(attach "$a" 1) ib=$(attach "$b" 1)
ebbtest mark-all "$ia"
ebbtest mark-all "$ib"
(printf 'pass-begin frozen 1\n'; for _ in $(seq 1 600); do printf 'sleep 200\npass-get 1\n'; done) |
    ebbtest script >"$W/s.out" 2>&1 &
background+=($!)
stamper --tickets "$TICKETS" --disk "$a@0+2000" --engine direct --writers 1 --seconds 60 >"$W/w1.out" 2>&1 &
background+=($!)
stamp w --disk "$b@0+2000" --engine mixed --writers 2 --seconds 6
sleep 1
echo "HOST: unplug $victim"
wait_for 30 [ ! -e "/sys/block/${a##*/}" ] || say "the kernel still lists the disk"
gone() { [ "$(disk_get "$ia" state)" = 1 ]; }
wait_for 30 gone || fail "the disk is not known to be gone"
# Whichever is seen first: that it went, or that a block of it could not be preserved.
wait_for 10 grep -qE '"void_name":"(disk-gone|preserve-error)"' "$W/s.out" || fail "the pass is not void: $(tail -2 "$W/s.out")"
stamped w
[ $(($(disk_get "$ia" resync_reasons) & 128)) = 128 ] || fail "no reason is named"
expect "detach of what is gone" ebbtest detach "$ia"
kill %1 2>/dev/null
ebbtest abandon 1
replicate r 1 "$ib" --compare --initial
replica_good r 1
finish() { nullb_gone hr; }
detach_all
