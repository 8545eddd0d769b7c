#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# prepare.sh [demo|check|debug|all]...: fills the cache with what `make demo`, `make check` (the
# default is both) and `make check-debug` need. What is there already costs nothing.
set -euo pipefail
. "$(dirname "$0")/common.sh"

logs=$EBB_CACHE/logs
mkdir -p "$logs"
names=()
pids=()

begin() { # begin NAME COMMAND...: beside the others
    local name=$1
    shift
    "$@" >"$logs/$name.log" 2>&1 &
    names+=("$name")
    pids+=($!)
}

finish() { # waits for all that was begun; shows the log of what failed
    local i failed=0
    for i in "${!pids[@]}"; do
        if ! wait "${pids[$i]}"; then
            say "${names[$i]} failed:"
            tail -n 30 "$logs/${names[$i]}.log" >&2
            failed=1
        fi
    done
    names=()
    pids=()
    [ "$failed" = 0 ] || die "the cache is not complete"
}

want=" ${*:-demo check} "
[ "$want" != " all " ] || want=" demo check debug "
for w in $want; do
    case $w in demo | check | debug) ;; *) die "unknown: $w" ;; esac
done

# Downloads share the network, unpacking the processors: two or three at once are quickest.
begin rootfs "$LAB/rootfs.sh"
begin kernel-6.1 "$LAB/kernel.sh" fetch 6.1
if [[ $want == *" check "* ]]; then
    begin kernel-6.12 "$LAB/kernel.sh" fetch 6.12
fi
finish
if [[ $want == *" check "* ]]; then
    begin rootfs-postgres "$LAB/rootfs.sh" postgres
fi
begin agent "$LAB/tool.sh" agent
begin netswitch "$LAB/tool.sh" netswitch
if [[ $want == *" check "* ]]; then
    begin kernel-sid "$LAB/kernel.sh" fetch sid
    begin kernel-trixie "$LAB/kernel.sh" fetch trixie
    begin kernel-5.10 "$LAB/kernel.sh" fetch 5.10
    begin source "$LAB/debug-kernel.sh" source
    begin powercut "$LAB/tool.sh" powercut
fi
finish
begin initrd-6.1 "$LAB/initrd.sh" 9p 6.1
if [[ $want == *" check "* ]]; then
    begin initrd-6.12 "$LAB/initrd.sh" 9p 6.12
    begin initrd-sid "$LAB/initrd.sh" 9p sid
    begin initrd-trixie "$LAB/initrd.sh" 9p trixie
    begin initrd-5.10 "$LAB/initrd.sh" 9p 5.10
fi
if [[ $want == *" demo "* && -e $TOP/tests/vm/demo_disk.sh ]]; then
    begin demo-disk "$TOP/tests/vm/demo_disk.sh" 6.1
fi
finish
if [[ $want == *" debug "* ]]; then
    begin kernel-debug "$LAB/debug-kernel.sh"
    finish
    begin kernel-kcsan "$LAB/debug-kernel.sh" kcsan
    finish
    begin initrd-debug "$LAB/initrd.sh" 9p debug
    begin initrd-kcsan "$LAB/initrd.sh" 9p kcsan
    finish
fi
say "the cache is complete: $EBB_CACHE"
