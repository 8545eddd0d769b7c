#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# hung.sh [PID]: what hangs: the stacks of the process and of every task that cannot be interrupted, what
# the disks have in flight, and what the module says, unless it hangs too.
export PATH=/ebb/build/tests/kmod:/usr/sbin:/usr/bin:/sbin:/bin
# What says most comes first, and nothing is started for each task: a machine that hangs may be slow besides.
echo "--- ebb, at $(cut -d' ' -f1 /proc/uptime)"
timeout 10 ebbtest list || echo "(no answer)"
for group in 1 2 3; do timeout 10 ebbtest pass-get "$group" 2>/dev/null; done
for p in /sys/module/ebb/parameters/*; do echo "${p##*/}=$(<"$p")"; done
echo "--- in flight (reads, writes)"
grep -v " 0 *0$" /sys/block/*/inflight
echo "--- what hangs, and what runs"
for t in /proc/[0-9]*/task/[0-9]*; do
    read -r stat <"$t/stat" || continue
    state=${stat##*) }
    state=${state%% *}
    if [ "$state" = D ] || { [ $# = 1 ] && [ "${t#/proc/"$1"/}" != "$t" ]; }; then
        echo "$t $(<"$t/comm") ($state) in $(<"$t/wchan")"
        echo "$(<"$t/stack")"
    elif [ "$state" = R ]; then
        echo "$t $(<"$t/comm") (R)"
    fi
done 2>/dev/null
echo "--- blocked tasks, as the kernel tells (SysRq W)"
dmesg -C
echo w >/proc/sysrq-trigger
dmesg | tail -n 120
