# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# memory: 384
# timeout: 400
# A small guest whose memory is used up, so that it swaps to a tracked disk, with buffered and direct
# writers on two tracked disks and cuts all the time: nothing is lost, nothing hangs.
load pool_bytes=4194304
a=$(disk virtio0) b=$(disk scsi0) s=$(disk virtio1)
fresh "$a"
fresh "$b"
fresh "$s"
ids="$(attach "$a" 1) $(attach "$b" 1)"
is=$(attach "$s" 1)
mkswap "$s" >/dev/null || fail "mkswap"
swapon "$s" || fail "swapon"
finish() { swapoff "$s"; }
# The replicas are no files in memory: they are the other disks.
echo 1000 >/proc/self/oom_score_adj
mkdir -p "$W/cuts"
for i in $(seq 1 1000); do
    printf 'pass-begin frozen 1\nsleep 300\nabandon 1\n'
done | ebbtest script >"$W/cuts.out" 2>&1 &
cutting=$!
background+=("$cutting")
stamp w --disk "$a@0+4000" --disk "$b@0+4000" --engine mixed --writers 3 --batch 8
swapped() { awk '/^SwapTotal/ {t = $2} /^SwapFree/ {print t - $2}' /proc/meminfo; }
available() { awk '/^MemAvailable/ {print $2}' /proc/meminfo; }
cat >"$W/hog.py" <<'PYTHON'
import sys, time
pages = []
size = int(sys.argv[1])
for i in range(size):
    pages.append(bytearray(str(i).encode().ljust(4096, b'x')) * 256)
print('full', flush=True)
end = time.time() + float(sys.argv[2])
turn = 0
while time.time() < end:
    for i, p in enumerate(pages):
        assert p.startswith(str(i).encode()), 'a page is wrong'
        p[5000 + turn % 1000] = 1
    turn += 1
print('pages are right', turn, flush=True)
PYTHON
size=$(($(available) / 1024 + 16))
say "available $(available) KiB, to be used: $size MiB"
python3 "$W/hog.py" "$size" "$(seconds 15)" >"$W/hog.out" 2>&1 &
hog=$!
background+=("$hog")
wait "$hog" || fail "$(cat "$W/hog.out")"
say "$(tail -1 "$W/hog.out"), swap in use $(swapped) KiB, writes to it $(disk_get "$is" writes)"
[ "$(disk_get "$is" writes)" -ge 100 ] || fail "nothing was swapped: the test proves nothing"
kill -TERM "$pid_w"
stamped w
say "$(cat "$W/w.stamper.out"), coarse marks $(for i in $ids $is; do disk_get "$i" coarse_marks; done | tr '\n' ' ')"
[ "$(grep -c '"state_name":"draining"' "$W/cuts.out")" -ge 5 ] || fail "hardly any cut"
kill -KILL "$cutting"
wait "$cutting"
expect "swapoff" swapoff "$s"
# All of the stamps are there.
stampcheck --log "$W/w.log.0" --log "$W/w.log.1" --log "$W/w.log.2" --image "0=$a" --image "1=$b" >"$W/judge.out" 2>&1 || fail "stamps: $(tail -3 "$W/judge.out")"
# And the maps know of each block that was written: the disks were empty when they were attached, and so is the replica.
ebbtest abandon 1
replicate r 1 "$ids $is" --cuts 1 --compare
wait "$pid_r" || fail "the maps do not know of all: $(tail -3 "$W/r.out")"
say "$(cat "$W/r.json")"
expect "detach" ebbtest detach "$is"
