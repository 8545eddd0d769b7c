#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh install|uninstall: with DESTDIR and PREFIX (/usr) from the environment. Installs what
# `make build` has built (BUILD names another folder), systemd units, man pages, and the module: its
# source for DKMS, the file that has it loaded at boot, the header of its interface; udev rules and
# what brings them into an initramfs. The paths are those of Debian and of CentOS and RHEL alike. On
# a live system (no DESTDIR) the module is also registered with DKMS and built for this kernel.
# Configuration and state (/etc/ebb, /var/lib/ebb) are never touched.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=${DESTDIR:-}
prefix=${PREFIX:-/usr}
build=${BUILD:-$top/build}
version=$(sed -n 's/^MODULE_VERSION("\(.*\)");$/\1/p' "$top/kmod/main.c")
[ -n "$version" ] || { echo "install: kmod/main.c states no MODULE_VERSION" >&2; exit 1; }
source_dir=$dest/usr/src/ebb-$version
units=(ebbd-source ebbd-target ebbd-controller)

# Every file but the module's source: MODE FROM TO, TO below DESTDIR; FROM *.in is filled in.
files() {
    echo "0755 $build/ebbd $prefix/sbin/ebbd"
    echo "0755 $build/ebb-attach $prefix/sbin/ebb-attach"
    echo "0755 $build/ebb-freeze $prefix/sbin/ebb-freeze"
    echo "0755 $build/ebbctl $prefix/bin/ebbctl"
    local unit rule
    for unit in "${units[@]}"; do
        echo "0644 $top/packaging/systemd/$unit.service.in $prefix/lib/systemd/system/$unit.service"
    done
    echo "0644 $top/packaging/systemd/ebb-initramfs.path $prefix/lib/systemd/system/ebb-initramfs.path"
    echo "0644 $top/packaging/systemd/ebb-initramfs.service.in $prefix/lib/systemd/system/ebb-initramfs.service"
    echo "0755 $top/packaging/make-initramfs $prefix/lib/ebb/make-initramfs"
    echo "0644 $top/packaging/modules-load.d/ebb.conf $prefix/lib/modules-load.d/ebb.conf"
    for rule in "$top"/udev/*.rules "$top"/udev/*.rules.in; do
        echo "0644 $rule $prefix/lib/udev/rules.d/$(basename "${rule%.in}")"
    done
    # Read from /usr alone; with another prefix a package or the administrator links them.
    echo "0755 $top/packaging/initramfs-tools/ebb $prefix/share/initramfs-tools/hooks/ebb"
    echo "0755 $top/packaging/initramfs-tools/local-top/ebb $prefix/share/initramfs-tools/scripts/local-top/ebb"
    if [ "$prefix" = /usr ]; then
        echo "0755 $top/packaging/initramfs-tools/post-update.d/ebb /etc/initramfs/post-update.d/ebb"
    fi
    echo "0755 $top/packaging/dracut/module-setup.sh $prefix/lib/dracut/modules.d/90ebb/module-setup.sh"
    echo "0755 $top/packaging/dracut/attach.sh $prefix/lib/dracut/modules.d/90ebb/attach.sh"
    echo "0644 $top/include/uapi/linux/ebb.h $prefix/include/linux/ebb.h"
    echo "0644 $top/docs/man/ebbctl.1 $prefix/share/man/man1/ebbctl.1"
    echo "0644 $top/docs/man/ebbd.8 $prefix/share/man/man8/ebbd.8"
    echo "0644 $top/docs/man/ebb-attach.8 $prefix/share/man/man8/ebb-attach.8"
    echo "0644 $top/docs/man/ebb-freeze.8 $prefix/share/man/man8/ebb-freeze.8"
    local script
    for script in "$top"/packaging/consistency.d/*; do
        echo "0644 $script $prefix/share/doc/ebb/consistency.d/$(basename "$script")"
    done
    local text
    for text in "$top/README.md" "$top/CHANGELOG.md" "$top/docs/operations.md" "$top"/LICENSES/*.txt; do
        echo "0644 $text $prefix/share/doc/ebb/$(basename "$text")"
    done
    text=docs/decisions/0301-replicas-and-lvm.md
    echo "0644 $top/$text $prefix/share/doc/ebb/$(basename "$text")"
}

fill_in() {
    sed -e "s|@SBINDIR@|$prefix/sbin|g" -e "s|@LIBDIR@|$prefix/lib/ebb|g" -e "s|@VERSION@|$version|g" "$1"
}

install_module_source() {
    rm -rf "$source_dir"
    (cd "$top" && git ls-files -co --exclude-standard kmod 2>/dev/null || find kmod -type f \
        \( -name '*.[ch]' -o -name Kbuild -o -name Makefile -o -name probe.sh -o -name probes.mk \)) | while read -r name; do
        [ -f "$top/$name" ] && install -D -m 0644 "$top/$name" "$source_dir/$name"
    done
    install -D -m 0644 "$top/include/uapi/linux/ebb.h" "$source_dir/include/uapi/linux/ebb.h"
    fill_in "$top/packaging/dkms/dkms.conf" >"$source_dir/dkms.conf"
}

install_files() {
    local program mode from to
    for program in ebbd ebbctl ebb-attach ebb-freeze; do
        [ -x "$build/$program" ] && continue
        echo "install: $build/$program is not there: run 'make build' first, as an ordinary user" >&2
        exit 1
    done
    files | while read -r mode from to; do
        case $from in
        *.in)
            install -d "$(dirname "$dest$to")"
            fill_in "$from" >"$dest$to"
            chmod "$mode" "$dest$to"
            ;;
        *) install -D -m "$mode" "$from" "$dest$to" ;;
        esac
    done
    # Debugging information stays with the build, where there is a tool to take it out.
    if command -v strip >/dev/null; then
        strip "$dest$prefix/sbin/ebbd" "$dest$prefix/sbin/ebb-attach" "$dest$prefix/sbin/ebb-freeze" \
            "$dest$prefix/bin/ebbctl"
    fi
    install_module_source
    echo "installed ebb $version below ${dest:-/}"
}

# Of a live system.
register() {
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    if command -v udevadm >/dev/null; then udevadm control --reload 2>/dev/null || true; fi
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
}

unregister() {
    if [ -n "$(find /etc/ebb/replicas -type f 2>/dev/null)" ]; then
        echo "install: disks of this machine hold replicas (/etc/ebb/replicas): nothing keeps LVM and md from them now" >&2
    fi
    if [ -d /run/systemd/system ]; then
        systemctl disable --now "${units[@]/%/.service}" 2>/dev/null || true
        systemctl stop ebb-initramfs.path 2>/dev/null || true
    fi
    if command -v dkms >/dev/null; then
        dkms remove "ebb/$version" --all >/dev/null 2>&1 || true
    fi
}

remove_files() {
    files | while read -r _ _ to; do rm -f "$dest$to"; done
    rm -rf "$source_dir"
    rmdir "$dest$prefix/share/doc/ebb/consistency.d" "$dest$prefix/share/doc/ebb" "$dest$prefix/lib/ebb" 2>/dev/null || true
    echo "removed ebb $version below ${dest:-/}; /etc/ebb and /var/lib/ebb are as they were"
}

case ${1:-} in
install)
    install_files
    if [ -z "$dest" ]; then register; fi
    ;;
uninstall)
    if [ -z "$dest" ]; then unregister; fi
    remove_files
    if [ -z "$dest" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    ;;
*)
    echo "usage: install.sh install|uninstall" >&2
    exit 2
    ;;
esac
