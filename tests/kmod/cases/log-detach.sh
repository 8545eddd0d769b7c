# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# threads: single
# check: debug
# Attach and detach again and again under load that heats cold regions, in and out of passes, two
# disks with their maps on one device: no write fails, nothing hangs.
load log_cool_s=0
a=$(disk virtio0) b=$(nullb dl 64 submit_queues=2) || fail "null_blk"
m=$(disk scsi0)
stamp w --disk "$a@0+16000" --disk "$b@0+16000" --engine mixed --writers 3
for i in $(seq 1 $((SLOW ? 2 : 6))); do
    ia=$(attach_logged "$a" 1 "$m" 0 create) && ib=$(attach_logged "$b" 1 "$m" 8192 create) || fail "attach under load"
    refused EEXIST ebbtest attach "$(disk virtio1)" x 1 "$m" 8200 4096 create
    ebbtest confirm 1
    printf 'pass-begin frozen 1\nsleep 100\n' | ebbtest script >"$W/p.out" &
    background+=($!)
    sleep 0.1
    expect "detach" ebbtest detach "$ia"
    ebbtest mark-all "$ib"
    printf 'pass-begin live 1\nsleep 20\n' | ebbtest script >"$W/p.out"
    ebbtest confirm 1
    expect "detach" ebbtest detach "$ib"
    expect "rmmod" rmmod ebb
    load log_cool_s=0
done
kill -TERM "$pid_w"
stamped w
finish() { nullb_gone dl; }
