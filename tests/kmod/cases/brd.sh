# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.1
# brd is bio-based, without requests; where it has rw_page (6.1) it can bypass the hook and must be refused.
modprobe brd rd_nr=1 rd_size=32768 || skip "no brd"
finish() { rmmod brd; }
load
if ! ebbtest attach /dev/ram0 ram 1 >"$W/a.out" 2>&1; then
    grep -q EOPNOTSUPP "$W/a.out" || fail "$(cat "$W/a.out")"
    say "refused: $(cat "$W/a.out")"
    exit 0
fi
id=$(ebbtest list | sed 's/.*"disk":{//' | field id)
replicate r 1 "$id" --initial --interval 100 --compare --log "$W/r.cuts" --tickets "$TICKETS"
stamp w --disk "/dev/ram0@0+4000" --engine mixed --writers 3
stamped_until w cuts r 4
replica_good r 3
judge r
detach_all
