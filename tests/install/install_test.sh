#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install_test.sh: `make install` into a folder of its own: programs, units, man pages and module
# source work from there; DKMS builds the module against the lab's 6.1 kernel; another prefix is
# followed everywhere; and `make uninstall` leaves nothing.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() {
    local what=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok: $what"
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        tail -20 "$work/log"
    fi
}
version=$(sed -n 's/^MODULE_VERSION("\(.*\)");$/\1/p' "$top/kmod/main.c")
root=$work/root
staged_make() {
    make --no-print-directory -C "$top" DESTDIR="$root" PREFIX=/usr "$@"
}
says_version() {
    "$1" --version | grep -Eqx "$2 [0-9]+\.[0-9]+\.[0-9]+"
}
stripped() {
    file "$root/usr/sbin/ebbd" | grep -q ' stripped'
}
# Everything that the units name must exist, and nothing in them be unknown. They are looked at with
# the paths of the staged programs: systemd-analyze asks the machine that it runs on.
units_verify() {
    local unit said
    mkdir -p "$work/units"
    for unit in "$root"/usr/lib/systemd/system/ebb*; do
        sed -e "s|/usr/sbin/ebbd|$root/usr/sbin/ebbd|" -e "s|/usr/sbin/modprobe|/bin/true|" \
            -e "s|/usr/lib/ebb/|$root/usr/lib/ebb/|" "$unit" >"$work/units/$(basename "$unit")"
    done
    [ "$(find "$work/units" -type f | wc -l)" = 5 ] || return 1
    said=$(SYSTEMD_UNIT_PATH="$work/units:" systemd-analyze verify --man=no \
        "$work"/units/* 2>&1) || { echo "$said"; return 1; }
    # What else is wrong with the machine's own units is not the matter here.
    ! grep -F "$work/units" <<<"$said"
}
unit_starts_installed_daemon() {
    local unit program
    for unit in source target controller; do
        program=$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$1/lib/systemd/system/ebbd-$unit.service")
        [ "$program" = "$2" ] || return 1
        grep -q '^Restart=always$' "$1/lib/systemd/system/ebbd-$unit.service" || return 1
    done
}
man_renders() {
    local page said
    for page in man1/ebbctl.1 man8/ebbd.8 man8/ebb-attach.8 man8/ebb-freeze.8; do
        said=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l "$root/usr/share/man/$page" 2>&1 >"$work/page")
        [ -z "$said" ] || { echo "$said"; return 1; }
        grep -q 'DESCRIPTION' "$work/page" || return 1
    done
}
built_by_dkms() {
    local tree kdir release
    "$top/scripts/lab/kernel.sh" fetch 6.1
    release=$("$top/scripts/lab/kernel.sh" release 6.1)
    tree=$("$top/scripts/lab/kernel.sh" path 6.1)
    kdir=$(find "$tree/usr/src" -maxdepth 1 -name "linux-headers-$release" | head -1)
    mkdir -p "$work/dkms"
    dkms add --dkmstree "$work/dkms" --sourcetree "$root/usr/src" "ebb/$version"
    dkms build --dkmstree "$work/dkms" --sourcetree "$root/usr/src" \
        --kernelsourcedir "$kdir" -k "$release" "ebb/$version"
    find "$work/dkms" -name 'ebb.ko*' | grep -q .
}
refused_unbuilt() {
    ! DESTDIR=$work/none BUILD=$work/nothing "$top/scripts/install.sh" install &&
        [ ! -e "$work/none" ]
}
other_prefix() {
    local there=$work/local
    DESTDIR=$there PREFIX=/usr/local "$top/scripts/install.sh" install || return 1
    unit_starts_installed_daemon "$there/usr/local" /usr/local/sbin/ebbd || return 1
    [ -z "$(find "$there" -type f ! -path "$there/usr/local/*" ! -path "$there/usr/src/*")" ] ||
        return 1
    DESTDIR=$there PREFIX=/usr/local "$top/scripts/install.sh" uninstall || return 1
    [ -z "$(find "$there" -type f)" ]
}
check "what is not built is not installed" refused_unbuilt
check "make install" staged_make install
check "make install once more over it" staged_make install
check "ebbctl runs from there" says_version "$root/usr/bin/ebbctl" ebbctl
check "ebbd runs from there" says_version "$root/usr/sbin/ebbd" ebbd
check "ebb-attach runs from there" says_version "$root/usr/sbin/ebb-attach" ebb-attach
check "ebb-freeze is beside ebbd, which starts it" says_version "$root/usr/sbin/ebb-freeze" ebb-freeze
check "there are scripts to copy" test -f "$root/usr/share/doc/ebb/consistency.d/10-postgresql"
check "debugging information stays behind" stripped
check "the units are sound" units_verify
check "the units start what was installed" unit_starts_installed_daemon "$root/usr" /usr/sbin/ebbd
check "man pages render without a warning" man_renders
check "the module is loaded at boot" grep -qx ebb "$root/usr/lib/modules-load.d/ebb.conf"
check "the header is there" test -f "$root/usr/include/linux/ebb.h"
check "udev rules are there" cmp "$top/udev/60-ebb.rules" "$root/usr/lib/udev/rules.d/60-ebb.rules"
check "udev attaches by the program that is installed" \
    grep -q 'PROGRAM="/usr/sbin/ebb-attach ' "$root/usr/lib/udev/rules.d/10-ebb-attach.rules"
check "initramfs-tools has a script" sh -n "$root/usr/share/initramfs-tools/scripts/local-top/ebb"
check "initramfs-tools has a hook" test -x "$root/usr/share/initramfs-tools/hooks/ebb"
check "initramfs-tools tells when an image is in place" test -x "$root/etc/initramfs/post-update.d/ebb"
check "dracut has a module" bash -n "$root/usr/lib/dracut/modules.d/90ebb/module-setup.sh"
check "DKMS builds the module" built_by_dkms
check "another prefix is followed" other_prefix
mkdir -p "$root/etc/ebb" && echo '{}' >"$root/etc/ebb/ebbd.json"
check "make uninstall" staged_make uninstall
check "configuration is left" test -f "$root/etc/ebb/ebbd.json"
rm "$root/etc/ebb/ebbd.json"
check "nothing else is left" test -z "$(find "$root" -type f)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
