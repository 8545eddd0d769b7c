#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures and builds: scripts/build.sh [preset] [ninja targets...]
# Presets: (none) -> build/; asan -> build/asan: ASan, UBSan and libFuzzer, by clang;
# tsan -> build/tsan; product -> build/ without the tests.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

args=()
dir=build
cc=${CC_FOR_EBB:-} cxx=${CXX_FOR_EBB:-}
if [ -z "$cxx" ]; then
    # GCC 12 by name where the distribution has it so; else the compiler in PATH must be as new.
    cc=$(command -v gcc-12 || command -v gcc)
    cxx=$(command -v g++-12 || command -v g++)
fi
case ${1:-} in
asan)
    dir=build/asan
    args=(-DEBB_FUZZ=ON "-DEBB_SANITIZE=address,undefined")
    cc=clang-19 cxx=clang++-19
    shift
    ;;
tsan)
    dir=build/tsan
    args=(-DEBB_SANITIZE=thread)
    shift
    ;;
product)
    args=(-DEBB_TESTS=OFF)
    shift
    ;;
esac
launcher=()
if command -v ccache >/dev/null; then
    export CCACHE_DIR=${EBB_CACHE:-$top/.cache}/ccache
    export CCACHE_BASEDIR=$top CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=2G
    launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
if [ ! -f "$dir/build.ninja" ]; then
    cmake -S . -B "$dir" -G Ninja -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
        "${launcher[@]}" "${args[@]}" ${EBB_CMAKE_ARGS:-}
fi
exec ninja -C "$dir" ${EBB_JOBS:+-j "$EBB_JOBS"} "$@"
