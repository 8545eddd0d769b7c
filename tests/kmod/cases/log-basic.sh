# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1 debug
# A write to a cold region waits for the log and then goes on; regions cool after confirmations and
# heat again; what user space marks is hot; a detach is a declared gap; cookie and boots are kept.
load log_cool_s=0
d=$(nullb lb 64) || fail "null_blk"
m=$(disk virtio0)
refused ENOSPC ebbtest attach "$d" "id-${d##*/}" 1 "$m" 0 16 create
refused ERANGE ebbtest attach "$d" "id-${d##*/}" 1 "$m" 4 4096 create
refused EOPNOTSUPP ebbtest attach "$d" "id-${d##*/}" 1 "$d" 0 4096 create
modprobe dm-mod
b=$(disk virtio1)
dmsetup create hold --table "0 $(blockdev --getsz "$b") linear $b 0" && dmsetup mknodes || fail "dmsetup"
refused EBUSY ebbtest attach "$d" "id-${d##*/}" 1 "$b" 0 4096 create
refused EOPNOTSUPP ebbtest attach "$d" "id-${d##*/}" 1 "$(readlink -f /dev/mapper/hold)" 0 4096 create
dmsetup remove hold
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
value() { # value NAME WANT WHAT
    local got
    got=$(disk_get "$id" "$1")
    [ "$got" = "$2" ] || fail "$3: $1 is $got, should be $2"
}
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
value log_state 1 "attached"
value recovery 0 "attached"
value resync_reasons 1 "attached"
value hot_regions 0 "attached"
value region_sectors 2048 "attached"
uuid=$(disk_get "$id" map_uuid)
ebbtest mark-all "$id"
value resync_reasons 0 "marked"
value hot_regions 64 "marked"
replicate r 1 "$id" --cuts 1
wait "$pid_r" || fail "first replicator"
value dirty_blocks 0 "replicated"
# Two looks without a mark, each after a confirmation: cold.
ebbtest confirm 1
cold() { ebbtest confirm 1 && is hot_regions 0; }
wait_for 10 cold || fail "regions do not go cold: $(disk_get "$id" hot_regions)"
held=$(disk_get "$id" log_held)
dd if=/dev/urandom of="$d" bs=4k count=1 seek=256 oflag=direct conv=notrunc 2>/dev/null || fail "write"
value hot_regions 1 "one block written"
value log_held $((held + 1)) "one block written"
dd if=/dev/urandom of="$d" bs=4k count=1 seek=257 oflag=direct conv=notrunc 2>/dev/null || fail "write"
value log_held $((held + 1)) "its neighbour written"
value dirty_blocks 2 "two blocks written"
cold
cold
value hot_regions 1 "a dirty region"
expect "mark" ebbtest mark "$id" 20480 8
value hot_regions 2 "marked a block"
expect "discard" blkdiscard -o 33554432 -l 8388608 "$d"
value hot_regions 10 "a discard"
# The confirmation of an epoch leaves its cookie.
printf -v cookie %064d 42
expect "confirm" ebbtest confirm 1 "$cookie"
disk_get "$id" cookie | grep -q 3432 || fail "the cookie is $(disk_get "$id" cookie)"
printf 'pass-begin live 1\ncookie 1 another\nabandon 1\n' | ebbtest script >"$W/c.out" 2>&1
disk_get "$id" cookie | grep -q '^616e6f74686572' || fail "the cookie is $(disk_get "$id" cookie)"
# Suspect blocks are told apart, and stay so until they are released.
expect "mark" ebbtest mark "$id" 102400 16 compare
value suspect_blocks 2 "marked two"
printf 'pass-begin live 1\nsleep 300\nmap 4 %s 102400\nrelease 4 %s 102400 8\nget %s\nabandon 1\n' "$id" "$id" "$id" | ebbtest script >"$W/s.out" 2>&1
grep -q '\[102400,16,2\]' "$W/s.out" || fail "not reported as suspect: $(cat "$W/s.out")"
grep -q '"suspect_blocks":1' "$W/s.out" || fail "a released block is still suspect: $(cat "$W/s.out")"
# A stream over cold regions, all of it right.
stamp w --disk "$d@0+16000" --engine mixed --writers 3 --seconds 4
replicate r 1 "$id" --initial --interval 300 --compare
stamped w
replica_good r 2
say "held $(disk_get "$id" log_held), longest $(($(disk_get "$id" log_held_ns_max) / 1000)) us, $(disk_get "$id" log_writes) log writes"
[ "$(disk_get "$id" untracked_requests)" = 0 ] || fail "untracked requests"
expect "detach" ebbtest detach "$id"
id=$(attach_logged "$d" 1 "$m" 0) || fail "attach again"
value resync_reasons 4096 "a declared gap"
value recovery 0 "a declared gap"
[ "$(disk_get "$id" map_uuid)" != "$uuid" ] || fail "the map is the old one"
finish() {
    dmsetup remove hold
    nullb_gone lb
}
detach_all
