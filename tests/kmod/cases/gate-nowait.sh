# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Gates closed again and again under RWF_NOWAIT, io_uring, large writes that are split, discards and
# writes through dm: all are held and none fails, and what arrives is what was written.
load gate_deadline_max_ms=60000
d=$(nullb gn 64 submit_queues=2 hw_queue_depth=1024) || fail "null_blk"
echo 32 >"/sys/block/${d##*/}/queue/max_sectors_kb"
# A queue that is full refuses NOWAIT writes by itself: this one never is.
echo none >"/sys/block/${d##*/}/queue/scheduler"
modprobe dm-mod
dmsetup create ebbgn --table "0 65536 linear $d 65536" && dmsetup mknodes
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --cuts 1 --interval 10
wait "$pid_r" || fail "first replicator"
stamp u --disk "$d@0+2000" --engine uring --writers 2
fio --name=nw --filename="$d" --offset=16M --size=8M --rw=randwrite --bs=4k --ioengine=pvsync2 --nowait=1 --direct=1 \
    --time_based --runtime=3600 --randseed=7 --exec_prerun=true --output="$W/fio.out" &
fio=$!
background+=("$fio")
fio --name=big --filename="$d" --offset=24M --size=8M --rw=randwrite --bs=512k --ioengine=libaio --iodepth=4 --direct=1 \
    --time_based --runtime=3600 --randseed=9 --exec_prerun=true --output="$W/big.out" &
big=$!
background+=("$big")
fio --name=dm --filename=/dev/mapper/ebbgn --size=16M --rw=randwrite --bs=64k --ioengine=libaio --iodepth=8 --direct=1 \
    --time_based --runtime=3600 --randseed=11 --exec_prerun=true --output="$W/dm.out" &
dm=$!
background+=("$dm")
fio --name=trim --filename="$d" --offset=48M --size=8M --rw=randtrim --bs=64k --ioengine=libaio --iodepth=4 --direct=1 \
    --time_based --runtime=3600 --randseed=13 --exec_prerun=true --output="$W/trim.out" &
trim=$!
background+=("$trim")
# Each leaves a file as it begins. Before, none of its writes meets a gate, and a SIGINT would be lost: the shell
# starts what runs in the background with that ignored.
begun() {
    local name
    for name in nw big dm trim; do [ -e "$W/$name.prerun.txt" ] || return 1; done
}
wait_for 120 begun || fail "fio does not write: $(ls "$W")"
coordinator --disk "1:$id@0+2000" --cuts $((SLOW ? 6 : 20)) --deadline-ms 60000 --hold-us 50000 --tickets "$TICKETS" \
    --log "$W/r.cuts" >"$W/c.out" 2>&1 || fail "no common cuts"
say "$(tail -1 "$W/c.out")"
for p in $fio $big $dm $trim; do kill -INT "$p"; done
for p in $fio $big $dm $trim; do wait "$p"; done
grep -iE "error|err= *[1-9]" "$W/fio.out" "$W/big.out" "$W/dm.out" "$W/trim.out" && fail "a write failed"
kill -TERM "$pid_u"
stamped u
[ "$(disk_get "$id" gated)" -ge 10 ] || fail "hardly anything was held: the test proves nothing"
judge r
ebbtest mark-all "$id"
replicate r 1 "$id" --compare
replica_good r 1
finish() { dmsetup remove ebbgn; nullb_gone gn; }
dmsetup remove ebbgn
detach_all
