# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 500
# md raid1, raid5 and raid10, members and arrays tracked in one group, written in every way while a member
# fails, leaves and is rebuilt: also what md writes by itself (superblocks, bitmaps, parity, recovery).
modprobe -a raid1 raid10 raid456 || skip "no md"
names="a b c d e f g h i"
declare -A n
for m in $names; do n[$m]=$(nullb ml$m 16) || fail "null_blk"; done
array() { # array NUMBER LEVEL DISKS...
    local number=$1 level=$2
    shift 2
    mdadm --create "/dev/md$number" --run --level="$level" --raid-devices=$# --metadata=1.2 --bitmap=internal "$@" \
        >"$W/md$number.out" 2>&1 || fail "mdadm: $(cat "$W/md$number.out")"
}
array 21 1 "${n[a]}" "${n[b]}"
array 25 5 "${n[c]}" "${n[d]}" "${n[e]}"
array 20 10 "${n[f]}" "${n[g]}" "${n[h]}" "${n[i]}"
finish() {
    detach_all
    for a in 21 25 20; do mdadm --stop /dev/md$a; done
    for m in $names; do nullb_gone ml$m; done
}
load
ids=
for m in $names; do ids="$ids $(attach "${n[$m]}" 1)" || fail "attach"; done
for a in 21 25 20; do ids="$ids $(attach /dev/md$a 1)" || fail "attach"; done
replicate r 1 "$ids" --initial --interval 400 --compare
# All kinds but those with NOWAIT, as io_uring's are at first: raid1 and raid10 of 6.1 count one that they refuse
# as under way for ever (an array is never clean again), and those of some later kernels count too few (md waits for
# ever in a check).
kinds=buffered,flushed,mapped,direct,subblock,large,vectored,batched,sequential,hipri,forced,synced
mix w --disk /dev/md21 --disk /dev/md25 --disk /dev/md20 --rate 250 --kinds $kinds,discard,zeroout,punch,zero \
    --need direct,subblock,large,sequential,zeroout
idle() { grep -q idle "/sys/block/md$1/md/sync_action"; }
rebuilt() { idle "$1" && [ "$(cat "/sys/block/md$1/md/degraded")" = 0 ]; }
for pair in 21=b 25=d 20=g; do
    a=${pair%=*} m=${n[${pair#*=}]}
    wait_for 60 idle "$a" || fail "md$a is not in sync"
    mdadm "/dev/md$a" --fail "$m" --remove "$m" >/dev/null 2>&1 || fail "md$a: $m does not leave"
    wait_for 60 cuts r $(($(grep -c ^closed "$W/r.out") + 1))
    mdadm "/dev/md$a" --re-add "$m" >/dev/null 2>&1 || mdadm "/dev/md$a" --add "$m" >/dev/null 2>&1 || fail "md$a: $m does not come back"
    wait_for 60 rebuilt "$a" || fail "md$a is not rebuilt"
done
stamped_until w cuts r 6
for a in 21 25 20; do
    echo check >"/sys/block/md$a/md/sync_action"
    wait_for 60 idle "$a"
    say "md$a: mismatches $(cat "/sys/block/md$a/md/mismatch_cnt")"
    # Says so in its superblock some time after the last write.
    wait_for 30 grep -q clean "/sys/block/md$a/md/array_state" || fail "md$a does not become clean"
done
replica_good r 4
# shellcheck disable=SC2086
seen $ids
