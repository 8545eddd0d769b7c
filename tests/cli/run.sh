#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [BUILD_DIR] [unittest arguments]: ebbctl against a real controller, without machines.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
EBB_BUILD=$(cd "${1:-$here/../../build}" && pwd)
export EBB_BUILD
[ $# = 0 ] || shift
exec python3 "$here/main.py" "$@"
