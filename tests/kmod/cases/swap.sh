# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# Swapping to a tracked disk under memory pressure while cuts are taken: no deadlock, no loss.
load
d=$(disk virtio0)
fresh "$d"
mkswap -q "$d" >/dev/null 2>&1 || mkswap "$d" >/dev/null
id=$(attach "$d" 1)
swapon "$d" || fail "swapon"
finish() { swapoff "$d"; }
replicate r 1 "$id" --initial --interval 300 --compare
mkdir -p /sys/fs/cgroup/ebbswap
echo +memory >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
echo 24M >/sys/fs/cgroup/ebbswap/memory.high || skip "no memory controller"
( echo $BASHPID >/sys/fs/cgroup/ebbswap/cgroup.procs
  exec python3 -c "
import time
pages = [bytearray(str(i).encode().ljust(4096, b'x') * 256) for i in range(48)]
for turn in range(3):
    for i, p in enumerate(pages):
        assert p.startswith(str(i).encode()), 'swapped page is wrong'
        p[5000 + turn] = 1
print('pages are right')
" ) >"$W/mem.out" 2>&1 &
mem=$!
background+=("$mem")
wait "$mem" || fail "$(cat "$W/mem.out")"
[ "$(disk_get "$id" writes)" -ge 100 ] || fail "nothing was swapped: the test proves nothing"
expect "swapoff" swapoff "$d"
replica_good r 2
