#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# checkpatch --strict over the module and its header, and a build with sparse and W=1 in which no
# file of the module may warn: module.sh checkpatch|sparse [--top DIR]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$top
what=${1:?checkpatch or sparse}
if [ "${2:-}" = --top ]; then top=$3; fi

checkpatch() {
    mapfile -t names < <(cd "$top" && git ls-files -co --exclude-standard -- 'kmod/*.[ch]' 'include/uapi/*.h' \
        'tests/kmod/modules/*.c')
    if [ "${#names[@]}" = 0 ]; then
        echo "checkpatch: nothing to look at"
        return 2
    fi
    "$tools/scripts/lab/checkpatch.sh" "${names[@]/#/$top/}" || return 1
    echo "checkpatch: ${#names[@]} looked at"
}

sparse() {
    local out rc=0
    out=$top/build/sparse
    # lab/kmod.sh skips a build whose sources and arguments are those of the last: its log stays.
    "$tools/scripts/lab/kmod.sh" 6.1 "$top/kmod" "$out" C=2 CHECK="$(command -v sparse)" W=1 \
        >"$top/build/sparse.out" 2>&1 || rc=$?
    if [ "$rc" != 0 ] || [ ! -s "$out/build.log" ]; then
        cat "$top/build/sparse.out"
        return 1
    fi
    if ! grep -q 'CHECK ' "$out/build.log"; then
        echo "sparse: it was not run"
        return 2
    fi
    # The kernel's own headers are not ours to judge.
    if grep -E '(^|/)(kmod|uapi/linux/ebb)[^:]*:[0-9]+(:[0-9]+)?: (warning|error)' "$out/build.log"; then
        return 1
    fi
    echo "sparse: $(grep -c 'CHECK ' "$out/build.log") looked at"
}

mkdir -p "$top/build"
"$what"
