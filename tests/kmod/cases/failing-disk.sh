# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# Blocks that cannot be read when they are to be preserved: the cut is void with that reason, the writers
# go on and none of their writes fails. Writes that fail now and then, under load and cuts: what is there
# at the end is what the replica has. A slow disk: cuts close, and the longest write is told.
load hold_deadline_ms=$((4000 + 8000 * SLOW))
modprobe dm-flakey || skip "no dm-flakey"
n=$(nullb flk 32 submit_queues=2) || fail "null_blk"
modprobe dm-delay
size=65536
dmsetup create ebbbad --table "0 $size error" && dmsetup mknodes ebbbad
good="0 $size delay $n 0 0 $n 0 0"
bad="0 $size delay /dev/mapper/ebbbad 0 0 $n 0 0" # reads fail, writes arrive
slow="0 $size delay $n 0 20 $n 0 20"
flaky="0 $size flakey $n 0 1 1 1 error_writes"
dmsetup create ebbfd --table "$good" && dmsetup mknodes ebbfd
d=$(readlink -f /dev/mapper/ebbfd)
finish() { dmsetup resume ebbfd; dmsetup remove ebbfd; dmsetup remove ebbbad; nullb_gone flk; }
table() { dmsetup suspend --nolockfs ebbfd && dmsetup load ebbfd --table "$1" && dmsetup resume ebbfd || fail "table $1"; }
id=$(attach "$d" 1)
ebbtest mark-all "$id"
coproc EBB { ebbtest script; }
state_is() { ask pass-get 1 && [[ $answer == *"$1"* ]]; }
must pass-begin frozen 1
wait_for 20 state_is '"state_name":"ready"' || fail "not ready: $answer"
table "$bad"
dd if=/dev/urandom of="$d" bs=4k count=8 seek=10 oflag=direct conv=notrunc 2>/dev/null || fail "a write failed: its block could not be preserved"
state_is '"void_name":"preserve-error"' || fail "the cut is not void: $answer"
table "$good"
hang_up
blocks=$(($(blockdev --getsz "$d") / 8))
[ "$(disk_get "$id" dirty_blocks)" = "$blocks" ] || fail "bits were lost"
replicate r 1 "$id" --initial --interval 200 --compare
wait_for 30 cuts r 1 || fail "no cut"
# Slow: each write takes 20 ms by itself, and at most the time that it is held for more.
table "$slow"
stamp w --disk "$d@0+1000" --engine aio --writers 2 --batch 8
stamped_until w cuts r 5
say "slow disk: $(cat "$W/w.stamper.out"), held at most $(($(disk_get "$id" held_ns_max) / 1000000)) ms"
# Flaky: a second good, a second bad.
table "$flaky"
fio --name=f --filename="$d" --offset=16M --size=8M --rw=randwrite --bs=4k --ioengine=libaio --iodepth=8 --direct=1 \
    --continue_on_error=all --time_based --runtime="$(seconds 6)" --output="$W/fio.out" >/dev/null
table "$good"
[ "$(disk_get "$id" write_errors)" -ge 1 ] || fail "no write failed: the test proves nothing"
say "writes that failed: $(disk_get "$id" write_errors)"
replica_good r 5
detach_all
dmsetup remove ebbfd
