# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# timeout: 400
# A btrfs over two tracked disks, data striped and metadata mirrored, with snapshots, compression, balance, scrub and
# trim under cuts: the replicas equal the disks, and a btrfs of the replicas alone is whole.
modprobe -a btrfs loop || skip "no btrfs"
command -v mkfs.btrfs >/dev/null || skip "no btrfs-progs"
a=$(nullb bt0 192) b=$(nullb bt1 192) || fail "null_blk"
m=$W/mnt
mkdir -p "$m"
finish() {
    umount "$m"
    detach_all
    for l in "${loops[@]}"; do losetup -d "$l"; done
    nullb_gone bt0
    nullb_gone bt1
}
loops=()
load
ids="$(attach "$a" 1) $(attach "$b" 1)"
replicate r 1 "$ids" --initial --interval 400 --compare
mkfs.btrfs -q -f -d raid0 -m raid1 "$a" "$b" || fail "mkfs.btrfs"
btrfs device scan "$a" "$b" >/dev/null
mount -o compress=zstd,discard=async "$a" "$m" || fail "mount"
fio --name=bt --directory="$m" --size=6M --numjobs=3 --rw=randrw --rwmixwrite=80 --bsrange=512-64k --ioengine=psync --fsync=20 \
    --buffer_compress_percentage=40 --time_based --runtime="$(seconds 4)" --randseed=5 --output="$W/fio.out" || fail "fio"
btrfs subvolume snapshot "$m" "$m/snap" >/dev/null || fail "snapshot"
for i in 1 2 3 4 5; do
    dd if=/dev/urandom of="$m/file$i" bs=100000 count=60 2>/dev/null
    cp --reflink=auto "$m/file$i" "$m/copy$i"
    fallocate -p -o 8192 -l 300000 "$m/copy$i"
    rm -f "$m/file$((i - 2))"
    sync -f "$m"
done
btrfs balance start -musage=90 "$m" >"$W/balance.out" 2>&1 || fail "balance: $(cat "$W/balance.out")"
btrfs scrub start -B "$m" >"$W/scrub.out" 2>&1 || fail "scrub: $(cat "$W/scrub.out")"
fstrim "$m" || fail "fstrim"
wait_for 60 cuts r 4
(cd "$m" && find . -type f -exec sha256sum {} + | sort) >"$W/sums"
umount "$m" || fail "umount"
replica_good r 4
# shellcheck disable=SC2086
seen $ids
exact r
detach_all
# The twins must not meet: btrfs knows disks by UUID.
dd if=/dev/zero of="$a" bs=1M count=1 oflag=direct 2>/dev/null
wipefs -qa "$a" "$b"
nullb_gone bt0
nullb_gone bt1
btrfs device scan --forget >/dev/null 2>&1
for f in "$W"/r.*.img; do loops+=("$(losetup -f --show "$f")"); done
btrfs device scan "${loops[@]}" >/dev/null
mount -o ro "${loops[0]}" "$m" || fail "the replicas are no btrfs"
(cd "$m" && find . -type f -exec sha256sum {} + | sort) >"$W/sums.replica"
cmp "$W/sums" "$W/sums.replica" || fail "files of the replicas differ"
