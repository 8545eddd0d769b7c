# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 400
# Thousands of writes held at once, by reads that take two seconds: all of them go on, in order of arrival
# where they go to one block, and the worker that lets them go is not the one to be waited for.
load hold_deadline_ms=120000
n=$(nullb ht 64 submit_queues=2 hw_queue_depth=1024) || fail "null_blk"
d=$(delay ebbht "$n" 2000 0) || fail "dm-delay"
finish() { dmsetup remove ebbht; nullb_gone ht; }
id=$(attach "$d" 1)
ebbtest mark-all "$id"
coproc EBB { ebbtest script; }
must pass-begin frozen 1
state_is() { ask pass-get 1 && [[ $answer == *"\"state_name\":\"$1\""* ]]; }
wait_for 20 state_is ready || fail "not ready: $answer"
writes=$((SLOW ? 2000 : 5000))
busy() { awk '/^cpu / {print $4 + $7}' /proc/stat; } # in system and softirq, in 10 ms
system=$(busy) begun=$(date +%s%3N)
fio --name=h --filename="$d" --rw=randwrite --bs=4k --size=64M --number_ios="$writes" --ioengine=libaio --iodepth="$writes" \
    --iodepth_batch_submit="$writes" --iodepth_batch_complete_max="$writes" --direct=1 --output="$W/fio.out" &
fio=$!
background+=("$fio")
most=0
while [ -d "/proc/$fio/fd/." ]; do
    now=$(disk_get "$id" in_flight)
    [ "$now" -le "$most" ] || most=$now
    sleep 0.1
done
wait "$fio" || fail "writes"
say "held at once $most, all done after $(($(date +%s%3N) - begun)) ms, held at most $(($(disk_get "$id" held_ns_max) / 1000000)) ms, system time $(($(busy) - system))0 ms"
[ "$most" -ge $((writes * 9 / 10)) ] || fail "not held at once: the test proves nothing"
state_is ready || fail "the pass is void: $answer"
# The same with all of them on few blocks, one behind the other.
system=$(busy) begun=$(date +%s%3N) held=$(disk_get "$id" held)
fio --name=o --filename="$d" --offset=60M --size=128k --rw=randwrite --norandommap=1 --bs=4k --io_size=$((writes * 4))k --ioengine=libaio \
    --iodepth="$writes" --iodepth_batch_submit="$writes" --iodepth_batch_complete_max="$writes" --direct=1 --output="$W/fio.out" || fail "writes to few blocks"
say "few blocks: held $(($(disk_get "$id" held) - held)), done after $(($(date +%s%3N) - begun)) ms, held at most $(($(disk_get "$id" held_ns_max) / 1000000)) ms, system time $(($(busy) - system))0 ms"
must abandon 1
hang_up
dmsetup suspend --nolockfs ebbht && dmsetup load ebbht --table "0 $(blockdev --getsz "$n") linear $n 0" && dmsetup resume ebbht || fail "table"
replicate r 1 "$id" --initial --cuts 1 --interval 10 --compare
wait "$pid_r" || fail "replicator"
detach_all
dmsetup remove ebbht
