# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 300
# Random commands with right and wrong attributes over several sockets, while the disks that they attach,
# with a map or without, cut, gate and detach are written to: everything is answered, no write fails or hangs, and afterwards
# the module works. The seed is said; NETLINK_SEED takes another one.
load log_cool_s=0 pool_bytes=1048576 gate_deadline_max_ms=50 hold_deadline_ms=$((200 + 800 * SLOW))
a=$(nullb ng0 16 submit_queues=2) b=$(nullb ng1 16 submit_queues=2) c=$(nullb ng2 8) m=$(nullb ng3 8) || fail "null_blk"
stamp w --disk "$a@0+2000" --disk "$b@0+2000" --disk "$c@0+1000" --engine mixed --writers 3 --batch 8
seed=${NETLINK_SEED:-1}
say "seed $seed"
netlinkfuzz --seed "$seed" --threads 4 --messages $((SLOW ? 400 : 1500)) --dev "$a" --dev "$b" --dev "$c" --map "$m" \
    >"$W/fuzz.out" 2>&1 || fail "seed $seed: $(cat "$W/fuzz.out")"
say "$(tr '\n' ' ' <"$W/fuzz.out")"
for answer in ok EINVAL ENOENT EBUSY ESTALE EPERM ERANGE; do
    grep -q "^$answer " "$W/fuzz.out" || fail "seed $seed: nothing was answered $answer: the test proves nothing"
done
kill -TERM "$pid_w"
stamped w
say "$(cat "$W/w.stamper.out")"
detach_all
ids="$(attach "$a" 1) $(attach "$b" 1) $(attach "$c" 1)"
replicate r 1 "$ids" --initial --interval 100 --compare
replica_good r 1
[ "$(ebbtest info | field pool_used_bytes)" = 0 ] || fail "the pool is not empty"
finish() { nullb_gone ng0; nullb_gone ng1; nullb_gone ng2; nullb_gone ng3; }
detach_all
