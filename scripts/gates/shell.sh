#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs shellcheck over every shell script, and pyflakes over every Python one: shell.sh [--top DIR]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ "${1:-}" = --top ]; then top=$2; fi
cd "$top"
mapfile -d '' -t names < <(git ls-files -z -co --exclude-standard)
shell=() python=()
for name in "${names[@]}"; do
    if [ ! -f "$name" ] || [ -L "$name" ]; then continue; fi
    IFS= read -r first <"$name" 2>/dev/null || true
    case $first in
    '#!'*python*) python+=("$name") ;;
    '#!/bin/sh'* | '#!/bin/bash'* | '#!/usr/bin/env bash'* | '#!/bin/busybox sh'*) shell+=("$name") ;;
    *)
        case $name in
        *.py) python+=("$name") ;;
        *.sh) shell+=("$name") ;;
        esac
        ;;
    esac
done
if [ $((${#shell[@]} + ${#python[@]})) = 0 ]; then
    echo "shell: nothing to look at"
    exit 2
fi
rc=0
if [ "${#shell[@]}" != 0 ]; then
    # Warnings and errors; splitting the output of a command into words is often meant.
    printf '%s\0' "${shell[@]}" | xargs -0 -n 4 -P "$(nproc)" shellcheck -s bash -x -S warning -e SC2046,SC1007 || rc=1
fi
if [ "${#python[@]}" != 0 ]; then pyflakes3 "${python[@]}" || rc=1; fi
echo "shell: ${#shell[@]} shell and ${#python[@]} Python files looked at"
exit $rc
