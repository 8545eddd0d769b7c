#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fresh seeds for a while: tests/sim/hunt.sh BUILD_DIR [SECONDS]
set -euo pipefail
sim=${1:?usage: hunt.sh BUILD_DIR [SECONDS]}/tests/ebb_sim
end=$((SECONDS + ${2:-600}))
from=$(date +%s%N)
while [ "$SECONDS" -lt "$end" ]; do
    "$sim" --seeds "$from..$((from + 199))" || exit 1
    from=$((from + 200))
done
