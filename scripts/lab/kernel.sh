#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kernel.sh fetch|path|release|headers|cc LABEL: Debian's kernels, unpacked and never installed.
# kernel.sh add LABEL DIR: a kernel that was built already in the folder DIR, under a label of its own.
#
#   LABEL 5.10 (bullseye)  6.1 (bookworm)  6.12 (bookworm-backports: gcc-12 builds modules for it)
#         trixie, sid (whatever is newest there, with a chroot of that suite for its compiler)
#         debug, kcsan (made by debug-kernel.sh: fetch calls it)
#
# $EBB_CACHE/kernels/LABEL/ holds afterwards
#   release      the output of uname -r
#   vmlinuz      the kernel
#   lib/modules/RELEASE   modules, with depmod done: modprobe -d $EBB_CACHE/kernels/LABEL works
#   headers      (a link to) the tree to give to make -C
#   cc           the compiler for modules
#   chroot/      trixie and sid only: where modules are built
set -euo pipefail
. "$(dirname "$0")/common.sh"

suite_of() {
    case $1 in
        5.10) echo bullseye ;;
        6.1) echo bookworm ;;
        6.12) echo bookworm-backports ;;
        trixie | sid) echo "$1" ;;
        *) die "unknown kernel label '$1'" ;;
    esac
}

first_dep() { # first_dep PACKAGE PATTERN: the first dependency of PACKAGE that matches
    apt-cache depends --no-recommends --no-suggests "$1" |
        awk -v p="$2" '/Depends:/ && $2 ~ p {print $2; exit}'
}

# A stub package depends, sometimes through another one, on the packages with the content.
image_packages() {
    local rel=$1
    echo "linux-image-$rel"
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "linux-image-$rel" |
        awk '/Depends:/ {print $2}' | grep -E '^linux-(modules|binary|base)-[0-9]' | sort -u || true
}

unpack() { # unpack DIR PACKAGE...
    local d=$1 deb
    shift
    mkdir -p "$d/debs"
    (cd "$d/debs" && apt-get -qq download "$@" >&2)
    for deb in "$d"/debs/*.deb; do dpkg -x "$deb" "$d"; done
    rm -rf "$d/debs"
}

fetch_debian() {
    local label=$1 d=$2 suite rel base kbuild
    suite=$(suite_of "$label")
    APT_CONFIG=$(apt_for "$suite")
    export APT_CONFIG
    if [ "$suite" = trixie ] || [ "$suite" = sid ]; then
        suite_chroot "$suite" "$d"
        rel=$(cat "$d/release")
        unpack "$d" $(image_packages "$rel")
    else
        rel=$(first_dep linux-image-amd64 '^linux-image-[0-9]')
        [ -n "$rel" ] || die "no kernel image found in $suite"
        rel=${rel#linux-image-}
        base=${rel%-amd64}
        kbuild=$(first_dep "linux-headers-$rel" '^linux-kbuild-')
        unpack "$d" $(image_packages "$rel") "linux-headers-$rel" "linux-headers-$base-common" \
            "$kbuild"
        echo "$rel" >"$d/release"
        echo gcc-12 >"$d/cc"
        ln -sfn "usr/src/linux-headers-$rel" "$d/headers"
        cp "$d/headers/Makefile" "$d/headers/Makefile.as-packaged"
    fi
    [ -e "$d/lib" ] || ln -s usr/lib "$d/lib"
    local v
    for v in "$d/boot/vmlinuz-$rel" "$d/usr/lib/modules/$rel/vmlinuz" "$d/lib/modules/$rel/vmlinuz"; do
        [ -f "$v" ] && { ln -f "$v" "$d/vmlinuz"; break; }
    done
    [ -f "$d/vmlinuz" ] || die "no vmlinuz in the packages of $rel"
    depmod -b "$d" "$rel"
}

# Headers of a newer suite go with its compiler, and both with its C library.
suite_chroot() {
    local suite=$1 d=$2 c=$2/chroot h
    command -v mmdebstrap >/dev/null || die "mmdebstrap is missing"
    APT_CONFIG= in_own_mounts mmdebstrap --quiet --variant=essential --mode=root \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='Acquire::Retries "3"' --aptopt='APT::Sandbox::User "root"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include=linux-headers-amd64,make,libc6-dev,libelf1t64 \
        "$suite" "$c" "$(cat "$EBB_CACHE/apt/$suite/sources.list")" >&2
    rm -rf "$c"/var/lib/apt/lists/* "$c"/var/cache/apt/*
    h=$(echo "$c"/usr/src/linux-headers-*-amd64)
    [ -d "$h" ] || die "no header tree in the $suite chroot"
    echo "${h##*/linux-headers-}" >"$d/release"
    (cd "$c/usr/bin" && ls -d gcc-[0-9]* x86_64-linux-gnu-gcc-[0-9]* 2>/dev/null || true) |
        sort -V | awk '/^(x86_64-linux-gnu-)?gcc-[0-9]+$/ {c = $0} END {print c}' >"$d/cc"
    [ -s "$d/cc" ] || die "no compiler in the $suite chroot"
    ln -sfn "chroot${h#"$c"}" "$d/headers"
}

# The top Makefile of a packaged header tree names /usr/src; it has to name where the cache is now.
relocate() {
    local d=$1 h=$1/headers
    [ -e "$h/Makefile.as-packaged" ] || return 0
    [ "$(cat "$d/located-at" 2>/dev/null)" = "$d" ] && return 0
    sed -e "s#\([= ]\)/usr/src/#\1$d/usr/src/#g" -e "s#^KBUILD_OUTPUT=/usr#KBUILD_OUTPUT=$d/usr#" \
        "$h/Makefile.as-packaged" >"$h/Makefile"
    echo "$d" >"$d/located-at"
}

fetch() {
    local label=$1 d=$EBB_CACHE/kernels/$1 t
    if [ "$label" = debug ] || [ "$label" = kcsan ]; then
        "$LAB/debug-kernel.sh" "$label"
        return
    fi
    # What was added is there, or not at all.
    [ ! -e "$d/complete" ] || (suite_of "$label") >/dev/null 2>&1 || return 0
    suite_of "$label" >/dev/null
    lab_lock "kernel-$label"
    if [ ! -e "$d/complete" ]; then
        t=$EBB_CACHE/kernels/.$label.new
        rm -rf "$t" "$d"
        mkdir -p "$t"
        say "fetching kernel $label"
        fetch_debian "$label" "$t"
        : >"$t/complete"
        mv "$t" "$d"
        say "kernel $label is $(cat "$d/release")"
    fi
    relocate "$d"
}

# Modules are installed stripped: guests read them over 9p. Done anew when the folder was built anew.
add() {
    local label=$1 tree d=$EBB_CACHE/kernels/$1 t key
    [[ $label =~ ^[a-z][a-z0-9.-]*$ ]] || die "'$label' is no label: letters, digits, dots, dashes"
    case $label in trixie | sid | debug) die "the label $label is taken" ;; esac
    tree=$(realpath "$2")
    for t in arch/x86/boot/bzImage Module.symvers .config include/config/kernel.release; do
        [ -f "$tree/$t" ] || die "$tree is no kernel that was built: it has no $t"
    done
    key=$(hash_text "$tree" "$(cd "$tree" && stat -Lc '%n %s %Y' arch/x86/boot/bzImage Module.symvers .config)")
    lab_lock "kernel-$label"
    [ "$(cat "$d/complete" 2>/dev/null)" != "$key" ] || return 0
    t=$EBB_CACHE/kernels/.$label.new
    rm -rf "$t" "$d"
    mkdir -p "$t"
    cp -L "$tree/arch/x86/boot/bzImage" "$t/vmlinuz"
    cp "$tree/include/config/kernel.release" "$t/release"
    # As older and newer kernels say it.
    sed -n 's/^# Compiler: \([^ ]*\).*/\1/p; s/^CONFIG_CC_VERSION_TEXT="\([^ ]*\).*/\1/p' "$tree/.config" |
        head -n 1 >"$t/cc"
    [ -s "$t/cc" ] || die "$tree/.config does not say which compiler it was built with"
    ln -sfn "$tree" "$t/headers"
    make -s -C "$tree" INSTALL_MOD_PATH="$t" INSTALL_MOD_STRIP=1 modules_install >&2
    depmod -b "$t" "$(cat "$t/release")"
    echo "$key" >"$t/complete"
    mv "$t" "$d"
    say "kernel $label is $(cat "$d/release")"
}

if [ "${1:-}" = add ] && [ $# = 3 ]; then
    add "$2" "$3"
    exit
fi
[ $# = 2 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
dir=$EBB_CACHE/kernels/$2
[ "$1" = fetch ] || [ -e "$dir/complete" ] || "$0" fetch "$2"
case $1 in
    fetch) fetch "$2" ;;
    path) echo "$dir" ;;
    release) cat "$dir/release" ;;
    headers) (cd "$dir/headers" && pwd -P) ;;
    cc) cat "$dir/cc" ;;
    *) die "unknown command '$1'" ;;
esac
