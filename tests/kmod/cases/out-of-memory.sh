# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# not on 5.10 6.1 6.12 trixie sid: Debian's kernels inject no faults
# Allocations fail (fault injection, for the writers alone): no leaf of the map means coarse marks, and
# no structure, nor any in the reserve, means that a write waits for one. Nothing is lost, none fails.
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
inject() { # inject NAME SETTING=VALUE...
    local dir=/sys/kernel/debug/$1 set
    [ -d "$dir" ] || skip "no $1"
    for set in times=-1 interval=1 verbose=0 "${@:2}" probability=100; do
        echo "${set#*=}" >"$dir/${set%%=*}" || fail "inject $1 $set"
    done
}
finish() {
    echo 0 >/sys/kernel/debug/fail_page_alloc/probability
    echo 0 >/sys/kernel/debug/failslab/probability
    dmsetup remove ebbom
    nullb_gone om
}
load hold_deadline_ms=120000
n=$(nullb om 64) && d=$(linear ebbom "$n") || fail "no disk"
id=$(attach "$d" 1)
# For the writer alone, and where an allocation may not wait.
inject fail_page_alloc task-filter=1 ignore-gfp-wait=1 min-order=0
(echo 1 >/proc/self/make-it-fail
    exec dd if=/dev/urandom of="$d" bs=4k count=3 seek=1000 oflag=direct conv=notrunc 2>"$W/dd.out") || fail "the write"
echo 0 >/sys/kernel/debug/fail_page_alloc/probability
coarse=$(disk_get "$id" coarse_marks) dirty=$(disk_get "$id" dirty_blocks)
say "coarse marks $coarse, dirty blocks $dirty"
[ "$coarse" -ge 1 ] || fail "a leaf was there all the same: the test proves nothing"
[ "$dirty" = 1024 ] || fail "a coarse mark is not its chunk"
replicate r 1 "$id" --interval 100 --compare
replica_good r 1
# More at once than the reserve has (256, and a spare structure of each CPU), on a disk that ends none
# until it is resumed; and the cache of the structures, alone, gives none to anybody.
flood() { # flood NUMBER COMMAND: so many writes, resumed when it succeeds; $most were in flight then
    local fio
    dm_suspend ebbom
    fio --name=s --filename="$d" --rw=randwrite --bs=4k --size=48M --number_ios="$1" --ioengine=libaio \
        --iodepth=600 --iodepth_batch_submit=600 --direct=1 --output="$W/fio.out" >/dev/null &
    fio=$!
    background+=("$fio")
    wait_for 100 "$2" || fail "not in 100 s: $2; $(disk_get "$id" in_flight) in flight"
    most=$(disk_get "$id" in_flight)
    dm_resume ebbom
    wait "$fio" || fail "a write failed"
}
come() { [ "$(disk_get "$id" in_flight)" -ge "$1" ]; }
plenty() { come 500; }
# All of the reserve is out, and the worker that admits what found no structure waits for one itself.
in_need() { come 256 && grep -ls mempool_alloc /proc/[0-9]*/stack | xargs grep -qs '\[ebb\]'; }
flood 1200 plenty
say "in flight at once: $most"
replicate s 1 "$id" --initial --interval 300 --compare
inject failslab task-filter=0 ignore-gfp-wait=0 cache-filter=1
flood 1800 in_need
echo 0 >/sys/kernel/debug/failslab/probability
say "without memory: $most"
# Each CPU may have spare ones (SPARES_MAX), under KASAN a single one.
spares=64
grep -q ' __asan_load8$' /proc/kallsyms && spares=1
[ "$most" -le $((256 + spares * $(nproc))) ] || fail "not held to the reserve: the test proves nothing"
replica_good s 1
[ "$(disk_get "$id" in_flight)" = 0 ] || fail "in flight for ever"
detach_all
