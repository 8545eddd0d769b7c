# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12
# Two groups of two disks stand for two machines; writers go from one to the other, each write issued
# after the one before it was acknowledged. The machines hear of a cut one after the other. Behind
# their gates 100 cuts are causal over both; without, the same judge finds cuts that are not.
load gate_deadline_max_ms=60000
a=$(disk virtio0) b=$(nullb gt 16) c=$(disk scsi0) d=$(disk virtio1)
for x in "$a" "$b" "$c" "$d"; do fresh "$x"; done
ia=$(attach "$a" 1) ib=$(attach "$b" 1) ic=$(attach "$c" 2) id=$(attach "$d" 2)
regions=(--disk "1:$ia@0+200" --disk "2:$ic@0+200" --disk "1:$ib@0+200" --disk "2:$id@0+200")
stamp w --disk "$a@0+200" --disk "$c@0+200" --disk "$b@0+200" --disk "$d@0+200" --engine mixed --writers 3 --batch 8
many=$((SLOW ? 20 : 100))
coordinator "${regions[@]}" --cuts "$many" --deadline-ms 60000 --skew-us 3000 --tickets "$TICKETS" \
    --log "$W/r.cuts" >"$W/r.out" 2>&1 || fail "no $many common cuts"
say "behind gates: $(tail -1 "$W/r.out")"
coordinator "${regions[@]}" --cuts 10 --no-gate --skew-us 20000 --tickets "$TICKETS" \
    --log "$W/control.cuts" >"$W/control.out" 2>&1 || fail "no cuts without gates"
kill -TERM "$pid_w"
stamped w
for x in $ia $ib $ic $id; do
    [ "$(disk_get "$x" gated)" -ge 1 ] || fail "no write was held by the gate of disk $x: the test proves nothing"
done
judge r
stampcheck --log "$W/w.log.0" --log "$W/w.log.1" --log "$W/w.log.2" --cuts "$W/control.cuts" >"$W/judge.out" 2>&1 &&
    fail "cuts without gates are causal as well: the test proves nothing"
say "without: $(tail -1 "$W/judge.out")"
finish() { nullb_gone gt; }
detach_all
