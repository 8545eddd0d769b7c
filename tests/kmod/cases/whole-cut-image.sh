# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# A whole cut gives the whole disk as of the cut while writers go on: the image read in it equals the
# replica that epochs have made.
grep -q EBB_PASS_F_WHOLE /ebb/include/uapi/linux/ebb.h || skip "the interface has no whole cuts"
load pool_bytes=67108864
d=$(nullb whole 16) || fail "null_blk"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 200 --whole-every 2 --compare --log "$W/r.cuts" \
    --tickets "$TICKETS"
stamp w --disk "$d@0+3000" --engine mixed --writers 2 --rate 600
stamped_until w cuts r 6
replica_good r 4
judge r
[ "$(field wholes <"$W/r.json")" -ge 2 ] || fail "no whole cut was compared"
finish() { nullb_gone whole; }
detach_all
