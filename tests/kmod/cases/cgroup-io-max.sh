# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# A cgroup throttled by io.max: throttled bios come by twice, their holds and drains must not wait for
# the throttle for ever, and other groups' writes go on.
load
d=$(disk virtio0)
fresh "$d"
id=$(attach "$d" 1)
mount | grep -q cgroup2 || mount -t cgroup2 none /sys/fs/cgroup
echo +io >/sys/fs/cgroup/cgroup.subtree_control || skip "no io controller"
mkdir -p /sys/fs/cgroup/ebbslow
echo "$(cat "/sys/block/${d##*/}/dev") wbps=1000000 wiops=150" >/sys/fs/cgroup/ebbslow/io.max || skip "no io.max"
replicate r 1 "$id" --initial --interval 200 --depth 8 --slow-us 2000 --compare --log "$W/r.cuts" --tickets "$TICKETS"
( echo $BASHPID >/sys/fs/cgroup/ebbslow/cgroup.procs
  exec stamper --tickets "$TICKETS" --log "$W/slow.log" --disk "$d@0+2000" --engine aio --batch 8 --writers 1 \
      --seconds "$(seconds 6)" ) >"$W/slow.out" 2>&1 &
slow=$!
background+=("$slow")
dd if=/dev/urandom of="$d" bs=64k count=100 seek=300 oflag=direct conv=notrunc 2>/dev/null
wait "$slow" || fail "the throttled writer"
replica_good r 2
judge r
finish() { rmdir /sys/fs/cgroup/ebbslow; }
