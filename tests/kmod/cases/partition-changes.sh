# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Partitions come and go, at odd sectors too, while the disk is tracked and both the disk and its partitions
# are written through: the start of a partition is added as it is at the time of the write.
v=$(disk virtio0)
fresh "$v"
wipefs -qa "$v"
# The table of an earlier case may be overwritten, and its partitions be there nevertheless.
blockdev --rereadpt "$v" || fail "rereadpt"
load
id=$(attach "$v" 1)
replicate r 1 "$id" --initial --interval 100 --depth 8 --slow-us 1000 --compare
# The whole disk's last 16 MiB all the time; partitions before them.
mix whole --disk "$v@50331648+16777216" --discard-zeroes --need direct,subblock,buffered
turn=0
for start in 2048 2049 4103 40001 9 65536; do
    turn=$((turn + 1))
    addpart "$v" 1 "$start" 24003 || fail "addpart"
    wait_for 5 test -b "${v}1" || fail "no partition"
    addpart "$v" 3 $((start + 24003)) 8191 || fail "addpart"
    wait_for 5 test -b "${v}3" || fail "no partition"
    mixer --seed $turn --disk "${v}1" --disk "${v}3" --operations 60 --discard-zeroes --need direct >"$W/p.out" 2>&1 ||
        fail "partitions: $(cat "$W/p.out")"
    delpart "$v" 1 || fail "delpart"
    # Its number is another place now; its neighbour's place is as it was.
    addpart "$v" 1 $((start + 8)) 4096 || fail "addpart"
    mixer --seed $turn --disk "${v}3" --disk "${v}1" --operations 30 --discard-zeroes >"$W/p.out" 2>&1 ||
        fail "partitions: $(cat "$W/p.out")"
    resizepart "$v" 1 6000 || fail "resizepart"
    mixer --seed $turn --disk "${v}1" --operations 30 --discard-zeroes >"$W/p.out" 2>&1 || fail "partitions: $(cat "$W/p.out")"
    delpart "$v" 3 && delpart "$v" 1 || fail "delpart"
done
stamped_until whole cuts r 4
replica_good r 3
seen "$id"
exact r
