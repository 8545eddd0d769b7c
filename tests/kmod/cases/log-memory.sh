# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# A disk of 16 TiB with a log: idle, at most 1 MiB per TiB, by its own account and by the system's.
load pool_bytes=65536
d=$(nullb lm $((16 * 1024 * 1024)) memory_backed=0 discard=0) || fail "null_blk"
m=$(nullb lmm 1024 memory_backed=0 discard=0) || fail "null_blk"
free() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo
}
AREA=1200000
# What the system says goes up and down by megabytes after other cases: what is really used is so each time.
for attempt in 1 2 3 4 5; do
    before=$(free)
    id=$(attach_logged "$d" 1 "$m" 0 create) || fail "attach"
    after=$(free)
    bytes=$(disk_get "$id" map_bytes)
    say "$bytes bytes by its account, $((before - after)) kB by the system's"
    # Besides maps: the image device, workers, the statistics of CPUs.
    [ $((before - after)) -gt $(((16 << 10) + 4096)) ] || break
    [ "$attempt" -lt 5 ] || fail "$((before - after)) kB"
    expect "detach" ebbtest detach "$id"
done
[ "$(disk_get "$id" region_sectors)" = 8192 ] || fail "regions of $(disk_get "$id" region_sectors)"
[ "$bytes" -le $((16 << 20)) ] || fail "$bytes bytes"
# A write beyond every limit of 32 bits is noted where it belongs.
dd if=/dev/zero of="$d" bs=4k count=1 seek=$((16 * 1024 * 1024 * 256 - 1)) oflag=direct conv=notrunc 2>/dev/null || fail "write"
[ "$(disk_get "$id" hot_regions)/$(disk_get "$id" dirty_blocks)" = 1/1 ] || fail "not noted"
finish() {
    nullb_gone lm
    nullb_gone lmm
}
detach_all
