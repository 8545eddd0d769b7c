# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Bios that only the kernel sends: writes that are children of each other, or all of one; PREFLUSH and FUA with
# data. Each completes once, all are tracked, on a partition too.
insmod "$TESTKO/issue.ko" || fail "issue.ko"
v=$(disk virtio0) s=$(disk scsi1) n=$(nullb bi 32 cache_size=4) || n=$(nullb bi1 32) || fail "null_blk"
finish() {
    rmmod issue
    nullb_gone bi
    nullb_gone bi1
}
p=$(partition "$s")
load
ids="$(attach "$v" 1) $(attach "$s" 1) $(attach "$n" 1)"
replicate r 1 "$ids" --initial --interval 30 --depth 8 --slow-us 2000 --compare
mix w --disk "$v@0+8388608" --disk "$n@0+8388608" --discard-zeroes --rate 200
bio() { # bio WHAT DEVICE SECTOR COUNT
    echo "$1 $(($(stat -c 0x%t "$2"))) $(($(stat -c 0x%T "$2"))) $3 $4" >/sys/module/issue/parameters/bio || fail "$*"
}
sent=0
# Each flush is one of the host's: there are fewer of these.
for round in chain:1 tree:2 flushed:1 chain:17 tree:64 flushed:9 chain:64 tree:17 flushed:17; do
    count=${round#*:}
    for d in $v $p $n; do
        bio "${round%:*}" "$d" $((20000 + (RANDOM % 40) * 64 + RANDOM % 9)) "$count"
        sent=$((sent + count))
    done
    say "$round: $sent pages"
done
stamped_until w cuts r 4
say "$sent pages in bios of our own; held $(disk_get "${ids##* }" held)"
replica_good r 3
# shellcheck disable=SC2086
seen $ids
