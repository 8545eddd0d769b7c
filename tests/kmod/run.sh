#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh LABEL [OPTION]...: the module's tests under a kernel of scripts/lab/kernel.sh; --check is the
# share of make check, --pairwise the one of make check-kernels (see run.py).
# run.sh --kernel-dir DIR [--label LABEL] [OPTION]...: under any kernel that was built in DIR (bzImage
# and modules); it is known afterwards by the label (default: the folder's name).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$here/../../scripts/lab
kernel=${1:?label of a kernel, or --kernel-dir}
shift
if [ "$kernel" = --kernel-dir ]; then
    dir=$(realpath "${1:?folder of a kernel that was built}")
    shift
    kernel=$(basename "$dir")
    if [ "${1:-}" = --label ]; then
        kernel=${2:?label}
        shift 2
    fi
    "$lab/kernel.sh" add "$kernel" "$dir"
fi
"$here/../../scripts/build.sh" ebb_guest_tools >/dev/null
exec "$here/run.py" --kernel "$kernel" --jobs "${EBB_KMOD_JOBS:-1}" "$@"
