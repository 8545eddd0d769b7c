# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Two daemons want the same group: one begins a pass, the other is told so, can neither release nor end
# it, and takes over as soon as the first one is gone. Of two that ask at once one is granted.
load
d=$(nullb to 16 submit_queues=2) || fail "null_blk"
id=$(attach "$d" 1)
stamp w --disk "$d@0+2000" --engine aio --writers 2
coproc EBB { ebbtest script; }
must pass-begin frozen 1
pass=$(echo "$answer" | sed 's/.*"pass":{//' | field id)
refused EBUSY ebbtest pass-begin frozen 1
refused EBUSY ebbtest confirm 1
is_ready() { ask pass-get 1 && [[ $answer == *'"state_name":"ready"'* ]]; }
wait_for 30 is_ready || fail "the pass does not drain: $answer"
refused EPERM ebbtest release "$pass" "$id" 0 8
refused EPERM ebbtest end "$pass"
# It is given up by somebody else, which is allowed: its owner hears of it.
expect "abandon" ebbtest abandon 1
must_not ESTALE end "$pass"
# The other one takes over when the owner is killed, without waiting for the timeout (a minute).
must pass-begin frozen 1
kill -KILL "$EBB_PID"
wait_for 20 sh -c 'printf "pass-begin frozen 1\n" | ebbtest script | grep -q "\"pass\""' || fail "no takeover"
# Two that ask again and again: never both, and each of them now and then.
racer() { for _ in $(seq 1 60); do echo "pass-begin frozen 1"; echo "abandon 1"; done | ebbtest script >"$W/$1.out" 2>/dev/null; }
racer x &
x=$!
racer y &
y=$!
background+=("$x" "$y")
wait "$x" || fail "first racer"
wait "$y" || fail "second racer"
for r in x y; do
    won=$(grep -c '"pass":{' "$W/$r.out")
    lost=$(grep -cE "EBUSY|EAGAIN" "$W/$r.out")
    say "$r: $won granted, $lost refused"
    [ $((won + lost)) = 60 ] || fail "$r: $won granted and $lost refused are not 60"
done
ids=$(grep -ho '"pass":{"id":[0-9]*' "$W/x.out" "$W/y.out" | sort | uniq -d)
[ -z "$ids" ] || fail "a pass was given to both: $ids"
ebbtest abandon 1
kill -TERM "$pid_w"
stamped w
replicate s 1 "$id" --initial --compare
replica_good s 1
finish() { nullb_gone to; }
detach_all
