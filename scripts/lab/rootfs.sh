#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rootfs.sh: makes, once for a given package list (rootfs.txt), the guests' root filesystem as a
# folder, and prints its path. Guests mount it read-only with a tmpfs above, so nobody changes it.
set -euo pipefail
. "$(dirname "$0")/common.sh"

packages=$(grep -v '^#' "$LAB/rootfs.txt" | paste -sd, -)
dest=$EBB_CACHE/rootfs/$(hash_text "$packages" recipe-1)

make_rootfs() {
    local t=$1 mirror
    mirror=$(debian_mirror)
    mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --include="$packages" bookworm "$t" \
        "deb [signed-by=$(debian_keyring)] $mirror bookworm main" >&2
    rm -rf "${t:?}"/var/lib/apt/lists/* "${t:?}"/var/cache/apt/* "${t:?}"/dev/* "${t:?}"/var/log/*.log
    mkdir -p "$t/ebb" "$t/out" "$t/lib/modules" "$t/etc/ebb-lab/start.d"
    echo ebb-guest >"$t/etc/hostname"
    printf '127.0.0.1 localhost ebb-guest\n' >"$t/etc/hosts"
    # Tests speak of devices by stable names and of md and LVM by their own commands; nothing is
    # assembled behind their back.
    printf 'devices { hints = "none" }\nactivation { monitoring = 0 }\nglobal { event_activation = 0 }\nbackup { backup = 0 archive = 0 }\n' \
        >"$t/etc/lvm/lvm.conf"
    rm -f "$t"/lib/udev/rules.d/64-md-raid-assembly.rules \
        "$t"/usr/lib/udev/rules.d/64-md-raid-assembly.rules
    echo 'AUTO -all' >"$t/etc/mdadm/mdadm.conf"
}

lab_lock rootfs
if [ ! -e "$dest/.complete" ]; then
    say "making the guests' root filesystem"
    rm -rf "$EBB_CACHE/rootfs"
    mkdir -p "$EBB_CACHE/rootfs"
    make_rootfs "$dest"
    : >"$dest/.complete"
fi
echo "$dest"
