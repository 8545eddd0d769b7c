#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD_DIR [mutations|orderings]: 500 seeds, each fault kind often enough; or: every removed sync and
# every falsified tracker, or every sync that comes too late, is caught by some seed.
set -euo pipefail
sim=${1:?usage: run.sh BUILD_DIR}/tests/ebb_sim
if [ -n "${2:-}" ]; then
    exec "$sim" "--$2"
fi
exec "$sim" --seeds 1..500
