#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh 6.1|6.12|sid|debug [--check]: the module's tests under that kernel; sid gets the short share
# (chains, splits, discards). With --check the share of make check.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../scripts/build.sh" ebbtest replicator stamper stampcheck coordinator netlinkfuzz modeltest >/dev/null
kernel=${1:?kernel}
shift
if [ "$kernel" = sid ] && [ $# = 0 ]; then set -- --short; fi
exec "$here/run.py" --kernel "$kernel" --jobs "${EBB_KMOD_JOBS:-1}" "$@"
