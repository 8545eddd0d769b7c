# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# The replicator is killed in the middle of a frozen pass: the cut is void with that reason, every bit
# is back, and the next replicator brings an old replica up to date without a full copy.
load
d=$(disk virtio0)
fresh "$d"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --cuts 1 --interval 10
wait "$pid_r" || fail "first replicator"
cp "$W/r.$id.img" "$W/s.$id.img"
stamp w --disk "$d@0+4000" --engine aio --writers 2 --seconds "$(seconds 4)" --rate 2000
sleep 1
replicate r 1 "$id" --hang-in-pass
wait_for 20 grep -q 'in pass' "$W/r.out" || fail "no pass"
kill -KILL "$pid_r"
wait_for 5 sh -c 'ebbtest pass-get 1 2>&1 | grep -Eq "\"void_name\":\"owner\"|ENOENT"' || fail "the pass of a dead owner is not void"
stamped w
before=$(disk_get "$id" dirty_blocks)
[ "$before" -lt 4100 ] || fail "more is dirty than was written: a full copy proves nothing"
replicate s 1 "$id" --compare --interval 100
replica_good s 1
