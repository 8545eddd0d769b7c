#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD_DIR [mutations]: 500 seeds, each fault kind often enough; or: every removed sync and
# every falsified tracker is caught by some seed.
set -euo pipefail
sim=${1:?usage: run.sh BUILD_DIR}/tests/ebb_sim
if [ "${2:-}" = mutations ]; then
    exec "$sim" --mutations
fi
exec "$sim" --seeds 1..500
