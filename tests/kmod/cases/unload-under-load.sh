# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# threads: single
# rmmod is refused while a disk is attached and works at once after; loading and unloading under
# load, with nothing attached, disturbs nobody.
load
d=$(disk scsi0)
stamp w --disk "$d@0+4000" --engine mixed --writers 3
id=$(attach "$d" 1)
rmmod ebb 2>/dev/null && fail "unloaded with a disk attached"
ebbtest detach "$id" || fail "detach"
rmmod ebb || fail "rmmod"
for i in $(seq 1 $((SLOW ? 2 : 5))); do
    load
    rmmod ebb || fail "rmmod"
done
load
[ "$(cat /proc/sys/kernel/ftrace_enabled)" = 1 ] || fail "ftrace is off"
id=$(attach "$d" 1)
echo 0 >/proc/sys/kernel/ftrace_enabled 2>/dev/null && fail "ftrace could be switched off below a tracked disk"
kill -TERM "$pid_w"
stamped w
