# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# threads: single
# Attach and detach again and again under load, in and out of passes, and the module's going with it:
# no write fails, nothing hangs, the rest of the group goes on.
load
a=$(disk virtio0) b=$(nullb du 32 submit_queues=2) || fail "null_blk"
stamp w --disk "$a@0+2000" --disk "$b@0+2000" --engine mixed --writers 3
for i in $(seq 1 $((SLOW ? 2 : 8))); do # a grace period of tasks takes most of a minute there
    ia=$(attach "$a" 1) && ib=$(attach "$b" 1) || fail "attach under load"
    ebbtest mark-all "$ia"
    printf 'pass-begin frozen 1\nsleep 100\n' | ebbtest script >"$W/p.out" &
    background+=($!)
    sleep 0.05
    expect "detach" ebbtest detach "$ia"
    printf 'pass-begin live 1\nsleep 20\n' | ebbtest script >"$W/p.out"
    expect "detach" ebbtest detach "$ib"
    expect "rmmod" rmmod ebb
    load
done
kill -TERM "$pid_w"
stamped w
finish() { nullb_gone du; }
