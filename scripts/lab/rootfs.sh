#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rootfs.sh [NAME]: makes, once for a given package list (rootfs.txt, and rootfs.NAME.txt), the
# guests' root filesystem as a folder, and prints its path. Guests mount it read-only with a tmpfs
# above, so nobody changes it.
set -euo pipefail
. "$(dirname "$0")/common.sh"

lists=("$LAB/rootfs.txt" ${1:+"$LAB/rootfs.$1.txt"})
packages=$(grep -hv '^#' "${lists[@]}" | paste -sd, -)
dest=$EBB_CACHE/rootfs/$(hash_text "$packages" recipe-2)

make_rootfs() {
    local t=$1 mirror
    mirror=$(debian_mirror)
    in_own_mounts mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
        --aptopt='APT::Sandbox::User "root"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --include="$packages" bookworm "$t" \
        "deb [signed-by=$(debian_keyring)] $mirror bookworm main" >&2
    rm -rf "${t:?}"/var/lib/apt/lists/* "${t:?}"/var/cache/apt/* "${t:?}"/dev/* "${t:?}"/var/log/*.log
    mkdir -p "$t/ebb" "$t/out" "$t/lib/modules" "$t/etc/ebb-lab/start.d"
    echo ebb-guest >"$t/etc/hostname"
    printf '127.0.0.1 localhost ebb-guest\n' >"$t/etc/hosts"
    # Tests speak of devices by stable names and of md and LVM by their own commands; nothing is
    # assembled behind their back. What is replaced is kept for those that want a machine as Debian
    # installs it: tests/vm/stock_guest.sh puts it back.
    local stock=$t/usr/share/ebb-lab/stock
    mkdir -p "$stock"
    mv "$t/etc/lvm/lvm.conf" "$t"/usr/lib/udev/rules.d/64-md-raid-assembly.rules "$stock/"
    if [ -e "$t/etc/mdadm/mdadm.conf" ]; then mv "$t/etc/mdadm/mdadm.conf" "$stock/"; fi
    printf 'devices { hints = "none" }\nactivation { monitoring = 0 }\nglobal { event_activation = 0 }\nbackup { backup = 0 archive = 0 }\n' \
        >"$t/etc/lvm/lvm.conf"
    echo 'AUTO -all' >"$t/etc/mdadm/mdadm.conf"
}

lab_lock rootfs
if [ ! -e "$dest/.complete" ]; then
    say "making the guests' root filesystem"
    # Guests of another tree may run on one of another recipe: only what is old goes.
    mkdir -p "$EBB_CACHE/rootfs"
    find "$EBB_CACHE/rootfs" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
    rm -rf "$dest"
    make_rootfs "$dest"
    : >"$dest/.complete"
fi
echo "$dest"
