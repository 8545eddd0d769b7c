#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh install|uninstall: with DESTDIR and PREFIX (/usr) from the environment. Installs the
# module's source for DKMS, its udev rules, the kernel interface's header and the licences. On a
# live system (no DESTDIR) the module is also registered with DKMS and built for this kernel.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=${DESTDIR:-}
prefix=${PREFIX:-/usr}
version=$(sed -n 's/^MODULE_VERSION("\(.*\)");$/\1/p' "$top/kmod/main.c")
[ -n "$version" ] || { echo "install: kmod/main.c states no MODULE_VERSION" >&2; exit 1; }
source_dir=$dest/usr/src/ebb-$version
header=$dest$prefix/include/linux/ebb.h
rules=$dest$prefix/lib/udev/rules.d
doc=$dest$prefix/share/doc/ebb

install_files() {
    rm -rf "$source_dir"
    install -d "$source_dir/include" "$rules" "$doc" "$(dirname "$header")"
    (cd "$top" && git ls-files -co --exclude-standard kmod 2>/dev/null || find kmod -type f \
        \( -name '*.[ch]' -o -name Kbuild -o -name Makefile \)) | while read -r name; do
        [ -f "$top/$name" ] && install -D -m 0644 "$top/$name" "$source_dir/$name"
    done
    install -D -m 0644 "$top/include/uapi/linux/ebb.h" "$source_dir/include/uapi/linux/ebb.h"
    sed "s/@VERSION@/$version/" "$top/packaging/dkms/dkms.conf" >"$source_dir/dkms.conf"
    install -m 0644 "$top/include/uapi/linux/ebb.h" "$header"
    install -m 0644 "$top"/udev/*.rules "$rules/"
    install -m 0644 "$top/README.md" "$top/CHANGELOG.md" "$top"/LICENSES/*.txt "$doc/"
    echo "installed ebb $version below ${dest:-/}"
}

register() {
    if ! command -v dkms >/dev/null; then
        echo "install: dkms is not there: build the module with 'make kmod' for each kernel" >&2
        return 0
    fi
    dkms remove "ebb/$version" --all >/dev/null 2>&1 || true
    dkms add "ebb/$version"
    if [ -d "/lib/modules/$(uname -r)/build" ]; then
        dkms install "ebb/$version"
    else
        echo "install: no headers for $(uname -r): DKMS builds the module when they are installed" >&2
    fi
    if command -v udevadm >/dev/null; then udevadm control --reload 2>/dev/null || true; fi
}

remove_files() {
    local name
    for name in "$top"/udev/*.rules; do rm -f "$rules/$(basename "$name")"; done
    rm -f "$header"
    rm -rf "$source_dir" "$doc"
    echo "removed ebb $version below ${dest:-/}"
}

case ${1:-} in
install)
    install_files
    if [ -z "$dest" ]; then register; fi
    ;;
uninstall)
    if [ -z "$dest" ] && command -v dkms >/dev/null; then
        dkms remove "ebb/$version" --all >/dev/null 2>&1 || true
    fi
    remove_files
    ;;
*)
    echo "usage: install.sh install|uninstall" >&2
    exit 2
    ;;
esac
