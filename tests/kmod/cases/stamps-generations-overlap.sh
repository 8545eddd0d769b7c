# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# Writes take 20 to 60 ms (dm-delay), cuts follow each other fast: generations overlap, a cut must
# wait for its own writes and for no others, differently on each disk.
load hold_deadline_ms=8000
n1=$(nullb ov1 32) n2=$(nullb ov2 32) || fail "null_blk"
a=$(delay ebbslow "$n1" 0 20) b=$(delay ebbslower "$n2" 0 60) || fail "dm-delay"
ids="$(attach "$a" 1) $(attach "$b" 1)"
replicate r 1 "$ids" --initial --interval 30 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp w --disk "$a@0+1000" --disk "$b@0+1000" --engine aio --batch 8 --writers 4
stamped_until w cuts r 8
replica_good r 8
judge r
finish() { dmsetup remove ebbslow; dmsetup remove ebbslower; nullb_gone ov1; nullb_gone ov2; }
detach_all
