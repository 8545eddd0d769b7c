# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# A pool of one page, and writers everywhere: cut after cut is void as soon as it is made, while its
# writes land, user space is told, and what it had is put back. Nothing is lost by that. Then passes are
# void by a timer, at the very moment at which others ask for their state.
load pool_bytes=4096
d=$(nullb vo 16 submit_queues=2) || fail "null_blk"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --cuts 1 --interval 10
wait "$pid_r" || fail "first replicator"
cp "$W/r.$id.img" "$W/s.$id.img"
stamp w --disk "$d@0+3000" --engine aio --writers 2
coproc EBB { ebbtest script; }
made=0
for i in $(seq 600); do
    if ask pass-begin frozen 1; then
        made=$((made + 1))
    elif [[ $answer != *EBUSY* && $answer != *EAGAIN* ]]; then
        fail "pass-begin: $answer"
    fi
done
is_void() { ask pass-get 1 && [[ $answer == *'"void_name":"pool-full"'* ]]; }
wait_for 60 is_void || fail "the last cut is not void: $answer"
[ "$made" -ge 5 ] || fail "only $made cuts of $i were made"
say "$made cuts"
hang_up
kill -TERM "$pid_w"
stamped w
# A timer takes pass after pass from an owner that is silent, while another socket asks without a pause
# what looks at little else than the state of the pass: often enough before the timer that neither waits
# for the other. A race checker looks more often meanwhile.
watch() { [ ! -e /sys/module/kcsan/parameters/skip_watch ] || echo "$1" >/sys/module/kcsan/parameters/skip_watch; }
echo 30 >/sys/module/ebb/parameters/owner_timeout_ms
yes "confirm 1" | ebbtest script >/dev/null 2>&1 &
background+=($!)
watch 10
silent=$((SLOW ? 300 : 100))
for i in $(seq $silent); do printf 'pass-begin live 1\nsleep 45\n'; done | ebbtest script >"$W/silent.out" 2>&1
kill -TERM "${background[-1]}"
granted=$((silent - $(grep -c '^error' "$W/silent.out")))
watch 40
say "$granted of $silent taken from their owner"
[ "$granted" -ge $((silent / 4)) ] || fail "only $granted of $silent passes: $(grep -m 3 error "$W/silent.out")"
echo 60000 >/sys/module/ebb/parameters/owner_timeout_ms
[ "$(ebbtest info | field pool_used_bytes)" = 0 ] || fail "the pool is not empty"
replicate s 1 "$id" --compare
replica_good s 1
finish() { nullb_gone vo; }
detach_all
