#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# initrd.sh 9p LABEL
#     the generic initramfs for that kernel with the root over 9p; prints its path (made once)
# initrd.sh disk LABEL
#     the same for a root on a disk behind LSI Logic, virtio or pvscsi controllers
# initrd.sh make LABEL OUT "MODULES" INIT [FILE[:DEST]]...
#     a busybox initramfs of its own: the named modules with all they need, in load order, the
#     shell script INIT (run after guest/init-common; ends with poweroff), files with the libraries
#     they are linked to (DEST defaults to /bin/NAME)
set -euo pipefail
. "$(dirname "$0")/common.sh"

# add_modules ROOT KDIR MODULES: decompressed, as /m/NAME, in load order in /m/order
add_modules() {
    local t=$1 k=$2 m f b rel
    rel=$(cat "$k/release")
    mkdir -p "$t/m"
    for m in $3; do
        modprobe -d "$k" -S "$rel" --show-depends "$m" 2>/dev/null || say "$rel has no module $m"
    done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$t/m/list"
    while read -r f; do
        b=$(basename "$f")
        case $f in
            *.xz) b=${b%.xz}; xz -dc "$f" >"$t/m/$b" ;;
            *.zst) b=${b%.zst}; zstd -qdc "$f" >"$t/m/$b" ;;
            *) cp "$f" "$t/m/$b" ;;
        esac
        echo "$b"
    done <"$t/m/list" >"$t/m/order"
    rm "$t/m/list"
}

add_file() { # add_file ROOT FILE[:DEST]: and the shared libraries it needs
    local t=$1 src=${2%%:*} dst=${2#*:} lib
    [ "$dst" != "$2" ] || dst=/bin/$(basename "$src")
    mkdir -p "$t$(dirname "$dst")"
    cp -L "$src" "$t$dst"
    { ldd "$src" 2>/dev/null | grep -o '/[^ ]*' || true; } | while read -r lib; do
        mkdir -p "$t$(dirname "$lib")"
        [ -e "$t$lib" ] || cp -L "$lib" "$t$lib"
    done
}

make_initrd() { # make_initrd LABEL OUT MODULES INIT FILE...
    local k out=$2 init=$4 t f
    k=$("$LAB/kernel.sh" path "$1")
    t=$(mktemp -d "$EBB_CACHE/.initrd.XXXXXX")
    mkdir -p "$t"/{bin,sbin,dev,proc,sys,tmp,mnt,etc}
    cp /bin/busybox "$t/bin/"
    ln -s busybox "$t/bin/sh"
    add_modules "$t" "$k" "$3"
    { echo '#!/bin/sh'; cat "$LAB/guest/init-common" "$init"; echo stop end of init; } >"$t/init"
    chmod +x "$t/init"
    shift 4
    for f in "$@"; do add_file "$t" "$f"; done
    mkdir -p "$(dirname "$out")"
    (cd "$t" && find . | cpio -o -H newc --quiet -R 0:0) >"$out.new"
    mv "$out.new" "$out"
    rm -rf "$t"
}

generic() { # generic 9p|disk LABEL
    local kind=$1 label=$2 out mods k
    k=$("$LAB/kernel.sh" path "$label")
    mods='virtio_pci virtio_console virtio_rng'
    case $kind in
        9p) mods+=' 9p 9pnet_virtio overlay' ;;
        disk) mods+=' ext4 crc32c_generic sd_mod virtio_blk sym53c8xx mptspi mptsas vmw_pvscsi virtio_scsi' ;;
    esac
    lab_lock "initrd-$kind-$label"
    out=$EBB_CACHE/initrd/$kind-$label-$(hash_text "$(hash_of "$LAB/guest" "$LAB/agent.c" "$0")" \
        "$(cat "$k/release" "$k/complete")").cpio
    if [ ! -e "$out" ]; then
        rm -f "$EBB_CACHE/initrd/$kind-$label-"*
        mkdir -p "$EBB_CACHE/initrd"
        make_initrd "$label" "$out" "$mods" "$LAB/guest/init-$kind" \
            "$("$LAB/tool.sh" agent):/bin/ebb-agent" "$LAB/guest/ebb-guest:/ebb-guest"
    fi
    echo "$out"
}

case ${1:-} in
    9p | disk) [ $# = 2 ] && generic "$1" "$2" ;;
    make) shift && [ $# -ge 4 ] && make_initrd "$@" ;;
    *) sed -n '3,11p' "$0" >&2; exit 2 ;;
esac
