# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1 6.12
# Two writes meet a cut on one block. The first has read the generation, and stands before its mark
# (test module) while the cut is made and the second writes the block, seeing nothing frozen. The
# block's content is newer than the cut by then: the pass must be void, with that reason.
load
# Nothing of a request may be left to a worker: it might be one of the CPU that stands still. null_blk
# with memory sends by workers, and so does a scheduler.
n=$(nullb cr 16 memory_backed=0 irqmode=0) || fail "null_blk"
echo none >"/sys/block/${n##*/}/queue/scheduler" || fail "no scheduler"
id=$(attach "$n" 1)
coproc EBB { ebbtest script; }
# Open from now on: to open or close a disk waits for every CPU, also for the one that stands still.
exec 5<>"$n"
cp "$(command -v dd)" "$W/stalled"
# On a fresh disk: the first mark of each map has a leaf made, by this function.
insmod "$TESTKO/stall.ko" symbol=ebb_map_set_range comm=stalled || fail "stall"
finish() {
    echo 1 >/sys/module/stall/parameters/go
    exec 5>&-
    wait
    rmmod stall
    nullb_gone cr
}
# It stands still with interrupts off: they and all the others have the first CPU.
taskset -cp 0 $$ >/dev/null
for irq in /proc/irq/*/smp_affinity_list; do echo 0 >"$irq"; done 2>/dev/null
taskset -c 1 "$W/stalled" if=/dev/zero of="$n" bs=4k count=1 seek=7 oflag=direct conv=notrunc 2>"$W/a.out" &
first=$! # taskset becomes it
background+=("$first")
waiting() { [ "$(cat /sys/module/stall/parameters/waiting)" = 1 ]; }
wait_for 20 waiting || fail "the first write does not come by"
ask pass-begin frozen 1 || fail "pass-begin: $answer"
dd if=/dev/urandom bs=4k count=1 seek=7 oflag=direct conv=notrunc >&5 2>"$W/b.out" || fail "the second write"
ask pass-get 1
waiting || fail "the first write did not wait"
[[ $answer == *'"state_name":"draining"'* ]] || fail "the cut does not wait for the first write: $answer"
echo 1 >/sys/module/stall/parameters/go
wait "$first" || fail "the first write"
ask pass-get 1
[[ $answer == *'"void_name":"cut-race"'* ]] || fail "the pass is not void: $answer"
[ "$(disk_get "$id" dirty_blocks)" = 1 ] || fail "the block is not dirty"
# Nothing stays behind: the next pass has the block, and ends.
ask pass-begin frozen 1 || fail "pass-begin: $answer"
is_ready() { ask pass-get 1 && [[ $answer == *'"state_name":"ready"'* ]]; }
wait_for 20 is_ready || fail "the next pass does not drain: $answer"
pass=$(echo "$answer" | sed 's/.*"pass":{//' | field id)
ask map "$pass" "$id" 0
[[ $answer == *'[56,8,0]'* ]] || fail "the block is not in the next pass: $answer"
ask release "$pass" "$id" 56 8 || fail "release: $answer"
ask end "$pass" || fail "end: $answer"
owner=${EBB[1]}
exec {owner}>&- 5>&-
detach_all
