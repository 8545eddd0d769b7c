# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1 6.12
# A pass is given up and the next one begins before the worker that lets its held writes go has run:
# the held write belongs to what the new pass closed, so it must go, or the pass never drains. One
# CPU and a real-time owner keep the worker away in between.
load hold_deadline_ms=120000
n=$(nullb np 16) || fail "null_blk"
d=$(linear ebbnp "$n") || fail "dm"
id=$(attach "$d" 1)
dd if=/dev/zero of="$d" bs=4k count=1 oflag=direct conv=notrunc 2>/dev/null
echo 0 >/sys/devices/system/cpu/cpu1/online || fail "one CPU"
finish() {
    echo 1 >/sys/devices/system/cpu/cpu1/online
    dmsetup remove ebbnp
    nullb_gone np
}
state_is() { [ "$(ebbtest pass-get 1 | sed 's/.*"pass":{//' | field state_name)" = "$1" ]; }
held() { [ "$(disk_get "$id" held)" = 1 ]; }
mkfifo "$W/in"
chrt -f 50 ebbtest script <"$W/in" >"$W/script.out" &
background+=($!)
exec 7>"$W/in"
echo "pass-begin frozen 1" >&7
wait_for 10 state_is ready || fail "the first pass does not drain"
dm_suspend ebbnp # the read that holds the write is not over before it may be
dd if=/dev/urandom of="$d" bs=4k count=1 oflag=direct conv=notrunc 2>/dev/null &
writer=$!
background+=("$writer")
wait_for 10 held || fail "the write is not held"
printf 'abandon 1\npass-begin frozen 1\n' >"$W/both"
cat "$W/both" >&7 # in one write, which printf's are not: the owner must not wait between the two
answers() { [ "$(grep -c '^ok$' "$W/script.out")" = "$1" ]; }
wait_for 20 answers 3 || fail "owner: $(cat "$W/script.out")"
dm_resume ebbnp
wait_for 20 state_is ready || fail "the next pass does not drain: $(ebbtest pass-get 1)"
wait_for 20 test ! -d "/proc/$writer/fd/." || hung "$writer" "the writer"
grep -q error "$W/script.out" && fail "owner: $(cat "$W/script.out")"
exec 7>&-
wait_for 10 state_is void
echo 1 >/sys/devices/system/cpu/cpu1/online
detach_all
dmsetup remove ebbnp
