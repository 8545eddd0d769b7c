# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# A write has passed the gate and stands before its mark (test module) while the gate is closed: that
# is not answered before the write is a member, since it might be acknowledged and followed by
# others afterwards. Then it is in the cut, and a write that came later is not.
load gate_deadline_max_ms=120000
# As in cut-race: nothing of a request may be left to a worker of the CPU that stands still.
n=$(nullb ge 16 memory_backed=0 irqmode=0) || fail "null_blk"
echo none >"/sys/block/${n##*/}/queue/scheduler" || fail "no scheduler"
id=$(attach "$n" 1)
coproc EBB { ebbtest script; }
exec 5<>"$n"
cp "$(command -v dd)" "$W/stalled"
insmod "$TESTKO/stall.ko" symbol=ebb_map_set_range comm=stalled || fail "stall"
finish() {
    echo 1 >/sys/module/stall/parameters/go
    exec 5>&-
    wait
    rmmod stall
    nullb_gone ge
}
taskset -cp 0 $$ >/dev/null
for irq in /proc/irq/*/smp_affinity_list; do echo 0 >"$irq"; done 2>/dev/null
taskset -c 1 "$W/stalled" if=/dev/zero of="$n" bs=4k count=1 seek=7 oflag=direct conv=notrunc 2>"$W/a.out" &
first=$!
background+=("$first")
waiting() { [ "$(cat /sys/module/stall/parameters/waiting)" = 1 ]; }
wait_for 20 waiting || fail "the first write does not come by"
taskset -cp 0 "$EBB_PID" >/dev/null
echo "gate-close 1 120000" >&"${EBB[1]}"
read -r -t 3 early <&"${EBB[0]}" && fail "the gate is said to be closed, and a write is on its way: $early"
waiting || fail "the first write did not wait"
echo 1 >/sys/module/stall/parameters/go
answered || fail "gate-close: $answer"
gate=$(echo "$answer" | field gate_id)
wait "$first" || fail "the first write"
dd if=/dev/zero bs=4k count=1 seek=9 oflag=direct conv=notrunc >&5 2>"$W/b.out" &
second=$!
background+=("$second")
came() { [ "$(disk_get "$id" gated)" = 1 ]; }
wait_for 20 came || fail "the second write does not come to the gate"
must pass-begin frozen 1 "$gate"
pass=$(echo "$answer" | sed 's/.*"pass":{//' | field id)
must gate-open 1 "$gate"
wait "$second" || fail "the second write"
is_ready() { ask pass-get 1 && [[ $answer == *'"state_name":"ready"'* ]]; }
wait_for 20 is_ready || fail "the pass does not drain: $answer"
must map "$pass" "$id" 0
[[ $answer == *'[[56,8,0]]'* ]] || fail "the first write alone is due in the pass: $answer"
must release "$pass" "$id" 56 8
must end "$pass"
[ "$(disk_get "$id" dirty_blocks)" = 1 ] || fail "the second write is not dirty"
hang_up
exec 5>&-
detach_all
