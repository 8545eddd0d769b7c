# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: trixie 6.12
# Somebody else diverts submit_bio_noacct, as a live patch of it would: the module does not load, and
# says why; once it is loaded, nobody else can.
finish() { rmmod divert; }
insmod "$TESTKO/divert.ko" || fail "divert"
insmod "$KO" 2>"$W/i.out" && fail "loaded beside another diversion"
grep -qi busy "$W/i.out" || fail "not EBUSY: $(cat "$W/i.out")"
dmesg | tail -n 20 | grep -q 'ebb: submit_bio_noacct is already diverted' || fail "the log does not say why"
[ ! -d /sys/module/ebb ] || fail "half loaded"
rmmod divert || fail "rmmod divert"
load
d=$(nullb dv 16) || fail "null_blk"
id=$(attach "$d" 1) || fail "attach"
insmod "$TESTKO/divert.ko" 2>"$W/i.out" && fail "the interception was taken over"
dd if=/dev/urandom of="$d" bs=4k count=3 oflag=direct conv=notrunc 2>/dev/null
[ "$(disk_get "$id" dirty_blocks)" = 3 ] || fail "writes are not seen any more"
finish() { nullb_gone dv; }
detach_all
