# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# RWF_NOWAIT and io_uring writes while blocks are frozen and preserved: held as any other, and never
# failed with -EAGAIN because of us.
load
d=$(nullb nw 32 submit_queues=2) || fail "null_blk"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --interval 50 --depth 8 --slow-us 5000 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp u --disk "$d@0+2000" --engine uring --writers 2 --seconds "$(seconds 5)" --rate 1500
fio --name=nw --filename="$d" --offset=16M --size=8M --rw=randwrite --bs=4k --ioengine=pvsync2 --nowait=1 --direct=1 \
    --time_based --runtime="$(seconds 4)" --randseed=7 --output="$W/fio.out" || fail "NOWAIT: $(grep -i err "$W/fio.out")"
stamped u
[ "$(disk_get "$id" held)" -ge 1 ] || fail "nothing was held: the test proves nothing"
replica_good r 3
judge r
finish() { nullb_gone nw; }
detach_all
