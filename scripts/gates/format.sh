#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-format over the C++ sources: format.sh [--fix] [--top DIR]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mode=(--dry-run --Werror)
while [ $# -gt 0 ]; do
    case $1 in
    --fix) mode=(-i) ;;
    --top) top=$2 && shift ;;
    *) echo "usage: format.sh [--fix] [--top DIR]" >&2 && exit 2 ;;
    esac
    shift
done
cd "$top"
mapfile -d '' -t names < <(git ls-files -z -co --exclude-standard -- '*.cc' '*.h' \
    ':!kmod' ':!include/uapi' ':!tests/kmod/*.c')
files=()
for name in "${names[@]}"; do
    if [ -f "$name" ]; then files+=("$name"); fi
done
if [ "${#files[@]}" = 0 ]; then
    echo "format: nothing to look at"
    exit 2
fi
# Every file is judged, whatever comes out for the one before it.
printf '%s\0' "${files[@]}" | xargs -0 -n 8 -P "$(nproc)" clang-format-19 "${mode[@]}" || exit 1
echo "format: ${#files[@]} looked at"
