#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tool.sh agent|netswitch|powercut: builds a small C program of the lab, once per content, and prints
# where it is. Programs are static, so that any guest runs them; powercut is an nbdkit plugin.
set -euo pipefail
. "$(dirname "$0")/common.sh"

src=$LAB/$1.c
flags=(-static)
suffix=
if [ ! -e "$src" ]; then
    src=$TOP/tests/vm/lib/$1.c
    flags=(-shared -fPIC)
    suffix=.so
fi
[ -e "$src" ] || die "no tool $1"
out=$EBB_CACHE/tools/$1-$(hash_of "$src")$suffix
if [ ! -x "$out" ]; then
    mkdir -p "$EBB_CACHE/tools"
    gcc-12 -std=gnu11 -O2 -Wall -Wextra -Werror "${flags[@]}" -o "$out.$$" "$src"
    mv "$out.$$" "$out"
fi
echo "$out"
