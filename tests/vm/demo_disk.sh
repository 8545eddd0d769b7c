#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo_disk.sh: makes, once, the system disk of the demonstration's source machine and prints its
# path: 1 GiB, MBR, a FAT partition that SYSLINUX starts the kernel from, and Debian on ext4. The
# initramfs holds the drivers of every controller the machine will meet, and finds its root by UUID.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lab/common.sh
. "$here/../../scripts/lab/common.sh"
LAB=$here/../../scripts/lab
label=${1:-6.1}
root_uuid=eb60c0de-0001-4000-8000-000000000001
modules='xfs dm_mod 9p 9pnet_virtio virtio_net virtio_scsi virtio_blk sd_mod sym53c8xx mptspi mptsas
vfat nls_cp437 nls_ascii nls_iso8859-1'

kernel=$("$LAB/kernel.sh" path "$label")
release=$(cat "$kernel/release")
rootfs=$("$LAB/rootfs.sh")
initrd=$("$LAB/initrd.sh" disk "$label")
agent=$("$LAB/tool.sh" agent)

tree() { # tree DIR: the machine's root file system
    local t=$1 m f
    rsync -a --exclude=/usr/lib/python3* --exclude=/usr/bin/python3* --exclude=/usr/share/perl* \
        --exclude=/usr/lib/x86_64-linux-gnu/perl* --exclude=/usr/share/zoneinfo \
        --exclude='/usr/lib/udev/hwdb*' --exclude=/var/lib/dpkg/info --exclude=/var/cache \
        --exclude='/lib/modules/*' "$rootfs/" "$t/"
    mkdir -p "$t/usr/lib/ebb-lab" "$t/usr/lib/modules/$release" "$t/etc/ebb-lab/start.d" \
        "$t/srv/orders" "$t/srv/files" "$t/var/cache"
    cp "$agent" "$t/usr/lib/ebb-lab/agent"
    install -m 755 "$LAB/guest/ebb-guest" "$t/usr/sbin/init"
    for m in $modules; do
        modprobe -d "$kernel" -S "$release" --show-depends "$m" | awk '$1 == "insmod" {print $2}'
    done | sort -u | while read -r f; do
        install -D -m 644 "$f" "$t/usr/lib/modules/$release/${f#*/"$release"/}"
    done
    cp "$kernel/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} \
        "$t/usr/lib/modules/$release/"
    depmod -b "$t/usr" "$release" 2>/dev/null || depmod -b "$t" "$release"
    # As an installed machine has it: volumes by UUID, activated and mounted at boot.
    cat >"$t/etc/ebb-lab/start.d/50-volumes.sh" <<'END'
vgchange -q -ay >/run/volumes.log 2>&1
mount -a >>/run/volumes.log 2>&1
echo "mount -a: $?" >>/run/volumes.log
END
    printf 'UUID=%s / ext4 errors=remount-ro 0 1\n' "$root_uuid" >"$t/etc/fstab"
    echo order-server >"$t/etc/hostname"
}

boot_partition() { # boot_partition IMAGE
    truncate -s 63M "$1"
    mkfs.fat -F16 "$1" >/dev/null
    cat >"$work/syslinux.cfg" <<END
DEFAULT linux
PROMPT 0
LABEL linux
 LINUX /vmlinuz
 INITRD /initrd
 APPEND console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 root=UUID=$root_uuid ebb.udev=1 ebb.name=order-server rcupdate.rcu_cpu_stall_timeout=300
END
    mcopy -i "$1" "$kernel/vmlinuz" ::/vmlinuz
    mcopy -i "$1" "$initrd" ::/initrd
    mcopy -i "$1" "$work/syslinux.cfg" ::/syslinux.cfg
    syslinux -i "$1"
}

make_disk() { # make_disk OUT
    local mbr
    mkdir "$work/root"
    tree "$work/root"
    boot_partition "$work/boot.img"
    truncate -s 1024M "$1"
    truncate -s 959M "$work/root.img"
    mke2fs -q -F -t ext4 -U "$root_uuid" -d "$work/root" "$work/root.img"
    printf '2048,129024,e,*\n131072,1964032,83\n' | sfdisk -q --label dos "$1"
    dd if="$work/boot.img" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$work/root.img" of="$1" bs=1M seek=64 conv=notrunc,sparse status=none
    mbr=$(find /usr/lib/syslinux /usr/lib/SYSLINUX -name mbr.bin 2>/dev/null | head -1)
    [ -n "$mbr" ] || die "syslinux's mbr.bin is missing"
    dd if="$mbr" of="$1" bs=440 count=1 conv=notrunc status=none
}

lab_lock demo-disk
out=$EBB_CACHE/demo/system-$label-$(hash_text "$(hash_of "$0" "$LAB/guest/ebb-guest" "$agent")" \
    "$initrd" "$rootfs").raw
if [ ! -e "$out" ]; then
    say "making the demonstration's system disk"
    work=$(mktemp -d "$EBB_CACHE/.demo.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    make_disk "$work/system.raw"
    rm -rf "$EBB_CACHE/demo"
    mkdir -p "$EBB_CACHE/demo"
    mv "$work/system.raw" "$out"
fi
echo "$out"
