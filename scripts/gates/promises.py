#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each promise of docs/failure-model.md names tests that exist.

A promise is a table row whose first cell is its number (`P12`); its last cell names its tests:
`case:NAME` (tests/kmod/cases), `vm:NAME` (tests/vm), `unit:NAME` (tests/unit), `cli:NAME`
(tests/cli), `bench` (tests/bench), `story:NAME` (tests/kmod/restarts.py), `model:NAME` (tests/kmod/model_NAME.py), `sim`, or
`sim:NAME` (a mutation of the simulator)."""
import os
import re

import gate

ROW = re.compile(r"^\| *(P\d+) *\|(.*)\|\s*$", re.M)
TEST = re.compile(r"`([a-z]+)(?::([a-z0-9_-]+))?`")
PLACES = {"case": ("tests/kmod/cases/{}.sh",), "vm": ("tests/vm/{}.py",),
          "cli": ("tests/cli/{}.py",),
          "unit": ("tests/unit/*/{}.cc", "tests/kmod/unit/{}.cc", "tests/kmod/model/{}.cc"),
          "bench": ("tests/bench/run.py",), "model": ("tests/kmod/model_{}.py",), "sim": ("tests/sim/main.cc",)}


def exists(top, kind, name):
    if kind == "sim" and name:
        sources = gate.files(top, "tests/sim/*.cc", "tests/sim/*.h")
        return any(f'"{name}"' in gate.read(top, source) for source in sources)
    if kind == "story":
        return f"\ndef {name}(m):" in gate.read(top, "tests/kmod/restarts.py")
    return any(gate.files(top, ":(glob)" + place.format(name)) for place in PLACES.get(kind, ()))


def look_at(top, row, cells):
    tests = TEST.findall(cells.rsplit("|", 1)[-1])
    if not tests:
        return [f"{row}: names no test"]
    return [f"{row}: there is no test {kind}{':' if name else ''}{name}" for kind, name in tests
            if not exists(top, kind, name)]


def main():
    args = gate.arguments(__doc__.split("\n", maxsplit=1)[0])
    name = "docs/failure-model.md"
    text = gate.read(args.top, name) if os.path.exists(os.path.join(args.top, name)) else ""
    rows = ROW.findall(text)
    violations, seen = [], set()
    for row, cells in rows:
        if row in seen:
            violations.append(f"{row}: twice")
        seen.add(row)
        violations += look_at(args.top, row, cells)
    gate.finish("promises", [f"{name}: {violation}" for violation in violations], len(rows))


main()
