# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# threads: single
# The module's going is refused in every state that there is: attached, draining, ready, with writes
# held, void, behind a closed gate, with an image open; a second load is refused too. Each time it goes
# on as if nothing had been asked, and in the end it goes and comes back.
load hold_deadline_ms=120000 gate_deadline_max_ms=120000
n=$(nullb ua 16) || fail "null_blk"
d=$(linear ebbua "$n") || fail "dm"
finish() { dmsetup remove ebbua; nullb_gone ua; }
stays() { # stays WHERE
    rmmod ebb 2>/dev/null && fail "unloaded: $1"
    insmod "$KO" 2>/dev/null && fail "loaded twice: $1"
    say "refused: $1"
}
write_one() { dd if=/dev/urandom of="$d" bs=4k count=1 oflag=direct conv=notrunc 2>"$W/dd.out" & background+=($!); writer=$!; }
state_is() { ask pass-get 1 && [[ $answer == *"\"state_name\":\"$1\""* ]]; }
in_flight() { [ "$(disk_get "$id" in_flight)" -ge 1 ]; }
id=$(attach "$d" 1)
coproc EBB { ebbtest script; }
stays attached
# A cut in the middle of a write.
dm_suspend ebbua
write_one
wait_for 20 in_flight || fail "no write in flight"
must pass-begin frozen 1
state_is draining || fail "not draining with a write in flight: $answer"
stays draining
dm_resume ebbua
wait "$writer" || fail "the write"
wait_for 20 state_is ready || fail "not ready: $answer"
stays ready
# A write that is held by a read of what was there.
dm_suspend ebbua
held=$(disk_get "$id" held)
write_one
is_held() { [ "$(disk_get "$id" held)" -gt "$held" ]; }
wait_for 20 is_held || fail "the write is not held"
stays "a write held"
dm_resume ebbua
image=$(image_of "$id")
exec 6<"$image" || fail "the image"
stays "the image open"
wait "$writer" || fail "the write that was held"
must abandon 1
state_is void || fail "not void: $answer"
stays void
must gate-close 1 120000
write_one
gated() { [ "$(disk_get "$id" gated)" -ge 1 ]; }
wait_for 20 gated || fail "no write came to the gate"
stays "gate closed"
# Detached with its image open: what is read of it fails, and who has it open keeps the module.
expect "detach" ebbtest detach "$id"
wait "$writer" || fail "the write that the gate held"
[ "$(dd bs=4k count=1 <&6 2>/dev/null | wc -c)" = 0 ] || fail "the image of a detached disk can be read"
rmmod ebb 2>/dev/null && fail "unloaded with an image open"
exec 6<&-
hang_up
wait_for 20 rmmod ebb || fail "rmmod"
load
id=$(attach "$d" 1)
replicate r 1 "$id" --cuts 1 --interval 10
wait "$pid_r" || fail "replicator"
detach_all
dmsetup remove ebbua
