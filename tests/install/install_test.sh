#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install_test.sh: `make install` into a folder of its own, the module built by DKMS from what was
# installed, against the lab's 6.1 kernel, and `make uninstall` leaves nothing.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() {
    local what=$1
    shift
    if "$@" >>"$work/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok: $what"
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        tail -20 "$work/log"
    fi
}
version=$(sed -n 's/^MODULE_VERSION("\(.*\)");$/\1/p' "$top/kmod/main.c")
export DESTDIR=$work/root PREFIX=/usr
built_by_dkms() {
    local tree kdir release
    "$top/scripts/lab/kernel.sh" fetch 6.1
    release=$("$top/scripts/lab/kernel.sh" release 6.1)
    tree=$("$top/scripts/lab/kernel.sh" path 6.1)
    kdir=$(find "$tree/usr/src" -maxdepth 1 -name "linux-headers-$release" | head -1)
    mkdir -p "$work/dkms"
    dkms add --dkmstree "$work/dkms" --sourcetree "$work/root/usr/src" "ebb/$version"
    dkms build --dkmstree "$work/dkms" --sourcetree "$work/root/usr/src" \
        --kernelsourcedir "$kdir" -k "$release" "ebb/$version"
    find "$work/dkms" -name 'ebb.ko*' | grep -q .
}
check "make install" "$top/scripts/install.sh" install
check "the header is there" test -f "$work/root/usr/include/linux/ebb.h"
check "udev rules are there" test -n "$(find "$work/root/usr/lib/udev/rules.d" -name '*.rules')"
check "DKMS builds the module" built_by_dkms
check "make uninstall" "$top/scripts/install.sh" uninstall
check "nothing is left" test -z "$(find "$work/root" -type f)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
