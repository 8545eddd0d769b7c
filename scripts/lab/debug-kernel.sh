#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# debug-kernel.sh [debug|kcsan|source]: builds, once, Debian's 6.1 as $EBB_CACHE/kernels/debug, with
# KASAN, lockdep, atomic-sleep, kmemleak and UBSAN, or as $EBB_CACHE/kernels/kcsan, with KCSAN (same
# contents as kernel.sh's). With `source` it only unpacks the kernel source and prints where.
# JOBS says how many compilers run (default: all CPUs).
set -euo pipefail
. "$(dirname "$0")/common.sh"

SRC=$EBB_CACHE/src/linux-source-6.1
variant=${1:-debug}
DEST=$EBB_CACHE/kernels/$variant
OBJ=$DEST/build
CONFIGS=("$LAB/debug.config")
MORE=()
case $variant in
    debug | source) ;;
    kcsan)
        CONFIGS+=("$LAB/kcsan.config")
        # Watchpoints are few and slow: all of them for the module, and for what changes bios beside
        # it. Modules are instrumented, since kmod.sh does not say this.
        MORE=(KCSAN_SANITIZE=n KCSAN_SANITIZE_bio.o=y KCSAN_SANITIZE_blk-core.o=y
            KCSAN_SANITIZE_blk-merge.o=y KCSAN_SANITIZE_blk-mq.o=y)
        ;;
    *) echo "debug-kernel.sh: unknown variant '$variant'" >&2 && exit 2 ;;
esac

unpack_source() {
    local t=$EBB_CACHE/src/.new
    lab_lock linux-source
    if [ ! -e "$SRC/.complete" ]; then
        say "unpacking linux-source-6.1"
        rm -rf "$t" "$SRC"
        mkdir -p "$t"
        APT_CONFIG=$(apt_for bookworm)
        export APT_CONFIG
        (cd "$t" && apt-get -qq download linux-source-6.1 >&2)
        dpkg --fsys-tarfile "$t"/linux-source-6.1_*.deb |
            tar -xO ./usr/src/linux-source-6.1.tar.xz | tar -xJ -C "$t"
        : >"$t/linux-source-6.1/.complete"
        mv "$t/linux-source-6.1" "$SRC"
        rm -rf "$t"
    fi
    flock -u "$LAB_LOCK_FD"
}

# The lines that hold: of a symbol, the last one.
wanted() {
    cat "${CONFIGS[@]}" | awk -F= '/^CONFIG_/ {line[$1] = $0} END {for (s in line) print line[s]}'
}

# A symbol whose dependencies are missing is dropped by kconfig without a word: ask afterwards.
check_config() {
    local line missing=0
    while read -r line; do
        case $line in
            *=n) grep -q "^${line%=n}=" "$OBJ/.config" && { say "not off: $line"; missing=1; } ;;
            *) grep -qxF "$line" "$OBJ/.config" || { say "not set: $line"; missing=1; } ;;
        esac
    done < <(wanted)
    [ "$missing" = 0 ] || die "the configuration did not take"
}

configure() {
    mkdir -p "$OBJ"
    "${MAKE_KERNEL[@]}" tinyconfig >"$OBJ/tinyconfig.log" 2>&1
    (cd "$SRC" && ./scripts/kconfig/merge_config.sh -m -O "$OBJ" "$OBJ/.config" "${CONFIGS[@]}" \
        >"$OBJ/merge.log")
    "${MAKE_KERNEL[@]}" olddefconfig >"$OBJ/olddefconfig.log" 2>&1
    check_config
}

build() {
    local rel
    "${MAKE_KERNEL[@]}" -j"$JOBS" bzImage modules
    "${MAKE_KERNEL[@]}" INSTALL_MOD_PATH="$DEST" modules_install
    rel=$(cat "$OBJ/include/config/kernel.release")
    cp "$OBJ/arch/x86/boot/bzImage" "$DEST/vmlinuz"
    echo "$rel" >"$DEST/release"
    echo gcc-12 >"$DEST/cc"
    ln -sfn build "$DEST/headers"
    depmod -b "$DEST" "$rel"
    # What building modules does not need, and what would fill a CI cache.
    find "$OBJ" \( -name '*.o' -o -name '*.cmd' -o -name '*.a' -o -name 'vmlinux*' \) \
        ! -path "$OBJ/scripts/*" ! -path "$OBJ/tools/*" -type f -delete
}

JOBS=${JOBS:-$(nproc)}
MAKE_KERNEL=(nice -n 5 make -s -C "$SRC" O="$OBJ" CC=gcc-12 HOSTCC=gcc-12
    KBUILD_BUILD_USER=ebb KBUILD_BUILD_HOST=lab KBUILD_BUILD_TIMESTAMP=2000-01-01
    LOCALVERSION="-ebb$variant" "${MORE[@]}")

unpack_source
if [ "$variant" = source ]; then
    echo "$SRC"
    exit
fi
lab_lock "kernel-$variant"
key=$(hash_text "$(hash_of "${CONFIGS[@]}")" recipe-1)
if [ "$(cat "$DEST/complete" 2>/dev/null)" != "$key" ]; then
    rm -rf "$DEST"
    configure
    say "building the kernel $variant with $JOBS jobs"
    build >&2
    echo "$key" >"$DEST/complete"
    say "kernel $(cat "$DEST/release") is ready"
fi
