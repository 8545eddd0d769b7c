# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 240
# kernels: 6.1 6.12
# A module that gives up every cut is safe and useless. 4 KiB random writes over a working set of four
# times the pool, at 30 % or more of what the bare disk does: at least 60 cuts, 95 % of them close, and
# half of them preserve 100 blocks or more.
d=$(nullb live 64 submit_queues=2 irqmode=2 completion_nsec=1000000) || fail "null_blk"
run() { # run SECONDS [RATE]: prints writes a second
    exec fio --name=l --filename="$d" --size=18M --norandommap=1 --rw=randwrite --bs=4k --direct=1 --ioengine=libaio \
        --iodepth=16 --time_based --runtime="$1" ${2:+--rate_iops=$2} --output="$W/fio" --output-format=terse \
        --terse-version=3
}
rate_of() { tail -1 "$W/fio" | cut -d';' -f49; }
enough() { [ "$(ebbtest pass-get 1 | sed 's/.*"pass":{//' | field id)" -ge 68 ]; }
(run 4) || fail "fio"
bare=$(rate_of)
load pool_bytes=4194304
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 500 --compare --depth 32 --slow-us 2500
(run 600 $((bare * 40 / 100))) &
fio=$!
background+=("$fio")
wait_for 150 enough || say "fewer cuts than wanted by now"
kill -INT "$fio"
wait "$fio"
got=$(rate_of)
say "bare $bare/s, tracked $got/s ($((got * 100 / bare)) %)"
replica_good r 60
begun=$(field begun <"$W/r.json") closed=$(field closed <"$W/r.json") median=$(field preserved_median <"$W/r.json")
[ $((got * 100)) -ge $((bare * 30)) ] || fail "the load was less than 30 % of the bare disk's"
[ $((closed * 100)) -ge $((begun * 95)) ] || fail "$closed of $begun cuts closed"
[ "$median" -ge 100 ] || fail "median of $median preserved blocks"
finish() { nullb_gone live; }
detach_all
