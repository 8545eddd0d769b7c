# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 900
# 2,000 cuts under load, with pools and maps in use: the maps never have more than their leaves, the slab and
# the kernel's other memory are as large after the last as after the first hundred, and the replica is right.
cuts=$((SLOW ? 300 : 2000)) first=$((SLOW ? 60 : 200))
load pool_bytes=4194304
d=$(nullb th 16 submit_queues=2) || fail "null_blk"
id=$(attach "$d" 1)
# One leaf each of two maps, of what each had discarded, of what was released and of what is unconfirmed. Whether
# one is there depends on what was written since the last cuts.
most=$(($(disk_get "$id" map_bytes) + 6 * 4096))
begun() { ebbtest pass-get 1 | sed 's/.*"pass":{//' | field id; }
so_many() { [ "$(begun)" -ge "$1" ]; }
# Everything that may have grown by then: each block has been written, each leaf is there.
dd if=/dev/urandom of="$d" bs=1M oflag=direct conv=notrunc 2>/dev/null
replicate r 1 "$id" --initial --interval 0 --compare
stamp w --disk "$d@0+500" --engine mixed --writers 2 --batch 8 --rate 300
memory() { awk '/^Slab:|^Percpu:|^VmallocUsed:|^KernelStack:/ {sum += $2} END {print sum}' /proc/meminfo; }
wait_for 300 so_many "$first" || fail "no $first cuts"
maps=$(disk_get "$id" map_bytes) kernel=$(memory)
wait_for 800 so_many "$cuts" || fail "no $cuts cuts: $(begun)"
maps2=$(disk_get "$id" map_bytes) kernel2=$(memory)
kill -TERM "$pid_w"
stamped w
say "after $first cuts: maps $maps bytes, slab, percpu and vmalloc $kernel KiB; after $cuts: $maps2, $kernel2 KiB"
[ "$maps" -le $most ] && [ "$maps2" -le $most ] || fail "the maps have grown beyond $most bytes"
# A leak of 100 bytes a cut would be 200 KiB, within what logs and page tables of the writers take: this
# sees leaks of pages. Smaller ones are seen by kmemleak, which looks when the module is gone (guest/leaks.sh).
[ $((kernel2 - kernel)) -lt 6000 ] || fail "the kernel's memory has grown by $((kernel2 - kernel)) KiB"
replica_good r $((cuts / 2))
finish() { nullb_gone th; }
detach_all
