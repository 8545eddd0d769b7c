#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh 6.1|6.12|sid|debug|debug-short: the module's tests under that kernel, as make check wants
# them. sid gets the short share (chains, splits, discards), debug-short a share under KASAN.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../scripts/build.sh" ebbtest replicator stamper stampcheck >/dev/null
case ${1:?kernel} in
debug-short) exec "$here/run.py" --kernel debug --short --tag short ;;
sid) exec "$here/run.py" --kernel sid --short --jobs "${EBB_KMOD_JOBS:-1}" ;;
*) exec "$here/run.py" --kernel "$1" --jobs "${EBB_KMOD_JOBS:-1}" "${@:2}" ;;
esac
