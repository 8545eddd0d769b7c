# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# The map device is far too slow: writes wait for the log no longer than its deadline. What was under
# way comes back later, and then the map can be made anew; a detach waits for it.
load log_cool_s=0 log_deadline_ms=400
d=$(nullb ld 64) || fail "null_blk"
m=$(disk virtio1)
id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
is() { [ "$(disk_get "$id" "$1")" = "$2" ]; }
ebbtest mark-all "$id"
replicate r 1 "$id" --cuts 1
wait "$pid_r" || fail "replicator"
cold() { ebbtest confirm 1 && is hot_regions 0; }
wait_for 20 cold || fail "regions do not go cold"
try() { # writes to ever new regions until the log is given up
    local region
    for region in $(seq 0 60); do
        dd if=/dev/urandom of="$d" bs=4k count=1 seek=$((region * 256)) oflag=direct conv=notrunc 2>/dev/null || fail "write"
        if is log_state 2; then return 0; fi
    done
    return 1
}
echo "HOST: throttle virtio1 1"
sleep 1
try || fail "the log is never given up"
is resync_reasons 2048 || fail "reasons are $(disk_get "$id" resync_reasons)"
say "held at most $(($(disk_get "$id" log_held_ns_max) / 1000000)) ms"
echo "HOST: throttle virtio1 0"
active() { ebbtest mark-all "$id" && is log_state 1 && is resync_reasons 0; }
wait_for 30 active || fail "the map is not made anew"
replicate r 1 "$id" --cuts 1
wait "$pid_r" || fail "replicator"
wait_for 20 cold || fail "regions do not go cold"
echo "HOST: throttle virtio1 1"
sleep 1
try || fail "the log is never given up again"
(sleep 3; echo "HOST: throttle virtio1 0") &
background+=($!)
finish() { nullb_gone ld; }
detach_all
