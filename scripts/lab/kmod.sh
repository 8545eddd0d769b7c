#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kmod.sh LABEL SRCDIR OUTDIR [make arguments]: builds the external module of SRCDIR (a folder with
# a Kbuild file or Makefile) for the kernel LABEL (see kernel.sh) and puts the .ko files in OUTDIR.
# The build runs in a copy, laid out as the project is (SRCDIR under its own name, include/ and
# kmod/ beside it), so that builds for several kernels do not meet. Nothing is done when neither
# sources nor kernel nor arguments changed. The build's output is OUTDIR/build.log.
set -euo pipefail
. "$(dirname "$0")/common.sh"

[ $# -ge 3 ] || { sed -n '3,4p' "$0" >&2; exit 2; }
label=$1 src=$(realpath "$2") out=$(realpath -m "$3")
shift 3
[ -d "$src" ] || die "no folder $src"

kdir=$("$LAB/kernel.sh" path "$label")
"$LAB/kernel.sh" fetch "$label"
rel=$(cat "$kdir/release")
cc=$(cat "$kdir/cc")
name=${src#"$TOP"/}
[ "$name" != "$src" ] || name=$(basename "$src")
also=()
for d in include kmod; do
    [ -d "$TOP/$d" ] && [ "$name" != "$d" ] && also+=("$d")
done

lab_lock "kmod-$(hash_text "$out")"
key=$(hash_text "$(hash_of "$src" "${also[@]/#/$TOP/}")" "$rel" "$cc" "$kdir" "$*")
if [ "$(cat "$out/.key" 2>/dev/null)" = "$key" ]; then
    exit 0
fi
rm -rf "$out"
mkdir -p "$out"

chroot=
[ ! -d "$kdir/chroot" ] || chroot=$kdir/chroot
if [ -n "$chroot" ]; then
    work=/build/$(hash_text "$out")
else
    work=$out/.work
fi
rm -rf "$chroot${work:?}"
copy() { # copy FROM NAME: without what other builds may have left behind
    mkdir -p "$chroot$work/$2"
    (cd "$1" && find . \( -name '*.o' -o -name '*.ko' -o -name '.*.cmd' -o -name '*.mod' \
        -o -name '*.mod.c' -o -name 'Module.symvers' -o -name modules.order -o -name found -o -name found.h \) -prune -o -type f -print0 |
        tar --null -T - -cf -) | tar -xf - -C "$chroot$work/$2"
}
copy "$src" "$name"
for d in "${also[@]}"; do copy "$TOP/$d" "$d"; done

make_args=(-j2 M="$work/$name" CC="$cc" CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules)
if [ -n "$chroot" ]; then
    # Newer kernels' objtool reads /proc/self/maps; the mount is seen by this build alone.
    run=(unshare -m sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$chroot"
        /usr/bin/make -C "/usr/src/linux-headers-$rel")
else
    run=(make -C "$kdir/headers")
fi
if ! PATH=/usr/sbin:/usr/bin:/sbin:/bin "${run[@]}" "${make_args[@]}" >"$out/build.log" 2>&1; then
    cat "$out/build.log" >&2
    die "building $name for $label ($rel) failed"
fi
grep -iE 'warning|error' "$out/build.log" >&2 || true
find "$chroot$work/$name" -name '*.ko' -exec cp {} "$out/" \;
rm -rf "${chroot}${work:?}"
echo "$key" >"$out/.key"
