#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kmod-build.sh KDIR: builds ebb.ko for the kernel whose build tree that is, into build/kmod/local.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kdir=${1:?build tree of a kernel, such as /lib/modules/VERSION/build}
if [ ! -f "$kdir/Makefile" ]; then
    echo "kmod-build: $kdir is no kernel build tree: install the headers of your kernel" >&2
    echo "  (Debian: linux-headers-\$(uname -r); CentOS, RHEL: kernel-devel), or say KDIR=" >&2
    exit 1
fi
out=$top/build/kmod/local
mkdir -p "$out/include"
rm -rf "$out/kmod"
cp -a "$top/kmod" "$out/kmod"
cp -a "$top/include/uapi" "$out/include/"
make -C "$kdir" M="$out/kmod" modules
cp "$out/kmod/ebb.ko" "$out/ebb.ko"
echo "built $out/ebb.ko"
