# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# not on kcsan: making a TiB dirty there, an access at a time, takes longer than an hour
# timeout: 900
# Memory in proportion to what is dirty (figure F11): at most 1 MiB per TiB when nothing is, at most 32 MiB
# per TiB for each map of which all is, besides; and given back when nothing is dirty any more. By what the
# module says of itself, and by what the kernel has less: neither may exceed it.
TIB=$((1 << 40))
load pool_bytes=4194304
d=$(nullb huge $((16 << 20)) memory_backed=0 discard=0) || fail "null_blk"
s=$(nullb small 64 memory_backed=0 discard=0) || fail "null_blk"
finish() { nullb_gone huge; nullb_gone small; }
free_bytes() { # what nobody holds, caches and the CPUs' own free pages among it
    echo 1 >/proc/sys/vm/stat_refresh
    awk '/^(MemFree|Buffers|Cached|SReclaimable):/ {n += $2 * 1024}
        /^ +count:/ {n += $2 * 4096}
        END {printf "%.0f\n", n}' /proc/meminfo /proc/zoneinfo
}
# vmalloc has what is larger than a page; by caller.
vmalloc_bytes() { awk '/\[ebb\]/ {n += $2} END {print n + 0}' /proc/vmallocinfo; }
# What an attached disk takes whatever its size, and the group and its pool.
before=$(free_bytes)
small=$(attach "$s" 1) || fail "attach"
say "64 MiB, group and pool of 4 MiB: $(((before - $(free_bytes)) / 1024)) KiB less, maps $(($(disk_get "$small" map_bytes) / 1024)) KiB"
before=$(free_bytes) vmalloc=$(vmalloc_bytes)
id=$(attach "$d" 1) || fail "attach"
idle=$(disk_get "$id" map_bytes)
taken=$((before - $(free_bytes))) arrays=$(($(vmalloc_bytes) - vmalloc))
say "16 TiB idle: maps $((idle / 1024)) KiB; the kernel has $((taken / 1024)) KiB less, of that vmalloc $((arrays / 1024)) KiB"
[ "$idle" -le $((16 << 20)) ] || fail "more than 1 MiB per TiB when nothing is dirty"
# The kernel's own changes by some hundreds of KiB; a guard page for each array.
[ "$taken" -le $((17 << 20)) ] || fail "the kernel has more than 1 MiB per TiB less"
[ "$arrays" -le $((idle + 64 * 4096)) ] || fail "map_bytes $idle, and vmalloc has $arrays"
# All of the first TiB dirty, in each of the maps in turn.
mib=$((1 << 20)) full=$((32 * mib))
grown() { # grown WHAT MAPS: no more than so many maps of a TiB
    local bytes=$(($(disk_get "$id" map_bytes) - idle)) less
    # Leaves that were let go of are on their way.
    back() { less=$((before - taken - $(free_bytes))) && [ "$less" -le $((full * $2 + 4 * mib)) ]; }
    wait_for 60 back "$@" || true
    say "$1: $((bytes / mib)) MiB more by its own count, the kernel has $((less / mib)) MiB less"
    [ "$bytes" -le $((full * $2)) ] || fail "$1: more than $2 maps of 32 MiB"
    [ "$less" -le $((full * $2 + 4 * mib)) ] || fail "$1: the kernel has $less bytes less"
}
passes=0
pass() { # pass LINES...: a live one over one socket, PASS standing for its number, to its end and confirmation
    passes=$((passes + 1))
    printf '%s\n' "pass-begin live 1" "sleep 300" "$@" "end PASS" "confirm 1" |
        sed "s/PASS/$passes/" | ebbtest script >"$W/pass.out" 2>&1
    grep -q error "$W/pass.out" && fail "pass $passes: $(cat "$W/pass.out")"
}
expect mark ebbtest mark "$id" 0 $((TIB / 512))
[ "$(disk_get "$id" dirty_blocks)" = $((TIB / 4096)) ] || fail "not all of a TiB is dirty"
grown "a TiB dirty" 1
# It goes from the current map through those of the pass, of what is released and of what is unconfirmed.
pass "release PASS $id 0 $((TIB / 512))"
grown "sent and confirmed" 3
pass
pass
now=$(disk_get "$id" map_bytes)
[ "$now" = "$idle" ] || fail "nothing has been dirty for two epochs, and the maps have $now bytes, not $idle"
grown "two epochs later" 0
# Memory in proportion: one block in each of 64 leaves.
for ((i = 0; i < 64; i++)); do expect mark ebbtest mark "$id" $((i << 19)) 8; done
now=$(disk_get "$id" map_bytes)
[ "$now" = $((idle + 64 * 4096)) ] || fail "64 leaves have $((now - idle)) bytes"
detach_all
