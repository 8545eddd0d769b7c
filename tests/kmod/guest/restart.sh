# SPDX-License-Identifier: Apache-2.0
# What tests/kmod/restarts.py runs inside a guest, over several boots of one machine (bash).
# Given: KO (path of ebb.ko), SLOW. Disks are named by their serials.
set -u
export PATH=/ebb/build/tests/kmod:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
W=/dev/shm
fail() {
    echo "FAILED: $*"
    tail -n 20 "$W"/*.out 2>/dev/null
    ebbtest list 2>&1
    exit 1
}
expect() { "$@" || fail "$*"; }
wait_for() { # wait_for SECONDS COMMAND...
    local end=$((SECONDS + $1 * (1 + 3 * SLOW)))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}
dev() { # dev SERIAL[-PARTITION]
    local d
    for d in /sys/block/vd*; do
        [ "$(cat "$d/serial")" = "${1%-*}" ] || continue
        case $1 in *-*) echo "/dev/${d##*/}${1#*-}" ;; *) echo "/dev/${d##*/}" ;; esac
        return
    done
    fail "no disk $1"
}
field() { grep -o "\"$1\":[^,}]*" | head -1 | cut -d: -f2- | tr -d '"'; }
get() { ebbtest get "$1" | sed 's/.*"disk":{//' | field "$2"; }
load() {
    insmod "$KO" hold_deadline_ms=$((2000 + 6000 * SLOW)) owner_timeout_ms=$((60000 + 540000 * SLOW)) \
        log_deadline_ms=$((5000 + 15000 * SLOW)) log_cool_s=0 "$@" || fail "insmod"
}
unload() { # as nobody writes any more
    local id
    for id in $(ebbtest list | sed 's/.*"disk":{//' | grep -o '^"id":[0-9]*' | cut -d: -f2); do
        ebbtest detach "$id" || fail "detach $id"
    done
    rmmod ebb || fail "rmmod"
}
# attach DISK ID MAP SECTOR [create]: prints nothing; numbers are 1, 2, ...
attach() { ebbtest attach "$(dev "$1")" "$2" 1 "$(dev "$3")" "$4" 4096 ${5:+"$5"} >"$W/attach.out" 2>&1 || fail "attach $1: $(cat "$W/attach.out")"; }
is() { # is DISK FIELD WANT
    local got
    got=$(get "$1" "$2")
    [ "$got" = "$3" ] || fail "disk $1: $2 is $got, should be $3"
}
# replicate ARGUMENTS...: to its end; the account on standard output
replicate() {
    local args=(--group 1 --json "$W/r.json") id
    for id in ${IDS:-1}; do args+=(--replica "$id=/out/replica$id.img"); done
    replicator "${args[@]}" "$@" >"$W/r.out" 2>&1 || fail "replicator"
    cat "$W/r.json"
}
replicating() { # in the background
    local args=(--group 1 --json "$W/r.json") id
    for id in ${IDS:-1}; do args+=(--replica "$id=/out/replica$id.img"); done
    replicator "${args[@]}" "$@" >"$W/r.out" 2>&1 &
    wait_for 300 grep -q replicating "$W/r.out" || fail "the replicator did not start"
}
closed() { [ "$(grep -c '^closed$' "$W/r.out")" -ge "$1" ]; }
write() { # write DEVICE BLOCK COUNT: so many blocks from there on
    dd if=/dev/urandom of="$1" bs=4k seek="$2" count="$3" oflag=direct conv=notrunc 2>/dev/null || fail "write"
}
writing() { # writing DISK [RANGE]: in the background, for ever
    stamper --tickets "$W/tickets" --disk "$(dev "$1")@${2:-0+14000}" --engine mixed --writers 2 --seconds 600 >"$W/w.out" 2>&1 &
}
hot() { [ "$(get "${1:-1}" hot_regions)" -gt 0 ]; }
all_cold() { ebbtest confirm 1 && [ "$(get "${1:-1}" hot_regions)" = 0 ]; }
