# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# A tracked dm disk above a tracked disk: each write is in flight in both; drains are per disk, nothing
# waits for itself, and both replicas are right.
load
n=$(nullb st 32) || fail "null_blk"
modprobe dm-mod
dmsetup create ebbst --table "0 65536 linear $n 0" && dmsetup mknodes
d=$(readlink -f /dev/mapper/ebbst)
ids="$(attach "$n" 1) $(attach "$d" 1)"
replicate r 1 "$ids" --initial --interval 50 --depth 8 --slow-us 1000 --compare
stamp w --disk "$d@0+4000" --engine mixed --writers 3 --rate 1500
stamped_until w cuts r 3
replica_good r 3
finish() { dmsetup remove ebbst; nullb_gone st; }
detach_all
dmsetup remove ebbst
