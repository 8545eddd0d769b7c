# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 600
# not on kcsan: with 20 writes a second, as there, no cut preserves as many blocks as are demanded
# A module that gives up every cut is safe and useless. 4 KiB random writes over a working set of more
# than four times the pool: at least 40 cuts, 95 % of them close, half of them preserve 100 blocks or
# more, at 30 % or more of the rate of a bare disk. That one is its twin, written to by the same job at
# the same time; and cuts and their reader keep pace with the writes, not with the clock: so whatever
# else the host does, the numbers are the same.
d=$(nullb live 32 submit_queues=2 irqmode=2 completion_nsec=1000000) || fail "null_blk"
t=$(nullb twin 32 submit_queues=2 irqmode=2 completion_nsec=1000000) || fail "null_blk"
finish() { nullb_gone live; nullb_gone twin; }
write_to() { # write_to DISK NAME: until it is told to stop
    exec fio --name="$2" --filename="$1" --size=9M --norandommap=1 --rw=randwrite --bs=4k --direct=1 \
        --ioengine=libaio --iodepth=16 --time_based --runtime=1000 --output="$W/$2.out"
}
writes_of() { awk '{print $5}' "/sys/block/${1##*/}/stat"; }
enough() { [ "$(ebbtest pass-get 1 | sed 's/.*"pass":{//' | field id)" -ge 48 ]; }
load pool_bytes=2097152
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 0 --cut-writes 425 --release-writes 50 --compare
(write_to "$d" tracked) &
background+=($!)
(write_to "$t" bare) &
background+=($!)
busy() { [ "$(writes_of "$d")" -ge 200 ] && [ "$(writes_of "$t")" -ge 200 ]; }
wait_for 60 busy || fail "fio does not write"
tracked=$(writes_of "$d") bare=$(writes_of "$t")
wait_for 500 enough || fail "not 46 cuts in 500 s"
tracked=$(($(writes_of "$d") - tracked)) bare=$(($(writes_of "$t") - bare))
kill -INT "${background[@]:1}"
wait "${background[@]:1}"
say "writes: tracked $tracked, bare $bare ($((tracked * 100 / bare)) %)"
replica_good r 40
begun=$(field begun <"$W/r.json") closed=$(field closed <"$W/r.json") median=$(field preserved_median <"$W/r.json")
[ $((tracked * 100)) -ge $((bare * 30)) ] || fail "the load was less than 30 % of the bare disk's"
[ $((closed * 100)) -ge $((begun * 95)) ] || fail "$closed of $begun cuts closed"
held=$(field held_ms_max <"$W/r.json")
[ "${held%.*}" -le $((2200 + 6000 * SLOW)) ] || fail "a write was held for $held ms: longer than the deadline of load()"
[ "$median" -ge 100 ] || fail "median of $median preserved blocks"
detach_all
