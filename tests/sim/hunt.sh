#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fresh seeds, until it is stopped or for so long: tests/sim/hunt.sh BUILD_DIR [SECONDS]
set -euo pipefail
sim=${1:?usage: hunt.sh BUILD_DIR [SECONDS]}/tests/ebb_sim
for_seconds=${2:-0}
from=$(date +%s%N)
while [ "$for_seconds" = 0 ] || [ "$SECONDS" -lt "$for_seconds" ]; do
    "$sim" --seeds "$from..$((from + 199))" || exit 1
    from=$((from + 200))
done
