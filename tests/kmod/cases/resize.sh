# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# machine: own
# A disk grows under us: it is flagged, and attached anew it is covered.
load
d=$(disk virtio1)
id=$(attach "$d" 1)
ebbtest mark-all "$id"
[ "$(disk_get "$id" sectors)" = 131072 ] || fail "size"
echo "HOST: resize virtio1 83886080"
wait_for 20 sh -c "[ \$(blockdev --getsz $d) = 163840 ]" || fail "the guest does not see the new size"
dd if=/dev/urandom of="$d" bs=1M seek=70 count=4 oflag=direct conv=notrunc 2>/dev/null || fail "write beyond the old end"
flagged() { [ $(($(disk_get "$id" resync_reasons) & 64)) = 64 ]; }
wait_for 10 flagged || fail "the resize was not flagged"
# The maps were made for the old size: the disk is attached anew.
expect "detach" ebbtest detach "$id"
id=$(attach "$d" 1)
[ "$(disk_get "$id" sectors)" = 163840 ] || fail "the new size is not known"
replicate r 1 "$id" --initial --interval 100 --compare
replica_good r 1
