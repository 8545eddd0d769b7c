# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10 trixie 6.1 6.12 debug
# No bit is dropped but by a confirmation: abandoned, void, refused and killed passes put all of it
# back, what was released too; a live pass's share stays unconfirmed until then.
load
d=$(nullb ob 16) || fail "null_blk"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --cuts 1 --interval 10
wait "$pid_r" || fail "first replicator"
[ "$(disk_get "$id" dirty_blocks)" = 0 ] || fail "dirty after a confirmed epoch"
dd if=/dev/urandom of="$d" bs=4k count=100 oflag=direct conv=notrunc 2>/dev/null
step() { # step WANT-DIRTY WANT-UNCONFIRMED WHAT
    local dirty unconfirmed
    dirty=$(disk_get "$id" dirty_blocks) unconfirmed=$(disk_get "$id" unconfirmed_blocks)
    [ "$dirty/$unconfirmed" = "$1/$2" ] || fail "$3: dirty/unconfirmed is $dirty/$unconfirmed, should be $1/$2"
}
dirty() { [ "$(disk_get "$id" dirty_blocks)" = "$1" ]; }
step 100 0 "written"
pass() { # pass KIND LINES...: over one socket, with PASS standing for its number
    printf '%s\n' "pass-begin $1 1" "sleep 200" "${@:2}" >"$W/in"
    python3 - "$W/in" <<'PY'
import re, subprocess, sys
p = subprocess.Popen(["ebbtest", "script"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
number = "0"
for line in open(sys.argv[1]):
    p.stdin.write(line.replace("PASS", number)); p.stdin.flush()
    while True:
        answer = p.stdout.readline().strip()
        print(answer)
        if answer == "ok" or answer.startswith("error") or not answer: break
        if m := re.search(r'"pass":\{"id":(\d+)', answer): number = m.group(1)
p.stdin.close(); p.wait()
PY
}
pass frozen "get $id" >"$W/p.out" # the owner goes away
wait_for 20 dirty 100
step 100 0 "after the owner went"
pass frozen "release PASS $id 0 400" "abandon 1" >"$W/p.out"
step 100 0 "after an abandon with half released"
pass frozen "release PASS $id 0 400" "end PASS" >"$W/p.out"
grep -q EBUSY "$W/p.out" || fail "a pass with ranges left ended"
wait_for 20 dirty 100
ebbtest abandon 1
step 100 0 "after the owner went with half released"
pass live "release PASS $id 0 800" "end PASS" >"$W/p.out"
grep -q error "$W/p.out" && fail "live pass: $(cat "$W/p.out")"
step 0 100 "a live pass's share"
dd if=/dev/urandom of="$d" bs=4k count=10 seek=500 oflag=direct conv=notrunc 2>/dev/null
step 10 100 "ten more"
pass frozen "abandon 1" >"$W/p.out"
step 110 0 "after the epoch was abandoned"
pass live "release PASS $id 0 800" "release PASS $id 4000 80" "end PASS" >"$W/p.out"
step 0 110 "live again"
pass frozen "end PASS" "confirm 1" >"$W/p.out"
grep -q error "$W/p.out" && fail "an empty frozen pass: $(cat "$W/p.out")"
step 0 0 "confirmed"
finish() { nullb_gone ob; }
detach_all
