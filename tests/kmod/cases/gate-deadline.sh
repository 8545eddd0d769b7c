# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# A closed gate holds writes, and nothing else; only its owner cuts behind it and opens it. When the
# owner says nothing it opens by itself at its deadline: the application goes on, the cut is void,
# and none is begun behind it any more.
load gate_deadline_max_ms=120000
d=$(nullb gd 32) other=$(disk virtio0)
id=$(attach "$d" 1)
coproc EBB { ebbtest script; }
gate() { # gate MS: closes it; its id is in $gate. On a busy machine it may open before all have seen it.
    local ms=$1
    until ask gate-close 1 "$ms"; do
        # EBUSY: the one before has not opened by itself yet.
        [[ $answer == *EAGAIN* || $answer == *ETIMEDOUT* || $answer == *EBUSY* ]] || fail "gate-close: $answer"
        if [[ $answer == *ETIMEDOUT* ]]; then ms=$((ms < 60000 ? ms * 2 : ms)); fi
    done
    gate=$(echo "$answer" | field gate_id)
}
pass() { pass=$(echo "$answer" | sed 's/.*"pass":{//' | field id); }
is_void() { ask pass-get 1 && [[ $answer == *"\"void_name\":\"$1\""* ]]; }
is_ready() { ask pass-get 1 && [[ $answer == *'"state_name":"ready"'* ]]; }
came() { [ "$(disk_get "$id" gated)" -ge "$1" ]; }
content() { dd if="$d" bs=4k count=1 skip=3 iflag=direct 2>/dev/null | cmp -s - "$1"; }
block() { head -c 4096 /dev/urandom >"$W/$1"; }
put() { dd if="$W/$1" of="$d" bs=4k count=1 seek=3 oflag=direct conv=notrunc 2>"$W/dd.out"; }

must_not ERANGE gate-close 1 0
must_not ERANGE gate-close 1 120001
must_not ENOENT gate-close 7 100
must_not ESTALE gate-open 1 1
must_not ESTALE pass-begin frozen 1 1
block old
put old || fail "a write before"
gate 120000
must_not EBUSY gate-close 1 1000
must_not EBUSY pass-begin frozen 1
must_not EBUSY "attach $other other 1"
refused EPERM ebbtest pass-begin frozen 1 "$gate"
refused EPERM ebbtest gate-open 1 "$gate"
rmmod ebb 2>/dev/null && fail "unloaded with the gate closed"
block new
put new &
writer=$!
background+=($!)
wait_for 30 came 1 || fail "no write came to the gate"
content "$W/old" || fail "a write went by the closed gate, or reads do not"
dd if=/dev/zero of="$d" count=0 conv=fsync 2>/dev/null || fail "an empty flush"
must pass-begin frozen 1 "$gate"
pass
wait_for 30 is_ready || fail "the pass does not drain behind the gate: $answer"
must map "$pass" "$id" 0
[[ $answer == *'[24,8,0]'* ]] || fail "the block that was written before is not in the pass: $answer"
kill -0 "$writer" || fail "the write went by"
must release "$pass" "$id" 24 8
must_not EBUSY end "$pass"
must gate-open 1 "$gate"
[ "$(echo "$answer" | field gate_held)" = 1 ] || fail "held: $answer"
wait "$writer" || fail "the write that was held"
content "$W/new" || fail "the write that was held did not arrive"
must end "$pass"
must confirm 1
[ "$(disk_get "$id" dirty_blocks)" = 1 ] || fail "the write that was held is not in the next cut"
must_not ESTALE gate-open 1 "$gate"

# The owner says nothing. Writes go on; no cut is begun behind a gate that opened by itself.
before=$(disk_get "$id" gated)
stamp w --disk "$d@8+500" --engine mixed --writers 2
for ms in 300 1200 4800 19200 60000; do # until the writers' turn comes while it is closed
    gate $ms
    wait_for $((ms / 1000 + 1)) came $((before + 1)) && break
done
came $((before + 1)) || fail "no write came to the gate"
writes=$(disk_get "$id" writes)
goes_on() { [ "$(disk_get "$id" writes)" -gt $((writes + 20)) ]; }
wait_for 60 goes_on || fail "the application does not go on"
must_not ESTALE pass-begin frozen 1 "$gate"
must_not ESTALE gate-open 1 "$gate"
# The same with a cut made: it is void, with that reason.
for ms in 300 600 1200 2400 4800 9600 19200; do
    gate $ms
    if ask pass-begin frozen 1 "$gate"; then break; fi
    [[ $answer == *ESTALE* ]] || fail "pass-begin: $answer"
done
pass
wait_for 60 is_void gate-deadline || fail "the cut is not void: $answer"
must_not ESTALE gate-open 1 "$gate"
must_not ESTALE end "$pass"
writes=$(disk_get "$id" writes)
wait_for 60 goes_on || fail "the application does not go on"
hang_up
# The owner is killed: its gate opens and its cut is void, long before the deadline.
printf 'gate-close 1 120000\nsleep 100000\n' | ebbtest script >"$W/k.out" 2>&1 &
owner=$!
background+=($!)
wait_for 30 grep -q gate_id "$W/k.out" || fail "no gate: $(cat "$W/k.out")"
gate=$(field gate_id <"$W/k.out")
refused EPERM ebbtest gate-open 1 "$gate"
kill -KILL "$owner"
writes=$(disk_get "$id" writes)
wait_for 60 goes_on || fail "a dead owner's gate stays closed"
refused ESTALE ebbtest gate-open 1 "$gate"
kill -TERM "$pid_w"
stamped w
ebbtest abandon 1
replicate r 1 "$id" --initial --compare
replica_good r 1
finish() { nullb_gone gd; }
detach_all
