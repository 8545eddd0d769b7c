#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each fuzz target, under ASan and UBSan: replays its corpus, then looks for new inputs for SECONDS.
#   run.sh BUILD_DIR SECONDS [--keep] [NAME]...
# --keep goes on from, and adds to, what earlier runs with --keep found ($EBB_CACHE/fuzz/NAME).
# An input that fails is left in BUILD_DIR/fuzz/NAME/; again: BUILD_DIR/tests/NAME_fuzz FILE
set -uo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
usage="usage: run.sh BUILD_DIR SECONDS [--keep] [NAME]..."
build=${1:?$usage} seconds=${2:?$usage}
shift 2
keep=
if [ "${1:-}" = --keep ]; then
    keep=${EBB_CACHE:-$top/.cache}/fuzz
    shift
fi
names=("$@")
if [ "${#names[@]}" = 0 ]; then
    for source in "$top"/tests/fuzz/*_fuzz.cc; do names+=("$(basename "$source" _fuzz.cc)"); done
fi
export UBSAN_OPTIONS=print_stacktrace=1

fuzz() {
    local name=$1 left=$build/fuzz/$1 found
    rm -rf "$left"
    found=${keep:-$left}/$name
    mkdir -p "$left" "$found"
    # libFuzzer writes new inputs into the first folder; what an input may need is bounded by memory
    # and not by time, which is the machine's affair.
    "$build/tests/${name}_fuzz" -max_total_time="$seconds" -timeout=600 -rss_limit_mb=2048 \
        -max_len=16384 -print_final_stats=1 -verbosity=1 -artifact_prefix="$left/" \
        "$found" "$top/tests/fuzz/corpus/$name" >"$left/log" 2>&1
}

passed=0 failed=0
for name in "${names[@]}"; do
    if [ -z "$(ls -A "$top/tests/fuzz/corpus/$name" 2>/dev/null)" ]; then
        echo "$name: no corpus"
        failed=$((failed + 1))
    elif fuzz "$name"; then
        echo "$name: $(awk '/number_of_executed_units/ { print $2 }' "$build/fuzz/$name/log") inputs ran," \
            "$(grep -o 'cov: [0-9]*' "$build/fuzz/$name/log" | tail -n 1)"
        passed=$((passed + 1))
    else
        echo "$name: FAILED"
        tail -n 60 "$build/fuzz/$name/log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
