#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool.sh agent|netswitch: builds a small C program of the lab (static, so that any guest runs it),
# once per content, and prints where it is.
set -euo pipefail
. "$(dirname "$0")/common.sh"

src=$LAB/$1.c
[ -e "$src" ] || die "no tool $1"
out=$EBB_CACHE/tools/$1-$(hash_of "$src")
if [ ! -x "$out" ]; then
    mkdir -p "$EBB_CACHE/tools"
    gcc -std=gnu11 -O2 -Wall -Wextra -Werror -static -o "$out.$$" "$src"
    mv "$out.$$" "$out"
fi
echo "$out"
