#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tracking and cuts cost, beside peers.

  tests/bench/run.py [--kernel LABEL]... [--part PART]... [--device null_blk|brd] [--only NAME]...

  instructions   F1, F2: of a write, by exact measurement (6.1, 6.12 and 5.10)
  latency        F3: with a cut every 5 s (6.1)
  memory         F11 (6.1)
  contention     four CPUs at once (6.1)

Nothing fails on a figure that is not reached: the tables say so.
"""
import argparse
import subprocess
import sys

import contention
import instructions
import latency
import memory
from candidates import CANDIDATES, DEVICES, GuestError, Lab, LabError

PARTS = {"instructions": (instructions, ["6.1", "6.12", "5.10"]), "latency": (latency, ["6.1"]),
         "memory": (memory, ["6.1"]), "contention": (contention, ["6.1"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", action="append", help="label of kernel.sh")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--device", choices=DEVICES, default="null_blk", help="of instructions")
    parser.add_argument("--count", type=int, default=20000, help="writes, of instructions")
    parser.add_argument("--only", action="append", choices=CANDIDATES, help="of instructions")
    parser.add_argument("--cuts", type=int, default=3, help="of latency")
    parser.add_argument("--depth", type=int, default=16, help="reads at once, of latency")
    parser.add_argument("--rounds", type=int, default=7, help="of contention, with CPUs at once")
    options = parser.parse_args()
    for part in options.part or PARTS:
        module, kernels = PARTS[part]
        for label in options.kernel or kernels:
            with Lab(f"bench-{part}-{label}") as lab:
                try:
                    module.bench(lab, label, options)
                except (GuestError, subprocess.CalledProcessError) as error:
                    print(f"\n{part} on {label}: not measured: {str(error)[-300:]}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"bench: {error}")
