#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [BUILD_DIR]: the tests of userspace in virtual machines, one after the other.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${1:-$here/../../build}
passed=0 failed=0
for test in "$here"/*_test.py "$here"/target_checks.py; do
    [ -f "$test" ] || continue
    # A part of what the others do; steps of their own.
    case $(basename "$test") in replication_share_test.py | serve_test.py | postgres_failover_test.py | consistency_test.py) continue ;; esac
    status=0
    log=$(timeout 3600 "$test" "$build" 2>&1) || status=$?
    echo "== $(basename "$test")"
    echo "$log"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' <<<"$log" | tail -1 || true)
    if [ -z "$line" ]; then
        failed=$((failed + 1))
        continue
    fi
    read -r p _ f _ <<<"$line"
    passed=$((passed + p)) failed=$((failed + f))
    if [ "$status" != 0 ] && [ "$f" = 0 ]; then failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
