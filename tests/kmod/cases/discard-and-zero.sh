# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 6.12 sid
# Discards, zeroing by blkdiscard -z and by fallocate, aligned and not, between writes, under cuts.
load
d=$(disk virtio0) n=$(nullb dz 64) || fail "null_blk"
fresh "$d"
ids="$(attach "$d" 1) $(attach "$n" 1)"
replicate r 1 "$ids" --initial --interval 200 --compare
stamp w --disk "$d@0+6000" --disk "$n@0+6000" --engine direct --writers 2 --seconds "$(seconds 8)" --rate 800
for i in 1 2 3 4 5 6; do
    for t in $d $n; do
        blkdiscard -o $((i * 1048576)) -l 1048576 "$t" || fail "discard"
        blkdiscard -o $((i * 1048576 + 512 * 3)) -l $((4096 * 3 + 512)) "$t"
        blkdiscard -z -o $((i * 3145728)) -l 524288 "$t" || fail "zero"
        fallocate -p -o $((i * 4194304)) -l 262144 "$t" 2>/dev/null
        fallocate -z -o $((i * 4194304 + 1048576)) -l 262144 "$t" 2>/dev/null
        sleep 0.2
    done
done
stamped w
replica_good r 3
[ "$(disk_get "${ids%% *}" discards)" -ge 6 ] || fail "discards were not counted"
# A discarded range is named as such; a range that is discarded but in part is not.
i=${ids##* }
blkdiscard -o 33554432 -l 1048576 "$n"
blkdiscard -o $((50331648 + 512)) -l 2048 "$n"
python3 - "$i" >"$W/map.out" 2>&1 <<'PY' || fail "discard mask: $(cat "$W/map.out")"
import re, subprocess, sys
p = subprocess.Popen(["ebbtest", "script"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
def ask(line):
    p.stdin.write(line + "\n"); p.stdin.flush()
    out = []
    while True:
        answer = p.stdout.readline().strip()
        if answer == "ok" or answer.startswith("error"):
            return out, answer
        out.append(answer)
begun, _ = ask("pass-begin frozen 1")
number = re.search(r'"pass":\{"id":(\d+)', begun[0]).group(1)
for _ in range(100):
    out, answer = ask(f"map {number} {sys.argv[1]} 0")
    if answer == "ok": break
    ask("sleep 50")
extents = [tuple(map(int, e.split(","))) for e in re.findall(r"\[(\d+,\d+,\d+)\]", out[0])]
print(extents)
assert (65536, 2048, 1) in extents, "the discarded MiB"
assert any(s <= 98304 < s + c and not f & 1 for s, c, f in extents), "a block discarded in part"
PY
finish() { nullb_gone dz; }
ebbtest abandon 1
detach_all
