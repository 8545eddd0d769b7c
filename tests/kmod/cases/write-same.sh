# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# check: 5.10
# not on 6.1 6.12 trixie sid debug kcsan: the operation WRITE_SAME is gone since 5.18
# One page written all over a range by one bio, which kernels before 5.18 have: on a disk, on its partition, through
# dm, under cuts and between writes of other kinds. The whole range is tracked.
modprobe -a dm-mod scsi_debug || fail "modules"
rmmod scsi_debug
modprobe scsi_debug dev_size_mb=48 lbpws=1 lbpu=1 delay=0 write_same_length=65535 || fail "scsi_debug"
find_sdd() { s=$(grep -l scsi_debug /sys/block/sd*/device/model | head -1) && [ -n "$s" ]; }
wait_for 20 find_sdd || fail "no scsi_debug disk"
s=/dev/$(echo "$s" | cut -d/ -f4)
[ "$(cat "/sys/block/${s##*/}/queue/write_same_max_bytes")" -gt 0 ] || fail "the disk does not take it"
insmod "$TESTKO/issue.ko" || fail "issue.ko"
p=$(partition "$s")
dmsetup create ebbws --table "0 32768 linear $s 40960" && dmsetup mknodes || fail "linear"
d=$(readlink -f /dev/mapper/ebbws)
finish() {
    detach_all
    dmsetup remove ebbws
    rmmod issue
    rmmod scsi_debug
}
load
ids="$(attach "$s" 1) $(attach "$d" 1)"
replicate r 1 "$ids" --initial --interval 50 --depth 8 --slow-us 1000 --compare
# No page cache: what is discarded while another device holds the disk could be busy in it.
mix w --disk "$s@0+8388608" --rate 200 --kinds direct,subblock,large,vectored,batched,uring,zeroout,discard --need direct,zeroout,discard
same() { # same DEVICE SECTOR PAGES
    local before after
    before=$(disk_get "${ids%% *}" written_sectors)
    echo "same $(($(stat -c 0x%t "$1"))) $(($(stat -c 0x%T "$1"))) $2 $3" >/sys/module/issue/parameters/bio || fail "WRITE_SAME $*"
    after=$(disk_get "${ids%% *}" written_sectors)
    [ $((after - before)) -ge $((8 * $3)) ] || fail "$((after - before)) sectors counted of WRITE_SAME $*"
    # One block all over, and not zeroes.
    dd if="$1" of="$W/range" bs=$((4096 * $3)) count=1 skip=$((512 * $2)) iflag=direct,skip_bytes 2>/dev/null || fail "read"
    cmp -s <(head -c -512 "$W/range") <(tail -c +513 "$W/range") || fail "the disk is not as written: $*"
    cmp -s -n 512 "$W/range" /dev/zero && fail "zeroes: $*"
}
for pages in 1 3 64 17; do
    same "$s" $((20480 + RANDOM % 4096)) $pages
    same "$p" $((24576 + RANDOM % 4096)) $pages
    same "$d" $((RANDOM % 16384)) $pages
    say "$pages pages each"
done
stamped_until w cuts r 4
say "$(cat "$W/w.mixer.out")"
replica_good r 3
# shellcheck disable=SC2086
seen $ids
