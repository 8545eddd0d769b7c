#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# restart_disk.sh [LABEL [MAKER]]: makes, once for what goes into it, the system disk of a machine that keeps
# its maps over restarts, as `make install` and mkinitramfs make it, and prints its folder:
#   system.raw  GPT: Debian on ext4, and a partition for maps, with a directory on it
#   initrd      made by Debian's update-initramfs, or by dracut if that is MAKER, with what Ebb adds
#   uuid        of the root file system
# The disks that map.conf names are naa.5000c2900000a001 and ...2.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lab/common.sh
. "$here/../../scripts/lab/common.sh"
LAB=$here/../../scripts/lab
label=${1:-6.1} maker=${2:-initramfs-tools}
build=${BUILD:-$TOP/build}
root_uuid=eb60c0de-0002-4000-8000-000000000001
root_mib=416 map_mib=8
# In the initramfs; then those of the running system.
early='ext4 crc32c_generic sd_mod virtio_pci virtio_scsi virtio_console virtio_rng'
late='9p 9pnet_virtio virtio_net tcp_diag dm_mod'

kernel=$("$LAB/kernel.sh" path "$label")
release=$(cat "$kernel/release")
rootfs=$("$LAB/rootfs.sh")
agent=$("$LAB/tool.sh" agent)
"$LAB/kmod.sh" "$label" "$TOP/kmod" "$build/kmod/$label"

tree() { # tree DIR: the machine's root file system, with what makes the initramfs
    local t=$1 m f
    rsync -a --exclude=/usr/lib/python3* --exclude=/usr/share/zoneinfo --exclude='/usr/lib/udev/hwdb*' \
        --exclude=/var/cache --exclude='/lib/modules/*' "$rootfs/" "$t/"
    mkdir -p "$t/usr/lib/ebb-lab" "$t/usr/lib/modules/$release/updates" "$t/etc/ebb" "$t/srv" "$t/boot/grub"
    cp "$agent" "$t/usr/lib/ebb-lab/agent"
    install -m 755 "$LAB/guest/ebb-guest" "$t/usr/sbin/init"
    for m in $early $late; do
        modprobe -d "$kernel" -S "$release" --show-depends "$m" | awk '$1 == "insmod" {print $2}'
    done | sort -u | while read -r f; do
        install -D -m 644 "$f" "$t/usr/lib/modules/$release/${f#*/"$release"/}"
    done
    cp "$kernel/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$t/usr/lib/modules/$release/"
    cp "$build/kmod/$label/ebb.ko" "$t/usr/lib/modules/$release/updates/"
    depmod -b "$t" "$release"
    DESTDIR=$t PREFIX=/usr BUILD=$build "$TOP/scripts/install.sh" install >/dev/null
    rm -rf "$t/usr/src" "$t/usr/lib/modules-load.d" "$t/usr/sbin/ebbd" "$t/usr/bin/ebbctl"
    # Under emulation everything takes longer; regions go cold while a test waits.
    echo 'options ebb hold_deadline_ms=4000 log_deadline_ms=60000 log_cool_s=1' >"$t/etc/modprobe.d/ebb.conf"
    printf 'UUID=%s / ext4 errors=remount-ro 0 1\n' "$root_uuid" >"$t/etc/fstab"
    echo restarts >"$t/etc/hostname"
    head -c 1024 /dev/zero | tr '\0' '#' >"$t/boot/grub/grubenv"
    cp "$kernel/boot/config-$release" "$t/boot/"
}

map_partition() { # map_partition IMAGE DIR
    truncate -s "${map_mib}M" "$1"
    "$build/ebb-attach" --create "$1" --config "$2/etc/ebb/map.conf"
    printf 'disk naa.5000c2900000a001\ndisk naa.5000c2900000a002\n' >>"$2/etc/ebb/map.conf"
}

dracut_packages() { # dracut_packages DIR: dracut itself would have initramfs-tools removed
    local d=$work/debs conf deb
    mkdir "$d"
    conf=$(apt_for bookworm)
    (cd "$d" && APT_CONFIG=$conf apt-get -qq download dracut-core kpartx >&2)
    for deb in "$d"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -C "$1" -x --keep-directory-symlink
    done
}

initramfs() { # initramfs DIR OUT
    local t=$1 m
    mknod -m 666 "$t/dev/null" c 1 3
    if [ "$maker" = dracut ]; then
        dracut_packages "$t"
        chroot "$t" dracut --force --no-hostonly --no-early-microcode --gzip --kver "$release" \
            --add-drivers "$early" "/boot/initramfs-$release.img" >&2
        mv "$t/boot/initramfs-$release.img" "$2"
        rm "$t/dev/null"
        return
    fi
    printf 'MODULES=list\nCOMPRESS=gzip\nBUSYBOX=auto\n' >"$t/etc/initramfs-tools/initramfs.conf"
    for m in $early; do echo "$m"; done >"$t/etc/initramfs-tools/modules"
    chroot "$t" update-initramfs -c -k "$release" >&2
    # The machine is started by the one outside.
    mv "$t/boot/initrd.img-$release" "$2"
    : >"$t/boot/initrd.img-$release"
    rm "$t/dev/null"
}

make_disk() {
    mkdir "$work/root"
    tree "$work/root"
    map_partition "$work/map.img" "$work/root"
    initramfs "$work/root" "$work/out/initrd"
    rm -rf "$work"/root/usr/share/{perl*,doc,gcc*} "$work"/root/usr/lib/x86_64-linux-gnu/perl* \
        "$work"/root/var/lib/{dpkg,apt} "$work/root/usr/lib/gcc"
    truncate -s "${root_mib}M" "$work/root.img"
    mke2fs -q -F -t ext4 -U "$root_uuid" -d "$work/root" "$work/root.img"
    truncate -s $((root_mib + map_mib + 2))M "$work/out/system.raw"
    printf 'start=%s,size=%s,type=linux,name="%s"\n' 2048 $((root_mib * 2048)) root \
        $(((root_mib + 1) * 2048)) $((map_mib * 2048)) ebb-map | sfdisk -q --label gpt "$work/out/system.raw"
    dd if="$work/root.img" of="$work/out/system.raw" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$work/map.img" of="$work/out/system.raw" bs=1M seek=$((root_mib + 1)) conv=notrunc,sparse status=none
    echo "$root_uuid" >"$work/out/uuid"
}

lab_lock restart-disk
out=$EBB_CACHE/restart/$label-$maker-$(hash_text "$(hash_of "$0" "$LAB/guest/ebb-guest" "$agent" "$build/ebb-attach" \
    "$build/kmod/$label/ebb.ko" "$TOP/packaging" "$TOP/udev")" "$rootfs")
if [ ! -e "$out" ]; then
    say "making the system disk for tests of restarts"
    work=$(mktemp -d "$EBB_CACHE/.restart.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/out"
    make_disk
    mkdir -p "$EBB_CACHE/restart"
    find "$EBB_CACHE/restart" -mindepth 1 -maxdepth 1 -mmin +600 -exec rm -rf {} +
    mv "$work/out" "$out"
fi
echo "$out"
