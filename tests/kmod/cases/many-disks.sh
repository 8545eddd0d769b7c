# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# machine: own
# timeout: 600
# 64 disks in one group: attached, written to by writers that go from one to the next, cut, compared,
# detached. Says what that costs.
load pool_bytes=33554432
disks=() ids=() n=$((SLOW ? 16 : 64))
for i in $(seq 1 "$n"); do disks+=("$(nullb "md$i" 4)") || fail "null_blk"; done
finish() { for i in $(seq 1 "$n"); do nullb_gone "md$i"; done; }
available() { awk '/^MemAvailable/ {print $2}' /proc/meminfo; }
ms() { date +%s%3N; }
memory=$(available) t=$(ms)
for d in "${disks[@]}"; do ids+=("$(attach "$d" 1)") || fail "attach"; done
say "attached $n disks in $(($(ms) - t)) ms, $((memory - $(available))) KiB with a pool of 32 MiB"
args=()
for d in "${disks[@]}"; do args+=(--disk "$d@0+100"); done
replicate r 1 "${ids[*]}" --initial --interval 100 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp w "${args[@]}" --engine mixed --writers 3 --batch 8
stamped_until w cuts r 10
replica_good r 10
judge r
for i in "${ids[@]}"; do [ "$(disk_get "$i" writes)" -ge 1 ] || fail "disk $i was not written to"; done
say "$(cat "$W/w.stamper.out")"
t=$(ms)
detach_all
say "detached in $(($(ms) - t)) ms"
