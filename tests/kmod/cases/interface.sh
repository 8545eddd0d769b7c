# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10 6.12 sid
# The commands' refusals, states and counters; no pass is entered by what must not enter it.
load
d=$(disk virtio0)
fresh "$d"
p=$(partition "$d")
[ "$(ebbtest info | field block_sectors)" = 8 ] || fail "info"
refused EINVAL ebbtest attach "$p" part 1
refused EINVAL ebbtest attach "$d" "" 1
refused ENOENT ebbtest get 999
refused ENOENT ebbtest pass-begin frozen 7
id=$(attach "$d" 1) || fail "attach"
refused EEXIST ebbtest attach "$d" again 1
image=$(image_of "$id")
[ -b "$image" ] || fail "no image device"
# Nobody without privilege: neither the commands nor the image.
refused EPERM setpriv --reuid 65534 --regid 65534 --clear-groups ebbtest info
refused EPERM setpriv --reuid 65534 --regid 65534 --clear-groups ebbtest mark-all "$id"
refused EPERM setpriv --bounding-set -sys_admin ebbtest confirm 1
refused EPERM setpriv --bounding-set -sys_admin ebbtest list
# No number of a device wraps round to another's.
number=$(stat -c '%t %T' "$d")
refused ENODEV ebbtest attach $(((0x${number% *} + 4096) << 32 | 0x${number#* })) wrapped 1
setpriv --reuid 65534 --regid 65534 --clear-groups dd if="$image" of=/dev/null count=1 2>/dev/null &&
    fail "anybody may open the image"
refused EOPNOTSUPP ebbtest attach "$image" img 1
dd if=/dev/zero of="$image" bs=4096 count=1 oflag=direct 2>/dev/null && fail "the image was written to"
# A fresh disk says that it knows nothing of its past.
[ $(($(disk_get "$id" resync_reasons) & 1)) = 1 ] || fail "NEW is not set"
expect "mark-all" ebbtest mark-all "$id"
[ "$(disk_get "$id" resync_reasons)" = 0 ] || fail "still resync required"
blocks=$(($(blockdev --getsz "$d") / 8))
[ "$(disk_get "$id" dirty_blocks)" = "$blocks" ] || fail "not all blocks are dirty"
rmmod ebb 2>/dev/null && fail "the module left with a disk attached"
ebbtest script >"$W/s.out" 2>&1 <<SCRIPT
pass-begin live 1
pass-begin frozen 1
attach $(disk virtio1) other 1
confirm 1
end 1
abandon 1
pass-begin frozen 1
abandon 1
SCRIPT
say "$(tr '\n' ' ' <"$W/s.out")"
[ "$(grep -c EBUSY "$W/s.out")" -ge 3 ] || fail "a second pass, an attach or a confirm during a pass"
[ "$(disk_get "$id" dirty_blocks)" = "$blocks" ] || fail "abandon did not put everything back"
# A note outlives whoever left it, passes and confirmations, and is of the group; it goes with that.
[ -z "$(disk_get "$id" note)" ] || fail "a note that nobody left"
printf 'pass-begin live 1\nnote 1 first\nnote 1 another\n' | ebbtest script >"$W/n.out" 2>&1
[ "$(disk_get "$id" note)" = 616e6f74686572 ] || fail "the note is $(disk_get "$id" note)"
expect "abandon" ebbtest abandon 1
expect "confirm" ebbtest confirm 1
[ "$(disk_get "$id" note)" = 616e6f74686572 ] || fail "the note is $(disk_get "$id" note)"
printf -v long %0256d 7
expect "the longest note" ebbtest note 1 "$long"
disk_get "$id" note | grep -q '37$' || fail "the longest note is $(disk_get "$id" note)"
ebbtest note 1 "${long}8" 2>/dev/null && fail "a note of 257 bytes"
refused ENOENT ebbtest note 7 nobody
expect "no note" ebbtest note 1
[ -z "$(disk_get "$id" note)" ] || fail "a note that was taken off"
