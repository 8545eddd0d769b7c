# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# An owner that is silent for longer than the timeout loses its pass, and nothing else.
load owner_timeout_ms=700
d=$(nullb os 16) || fail "null_blk"
id=$(attach "$d" 1)
ebbtest mark-all "$id"
blocks=$(disk_get "$id" dirty_blocks)
printf 'pass-begin frozen 1\nsleep 2500\nend 1\npass-get 1\n' | ebbtest script >"$W/s.out" 2>&1
grep -q 'ESTALE' "$W/s.out" || fail "the silent owner kept its pass: $(cat "$W/s.out")"
[ "$(disk_get "$id" dirty_blocks)" = "$blocks" ] || fail "bits were lost"
# One that asks now and then keeps it, for longer than that.
echo 4000 >/sys/module/ebb/parameters/owner_timeout_ms
(echo "pass-begin frozen 1"; for _ in 1 2 3 4; do printf 'sleep 1200\npass-get 1\n'; done) | ebbtest script >"$W/s.out" 2>&1
[ "$(grep -c '"state_name":"ready"' "$W/s.out")" -ge 4 ] || fail "a pass was taken from an owner that spoke: $(cat "$W/s.out")"
finish() { nullb_gone os; }
detach_all
