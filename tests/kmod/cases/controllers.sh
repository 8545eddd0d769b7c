# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # run.py reads guest/lib.sh first
# disks: more
# check: 6.12
# timeout: 600
# The same mix of every kind of write behind each controller and on each kind of disk, under cuts: what the
# writer remembers, the disk and the replica are equal, and nothing is flagged.
modprobe brd rd_nr=1 rd_size=24577 # KiB: no multiple of 4
modprobe -a loop dm-mod raid1 || fail "modules"
zoo=()
made() { # made NAME DEV: one more disk
    [ -b "$2" ] || fail "no disk for $1"
    zoo+=("$1=$2")
}
n=()
for i in 0 1 2 3; do n[i]=$(nullb ct$i $((i == 2 ? 32 : 24)) submit_queues=2) || fail null_blk; done
truncate -s $((25165824 + 512)) "$W/loop.raw"
l=$(losetup -f --show "$W/loop.raw") || fail loop
dmsetup create ebbct --table "0 49147 linear ${n[2]} 5" && dmsetup mknodes || fail linear
mdadm --create /dev/md8 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean "${n[1]}" "${n[3]}" \
    >"$W/md.out" 2>&1 || fail "mdadm: $(cat "$W/md.out")"
finish() {
    detach_all
    mdadm --stop /dev/md8
    dmsetup remove ebbct
    losetup -d "$l"
    for i in 0 1 2 3; do nullb_gone ct$i; done
    rmmod brd
}
for d in lsi0 scsi0 virtio0 mptsas0 pvscsi0 nvme0 native0 odd0 odd1; do
    # The driver of Enterprise Linux is for VMware's controllers alone, and QEMU's has no such vendor. One
    # that is built in (debug) names no aliases.
    [ $d != mptsas0 ] || modinfo -F alias mptsas | grep -q 'd00000054sv\*' ||
        grep -q '/mptsas\.ko' "/lib/modules/$(uname -r)/modules.builtin" || continue
    made $d "$(disk $d)"
done
made null_blk "${n[0]}"
made dm "$(readlink -f /dev/mapper/ebbct)"
made md /dev/md8
made loop "$l"
load
# Where brd has rw_page it is refused: see the case brd.
if ebbtest attach /dev/ram0 ram0 1 >/dev/null 2>&1; then
    made brd /dev/ram0
    detach_all
fi
while [ ${#zoo[@]} -gt 0 ]; do
    ids=
    targets=()
    for d in "${zoo[@]:0:4}"; do
        ids="$ids $(attach "${d#*=}" 1)" || fail "attach $d"
        targets+=(--disk "${d#*=}")
    done
    replicate r 1 "$ids" --initial --interval 300 --compare
    # brd keeps some of what a discard covers, and the replica has zeroes there.
    zeroes=--discard-zeroes
    case ${targets[*]} in */dev/ram0*) zeroes= ;; esac
    # md takes NOWAIT since f51d46d0e7cb (5.17).
    # shellcheck disable=SC2086
    mix w "${targets[@]}" --operations 400 $zeroes --need subblock,direct,sequential,uring,nowait,zeroout \
        --spare /dev/md8:nowait
    stamped w
    say "$(echo "${zoo[@]:0:4}"): $(cat "$W/w.mixer.out")"
    replica_good r 2
    # shellcheck disable=SC2086
    seen $ids
    [ -z "$zeroes" ] || exact r
    detach_all
    rm -f "$W"/r.*.img
    zoo=("${zoo[@]:4}")
done
