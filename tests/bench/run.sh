#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh: the tables of `make bench`. Options go to run.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../scripts/build.sh" ebbtest writes latency cuts journal replicate >/dev/null
exec "$here/run.py" "$@"
