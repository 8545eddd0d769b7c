# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 400
# Thousands of writes held at once, by reads that dm lets wait: all of them go on, in order of arrival
# where they go to one block, and the worker that lets them go is not the one to be waited for.
load hold_deadline_ms=$((120000 + 480000 * SLOW))
n=$(nullb ht 64 submit_queues=2 hw_queue_depth=1024) || fail "null_blk"
d=$(linear ebbht "$n") || fail "dm"
finish() { dmsetup remove ebbht; nullb_gone ht; }
id=$(attach "$d" 1)
ebbtest mark-all "$id"
coproc EBB { ebbtest script; }
must pass-begin frozen 1
state_is() { ask pass-get 1 && [[ $answer == *"\"state_name\":\"$1\""* ]]; }
wait_for 20 state_is ready || fail "not ready: $answer"
writes=$((SLOW ? 2000 : 5000))
busy() { awk '/^cpu / {print $4 + $7}' /proc/stat; } # in system and softirq, in 10 ms
come() { [ "$(disk_get "$id" in_flight)" -ge $((writes * 9 / 10)) ]; }
together() { # together WHAT FIO-OPTION...: the writes, at once, and how long they took from when they could go
    local what=$1 system begun fio held most
    shift
    held=$(disk_get "$id" held)
    dm_suspend ebbht
    fio --name=h --filename="$d" --rw=randwrite --bs=4k --ioengine=libaio --iodepth="$writes" --direct=1 \
        --iodepth_batch_submit="$writes" --iodepth_batch_complete_max="$writes" --output="$W/fio.out" "$@" &
    fio=$!
    background+=("$fio")
    wait_for 100 come || fail "$what: not held at once: the test proves nothing"
    most=$(disk_get "$id" in_flight) system=$(busy) begun=$(date +%s%3N)
    dm_resume ebbht
    wait "$fio" || fail "$what: $(cat "$W/fio.out")"
    say "$what: $most at once, held $(($(disk_get "$id" held) - held)), done after $(($(date +%s%3N) - begun)) ms," \
        "system time $(($(busy) - system))0 ms"
}
together "each its block" --size=64M --number_ios="$writes"
state_is ready || fail "the pass is void: $answer"
# The same with all of them on few blocks, one behind the other.
together "few blocks" --offset=60M --size=128k --norandommap=1 --io_size=$((writes * 4))k
must abandon 1
hang_up
replicate r 1 "$id" --initial --cuts 1 --interval 10 --compare
wait "$pid_r" || fail "replicator"
detach_all
dmsetup remove ebbht
