#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# checkpatch.sh FILE...: the kernel's own checkpatch (--strict) on whole files. Fails on any finding.
set -euo pipefail
. "$(dirname "$0")/common.sh"

[ $# -ge 1 ] || { sed -n 3p "$0" >&2; exit 2; }
src=$EBB_CACHE/src/linux-source-6.1
[ -e "$src/.complete" ] || src=$("$LAB/debug-kernel.sh" source)
status=0
for f in "$@"; do
    # FILE_PATH_CHANGES and the like speak of patches; SPLIT_STRING and the rest stay on.
    # BIT() is not there for users of a uapi header.
    case $f in *include/uapi/*) uapi=,BIT_MACRO ;; *) uapi= ;; esac
    perl "$src/scripts/checkpatch.pl" --no-tree --strict --terse --no-summary --color=never \
        --ignore FILE_PATH_CHANGES,LINUX_VERSION_CODE$uapi -f "$f" || status=1
done
exit $status
