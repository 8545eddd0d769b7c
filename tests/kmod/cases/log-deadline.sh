# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# The map device is slower than the deadline, for good: writes wait for the log no longer than that, and
# the area says by name that its log failed, once: it is not written again and again. With patience the
# map can be made anew; a detach waits for what is under way, and is a declared gap as ever.
load log_cool_s=0 log_deadline_ms=60000
d=$(nullb ld 64) && m=$(nullb lds 16 irqmode=2 completion_nsec=600000000) || fail "null_blk"
deadline() { echo "$1" >/sys/module/ebb/parameters/log_deadline_ms; }
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
cold() { ebbtest confirm 1 && is hot_regions 0; }
all_cold() { # all is replicated, and its regions are cold
    ebbtest mark-all "$id"
    replicate r 1 "$id" --cuts 1
    wait "$pid_r" || fail "replicator"
    wait_for 60 cold || fail "regions do not go cold"
}
given_up() { # writes to ever new regions until the log is late
    local region
    for region in $(seq 0 60); do
        dd if=/dev/urandom of="$d" bs=4k count=1 seek=$((region * 256)) oflag=direct conv=notrunc 2>/dev/null || fail "write"
        if is log_state 2; then return 0; fi
    done
    fail "the log is never given up"
}
written() { awk '{print $5}' "/sys/block/${m##*/}/stat"; }
still() { # nothing is written while five writes could have come to their end
    local before
    before=$(written)
    sleep 3
    [ "$(written)" = "$before" ]
}
says_failed() { # the newer one of the superblocks
    local slot
    slot=$(for slot in 0 8; do
        dd if="$m" bs=512 skip=$slot count=1 iflag=direct 2>/dev/null >"$W/slot"
        echo "$(od -An -tu8 -j8 -N8 "$W/slot") $(od -An -tu4 -j28 -N4 "$W/slot")"
    done | sort -n | tail -1)
    [ "${slot##* }" = 4 ]
}
all_cold
deadline 50
given_up
is resync_reasons 2048 || fail "reasons are $(disk_get "$id" resync_reasons)"
say "held at most $(($(disk_get "$id" log_held_ns_max) / 1000000)) ms"
wait_for 60 says_failed || fail "the area does not say that its log failed"
wait_for 30 still || fail "the superblock is written again and again"
# With another cookie there is something to be said again: once more.
before=$(written)
expect "confirm" ebbtest confirm 1 cookie
wait_for 30 still || fail "the superblock is written again and again after a cookie"
[ "$(written)" -le $((before + 2)) ] || fail "$(($(written) - before)) writes for one cookie"
deadline 60000
ebbtest mark-all "$id"
is log_state 1 || fail "the map is not made anew"
is resync_reasons 0 || fail "reasons are $(disk_get "$id" resync_reasons)"
all_cold
deadline 50
given_up
detach_all
deadline 60000
id=$(attach_logged "$d" 1 "$m" 0) || fail "attach again"
flagged "$id" 4096 || fail "the detach is not noted: $(disk_get "$id" resync_reasons)"
finish() {
    nullb_gone ld
    nullb_gone lds
}
detach_all
