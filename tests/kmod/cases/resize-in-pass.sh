# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# machine: own
# A disk grows and shrinks in the middle of a frozen pass and under load: it is flagged, what the pass has
# of the blocks that are still there is right or void, and attached anew it is covered.
load
d=$(disk virtio1)
fresh "$d"
id=$(attach "$d" 1)
replicate r 1 "$id" --initial --cuts 1 --interval 10
wait "$pid_r" || fail "first replicator"
size_is() { [ "$(blockdev --getsz "$d")" = "$1" ]; }
flagged() { [ $(($(disk_get "$id" resync_reasons) & 64)) = 64 ]; }
state() { ask pass-get 1 && [[ $answer == *"$1"* ]]; }
begin() { # a pass over blocks 0 to 99 and the last ones
    coproc EBB { ebbtest script; }
    must mark "$id" 0 800
    must mark "$id" 130272 800
    must pass-begin frozen 1
    wait_for 20 state '"state_name":"ready"' || fail "not ready: $answer"
    pass=$(echo "$answer" | sed 's/.*"pass":{//' | field id)
}
stamp w --disk "$d@200+4000" --engine mixed --writers 2
begin
echo "HOST: resize virtio1 83886080"
wait_for 20 size_is 163840 || fail "the guest does not see the new size"
dd if=/dev/urandom of="$d" bs=1M seek=70 count=4 oflag=direct conv=notrunc 2>/dev/null || fail "write beyond the old end"
wait_for 20 flagged || fail "growing was not flagged"
state '"state_name":"ready"' || fail "growing has cost the pass: $answer"
dd if="$(image_of "$id")" of=/dev/null bs=4k count=100 iflag=direct 2>/dev/null || fail "reading the image"
must release "$pass" "$id" 0 800
must abandon 1
hang_up
kill -TERM "$pid_w"
stamped w
expect "detach" ebbtest detach "$id"
id=$(attach "$d" 1)
[ "$(disk_get "$id" sectors)" = 163840 ] || fail "the new size is not known"
replicate s 1 "$id" --initial --cuts 2 --interval 10 --compare
wait "$pid_s" || fail "replicator after growing"
# Now it shrinks, to three quarters of what it was at first.
stamp v --disk "$d@200+4000" --engine mixed --writers 2
begin
echo "HOST: resize virtio1 50331648"
wait_for 20 size_is 98304 || fail "the guest does not see the new size"
wait_for 20 flagged || fail "shrinking was not flagged"
# What is gone cannot be preserved, written or read; nothing else comes of it.
dd if=/dev/urandom of="$d" bs=4k seek=16284 count=100 oflag=direct conv=notrunc 2>/dev/null
dd if="$(image_of "$id")" of=/dev/null bs=4k skip=16284 count=100 iflag=direct 2>/dev/null
ask pass-get 1
say "after shrinking: $(echo "$answer" | sed 's/.*"pass":{//' | field state_name)"
kill -TERM "$pid_v"
stamped v
hang_up
ebbtest abandon 1
expect "detach" ebbtest detach "$id"
id=$(attach "$d" 1)
[ "$(disk_get "$id" sectors)" = 98304 ] || fail "the smaller size is not known"
replicate t 1 "$id" --initial --interval 100 --compare
replica_good t 1
