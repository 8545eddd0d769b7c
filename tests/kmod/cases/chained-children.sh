# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12 sid
# Children of chains: a large discard or write above dm stripes above null_blk reaches tracked disks
# as chained and as cloned bios; flush bios carry no data and count for nothing.
load
a=$(nullb ch1 32) b=$(nullb ch2 32) || fail "null_blk"
modprobe dm-mod
dmsetup create ebbch --table "0 131072 striped 2 8 $a 0 $b 0" || fail "stripes"
dmsetup mknodes
c=$(readlink -f /dev/mapper/ebbch)
ids="$(attach "$a" 1) $(attach "$b" 1)"
replicate r 1 "$ids" --initial --interval 100 --compare
for i in 0 1 2 3 4 5; do
    dd if=/dev/urandom of="$c" bs=8M count=2 seek=$i oflag=direct,sync conv=notrunc 2>/dev/null || fail "dd"
    blkdiscard -o $((i * 8388608)) -l 4194304 "$c" || fail "discard"
    blkdiscard -z -o $((i * 8388608 + 4194304)) -l 2097152 "$c" || fail "zero"
    blockdev --flushbufs "$c"
done
replica_good r 2
for id in $ids; do
    [ "$(disk_get "$id" in_flight)" = 0 ] || fail "in flight for ever"
    [ "$(disk_get "$id" untracked_requests)" = 0 ] || fail "the witness saw what the hook did not"
done
finish() { dmsetup remove ebbch; nullb_gone ch1; nullb_gone ch2; }
dmsetup remove ebbch
detach_all
