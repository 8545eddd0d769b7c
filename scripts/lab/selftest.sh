#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# selftest.sh [LABEL...]: the lab itself works: a module built for each kernel (default 6.1 6.12)
# loads in a guest, disks are found by their WWN, exit statuses and complaints come back.
set -euo pipefail
. "$(dirname "$0")/common.sh"

[ $# -gt 0 ] || set -- 6.1 6.12
for label in "$@"; do
    "$LAB/kmod.sh" "$label" "$LAB/selftest" "$TOP/build/lab/selftest-kmod/$label"
done
exec python3 "$LAB/selftest.py" "$@"
