# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Detaching opens the gate: under load, with writes held, with a cut behind it, of one disk of two and
# of the last one, which takes the group along. The module's going is refused before and works after.
load gate_deadline_max_ms=120000
a=$(disk virtio0) b=$(nullb gx 32 submit_queues=2) || fail "null_blk"
stamp w --disk "$a@0+2000" --disk "$b@0+2000" --engine mixed --writers 3
coproc EBB { ebbtest script; }
came() { [ "$(disk_get "$1" gated)" -gt 0 ] || [ "$(disk_get "$2" gated)" -gt 0 ]; }
for i in $(seq 1 $((SLOW ? 4 : 12))); do
    ia=$(attach "$a" 1) && ib=$(attach "$b" 1) || fail "attach under load"
    must gate-close 1 120000
    gate=$(echo "$answer" | field gate_id)
    wait_for 60 came "$ia" "$ib" || fail "nothing came to the gate"
    rmmod ebb 2>/dev/null && fail "unloaded with a closed gate"
    if [ $((i % 2)) = 0 ]; then must pass-begin frozen 1 "$gate"; fi
    expect "detach of one of two" ebbtest detach "$ia"
    must_not ESTALE gate-open 1 "$gate"
    if [ $((i % 2)) = 0 ]; then
        must pass-get 1
        [[ $answer == *'"void_name":"detached"'* ]] || fail "the cut behind the gate is not void: $answer"
    fi
    must gate-close 1 120000
    expect "detach of the last one" ebbtest detach "$ib"
    must_not ENOENT gate-open 1 "$gate"
done
hang_up
rmmod ebb || fail "rmmod"
load
ia=$(attach "$a" 1) && ib=$(attach "$b" 1) || fail "attach"
kill -TERM "$pid_w"
stamped w
replicate r 1 "$ia $ib" --initial --compare
replica_good r 1
finish() { nullb_gone gx; }
detach_all
