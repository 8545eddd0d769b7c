#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# leaks.sh begin|end: kmemleak's account of what happens in between; `end` fails if something is lost that
# was allocated by a module which is not loaded any more (its functions have no names then), or by ebb.
# What the kernel itself loses is told.
file=/sys/kernel/debug/kmemleak
case $1 in
    begin)
        echo scan=off >"$file" 2>/dev/null
        echo clear >"$file" || exit 1
        ;;
    end)
        # Nothing younger than five seconds is judged, and nothing that changed since the scan before.
        sleep 6
        for _ in 1 2; do echo scan >"$file" || { echo "kmemleak is off"; exit 1; }; done
        awk '/^unreferenced object/ {report()}
             {text = text $0 "\n"}
             /\[<[0-9a-f]+>\] 0x[0-9a-f]+$|\[ebb(_[a-z]+)?\]/ {ours = 1}
             function report() {
                 if (text != "") printf "%s%s", ours ? "LOST BY THE MODULE: " : "", text
                 lost += ours; text = ""; ours = 0
             }
             END {report(); exit lost > 0}' "$file"
        ;;
esac
