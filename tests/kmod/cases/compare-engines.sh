# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# Whole disks: buffered, direct, libaio batches and io_uring writes on every kind of disk at once; the
# replica equals the disk byte by byte, and every cut on the way holds the stamps it must.
load
n=$(nullb eng 64 queue_mode=2 submit_queues=2) || fail "null_blk"
disks="$(disk lsi0) $(disk scsi0) $(disk virtio0) $n"
ids=
args=()
for d in $disks; do
    fresh "$d"
    ids="$ids $(attach "$d" 1)" || fail "attach $d"
    args+=(--disk "$d@0+4000")
done
replicate r 1 "$ids" --initial --interval 400 --compare --log "$W/r.cuts" --tickets "$TICKETS"
for engine in buffered direct aio uring; do
    stamp "$engine" "${args[@]}" --engine $engine --writers 1 --seconds "$(seconds 3)" --rate 1500 --seed $RANDOM
    stamped $engine
    rm -f "$W/stamps"
    mkdir -p "$W/$engine"
    mv "$W/$engine".log.* "$W/$engine/"
done
replica_good r 4
finish() { nullb_gone eng; }
detach_all
