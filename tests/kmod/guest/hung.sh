#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# hung.sh [PID]: what hangs: the stacks of the process and of every task that cannot be interrupted, what
# the disks have in flight, and what the module says, unless it hangs too.
export PATH=/ebb/build/tests/kmod:/usr/sbin:/usr/bin:/sbin:/bin
echo "--- what hangs, at $(cut -d' ' -f1 /proc/uptime)"
for t in /proc/[0-9]*/task/[0-9]*; do
    state=$(sed -n 's/^State:\t\(.\).*/\1/p' "$t/status" 2>/dev/null)
    if [ "$state" = D ] || { [ $# = 1 ] && [ "${t#/proc/"$1"/}" != "$t" ]; }; then
        echo "$t $(cat "$t/comm") ($state) in $(cat "$t/wchan")"
        cat "$t/stack"
    fi
done 2>/dev/null
echo "--- in flight (reads, writes)"
grep -v " 0 *0$" /sys/block/*/inflight
echo "--- ebb"
timeout 10 ebbtest list || echo "(no answer)"
for group in 1 2 3; do timeout 10 ebbtest pass-get "$group" 2>/dev/null; done
for p in /sys/module/ebb/parameters/*; do echo "${p##*/}=$(cat "$p")"; done
echo "--- blocked tasks, as the kernel tells (SysRq W)"
dmesg -C
echo w >/proc/sysrq-trigger
dmesg | tail -n 120
