#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh: what make demo runs: builds what it needs, fills the cache where it is empty, and tells
# the story (demo.py). Three cores at most, no privileges, no port on a public address.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
export EBB_CACHE=${EBB_CACHE:-$top/.cache}
read -ra programs <<<"$("$here/demo.py" --programs)"
"$top/scripts/build.sh" "${programs[@]}" >/dev/null
exec "$here/demo.py"
