#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# 500 seeds, each fault kind often enough, and every mutation caught: tests/sim/run.sh BUILD_DIR
set -euo pipefail
sim=${1:?usage: run.sh BUILD_DIR}/tests/ebb_sim
"$sim" --seeds 1..500
"$sim" --mutations
