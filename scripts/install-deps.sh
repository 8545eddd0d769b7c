#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs, by name, what building and testing Ebb needs; does nothing where it is all there.
#
#   scripts/install-deps.sh            everything for `make demo` and `make check` (Debian)
#   scripts/install-deps.sh --product  only what building the product needs (Debian, CentOS, RHEL)
#   scripts/install-deps.sh --list     print the names and exit
#
# Further lists, one package a line and '#' for comments, are read from scripts/*/packages.txt
# and tests/*/packages.txt.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The daemon, the tool and the module.
product_debian=(
    g++-12 gcc-12 make cmake ninja-build pkg-config libc6-dev
    libnl-3-dev libnl-genl-3-dev libblkid-dev libdevmapper-dev libaio-dev liburing-dev libssl-dev
    libzstd-dev libxxhash-dev libsqlite3-dev nlohmann-json3-dev
    libboost-program-options-dev libboost-dev
)
# Kernels, virtual machines, quality gates, tests, benchmarks.
lab_debian=(
    clang-19 clang-format-19 clang-tidy-19 libclang-rt-19-dev llvm-19 googletest libgtest-dev libgmock-dev
    shellcheck pyflakes3 sparse git perl python3 man-db groff-base binutils ccache
    flex bison bc libelf-dev dwarves cpio zstd xz-utils kmod dkms patch rsync file
    qemu-system-x86 qemu-utils seabios nbdkit nbdkit-plugin-dev libnbd-dev libnbd-bin
    mmdebstrap debian-archive-keyring ca-certificates busybox-static
    syslinux syslinux-common mtools dosfstools e2fsprogs xfsprogs fdisk util-linux
    fio openssl sqlite3 curl iproute2 procps systemd udev
)
product_el=(
    make cmake ninja-build pkgconf-pkg-config kernel-devel elfutils-libelf-devel
    libnl3-devel libblkid-devel device-mapper-devel libaio-devel liburing-devel openssl-devel
    libzstd-devel xxhash-devel sqlite-devel json-devel boost-devel
)

extra_lists() {
    local f
    for f in "$top"/scripts/*/packages.txt "$top"/tests/*/packages.txt; do
        [ -f "$f" ] && sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$f"
    done
    return 0
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "install-deps: needs root (no sudo here): $*" >&2
        return 1
    fi
}

missing_debian() {
    # One dpkg-query for all names: unknown ones are reported on stderr and count as missing.
    local have
    # shellcheck disable=SC2016  # dpkg-query's own format, not the shell's
    have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        awk '$2 == "installed" { print $1 }' || true)
    comm -23 <(printf '%s\n' "$@" | sort -u) <(sort -u <<<"$have")
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
}

install_debian() {
    local missing name
    mapfile -t missing < <(missing_debian "$@")
    if [ "${#missing[@]}" = 0 ]; then
        return 0
    fi
    echo "install-deps: installing ${#missing[@]} packages: ${missing[*]}"
    # The lists may be absent or older than the mirror: ask for them only when that shows.
    for name in "${missing[@]}"; do
        if [ -z "$(apt-cache policy "$name" 2>/dev/null)" ]; then
            as_root apt-get -q -o DPkg::Lock::Timeout=600 update
            break
        fi
    done
    if ! apt_install "${missing[@]}"; then
        as_root apt-get -q -o DPkg::Lock::Timeout=600 update
        apt_install "${missing[@]}"
    fi
}

install_el() {
    local release missing=() name
    release=$(. /etc/os-release && echo "${VERSION_ID%%.*}")
    # GCC 12 or newer with <expected>: the system's own on 10, a toolset before.
    if [ "$release" -ge 10 ]; then
        set -- "$@" gcc gcc-c++
    else
        set -- "$@" gcc gcc-toolset-12-gcc-c++
    fi
    for name in "$@"; do
        rpm -q --quiet "$name" || missing+=("$name")
    done
    if [ "${#missing[@]}" = 0 ]; then
        return 0
    fi
    echo "install-deps: installing ${missing[*]}"
    # Development packages live in CodeReady Builder (crb; powertools on 8) and in EPEL.
    as_root dnf -q -y install 'dnf-command(config-manager)'
    as_root dnf -q config-manager --set-enabled crb 2>/dev/null ||
        as_root dnf -q config-manager --set-enabled powertools || true
    as_root dnf -q -y install epel-release || true
    as_root dnf -q -y install "${missing[@]}"
    if [ "$release" -lt 10 ]; then
        echo "install-deps: build within 'scl enable gcc-toolset-12 bash'"
    fi
}

mode=${1:-}
. /etc/os-release
case " ${ID:-} ${ID_LIKE:-} " in
*' debian '*)
    packages=("${product_debian[@]}")
    if [ "$mode" != --product ]; then
        mapfile -t extra < <(extra_lists)
        packages+=("${lab_debian[@]}" "${extra[@]}")
    fi
    if [ "$mode" = --list ]; then
        printf '%s\n' "${packages[@]}" | sort -u
        exit 0
    fi
    install_debian "${packages[@]}"
    ;;
*' rhel '* | *' fedora '* | *' centos '*)
    if [ "$mode" = --list ]; then
        printf '%s\n' "${product_el[@]}"
        exit 0
    fi
    if [ "$mode" != --product ]; then
        echo "install-deps: the tests run on Debian; installing what the product needs" >&2
    fi
    install_el "${product_el[@]}"
    ;;
*)
    echo "install-deps: unknown distribution ${ID:-?}: needed are the likes of: ${product_debian[*]}" >&2
    exit 1
    ;;
esac
