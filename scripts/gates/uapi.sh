#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The user interface headers compile as C and C++ by themselves and have no padding: uapi.sh [--top DIR]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ "${1:-}" = --top ]; then top=$2; fi
cd "$top/include/uapi"
mapfile -t names < <(find . -name '*.h' -printf '%P\n' | sort)
if [ "${#names[@]}" = 0 ]; then
    echo "uapi: nothing to look at"
    exit 2
fi
cc=$(command -v gcc-12 || command -v gcc)
cxx=$(command -v g++-12 || command -v g++)
rc=0
for name in "${names[@]}"; do
    for how in "$cc -x c -std=c99" "$cc -x c -std=c17" "$cxx -x c++ -std=c++11" "$cxx -x c++ -std=c++23"; do
        # -Wpadded tells of every structure with a hole or padding at its end, also for 32 bits.
        for bits in 64 32; do
            flags=(-Wall -Wextra -Werror -Wpadded -pedantic -fsyntax-only)
            if [ "$bits" = 32 ]; then
                # Headers of 32-bit libc are not needed: the kernel's types are enough.
                flags+=(-m32)
                echo '#include <linux/types.h>' | $how -m32 -fsyntax-only - 2>/dev/null || continue
            fi
            echo "#include \"$name\"" | $how "${flags[@]}" -I . - || rc=1
        done
    done
    if grep -nE '\b(unsigned long|long|size_t|int|bool|unsigned int)\b[^;(]*;' "$name" | grep -vE '^\S*\s*(/?\*|//)'; then
        echo "$name: a type without fixed width"
        rc=1
    fi
done
echo "uapi: ${#names[@]} headers looked at"
exit $rc
