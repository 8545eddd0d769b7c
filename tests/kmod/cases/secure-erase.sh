# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# not on 5.10: the test's disk is for kernels since 5.14
# Secure erasure, which a disk of the test's own module offers, between writes of every kind: an erased block is
# tracked and named as discarded, and the replica is equal.
insmod "$TESTKO/erasable.ko" mib=24 || skip "no disk that erases"
finish() { rmmod erasable; }
wait_for 5 test -b /dev/erasable || fail "no disk"
load
id=$(attach /dev/erasable 1)
replicate r 1 "$id" --initial --interval 50 --depth 8 --slow-us 1000 --compare
mix w --disk /dev/erasable --discard-zeroes --need secure,discard,zeroout,punch,zero,subblock,direct
stamped_until w cuts r 5
say "$(cat "$W/w.mixer.out")"
done_by_mixer() { grep -o "\"$1\":[0-9]*" "$W/w.mixer.out" | cut -d: -f2; }
erased=$(($(done_by_mixer discard) + $(done_by_mixer secure)))
[ "$(disk_get "$id" discards)" -ge "$erased" ] || fail "of $erased erasures not all were counted"
replica_good r 4
seen "$id"
exact r
detach_all
