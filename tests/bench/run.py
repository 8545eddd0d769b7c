#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tracking and cuts cost, beside peers.

  tests/bench/run.py [--kernel LABEL]... [--part PART]... [--quick] [--jobs N]
                     [--device null_blk|brd] [--only NAME]...

  instructions   F1, F2: of a write, by exact measurement (6.1, 6.12 and 5.10)
  latency        F3: with a cut every 5 s (6.1)
  memory         F11 (6.1)
  sharing        four CPUs at once: cache lines that they share (6.1)
  contention     four CPUs at once: writes per second (6.1)
  points         F8, F9, F10: what points take, and the way to one (the host itself)
  deltas         F5, F6: a changed part of a disk, and equal disks (the host itself)
  ages           F7: age of the newest point while a disk is written to (the host itself)
  daemons        F12: memory of a source and a target (the host itself)
  drbd           F5, F6 of DRBD: bytes on the wire (6.1)

All but contention, points, deltas, ages and daemons are counts, which other load does not change: they run side by side, as many as
the machine has CPUs, and these afterwards, alone. --quick: 6.1 alone, Ebb alone in what takes
long, fewer rounds.
Nothing fails on a figure that is not reached: the tables say so.
"""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import time

import ages
import contention
import daemons
import deltas
import instructions
import latency
import memory
import points
import resync_drbd
import sharing
from candidates import CANDIDATES, DEVICES, GuestError, Lab, LabError

PARTS = {"instructions": (instructions.bench, ["6.1", "6.12", "5.10"]),
         "latency": (latency.bench, ["6.1"]), "memory": (memory.bench, ["6.1"]),
         "sharing": (sharing.bench, ["6.1"]), "contention": (contention.bench, ["6.1"]),
         "points": (points.bench, ["host"]), "deltas": (deltas.bench, ["host"]),
         "ages": (ages.bench, ["host"]), "daemons": (daemons.bench, ["host"]),
         "drbd": (resync_drbd.bench, ["6.1"])}
ALONE = ("contention", "points", "deltas", "ages", "daemons")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", action="append", help="label of kernel.sh")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="6.1 alone and fewer rounds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="guests side by side")
    parser.add_argument("--device", choices=DEVICES, default="null_blk", help="of instructions")
    parser.add_argument("--count", type=int, default=20000, help="writes, of instructions")
    parser.add_argument("--only", action="append", choices=CANDIDATES, help="of instructions")
    parser.add_argument("--cuts", type=int, default=2, help="of a round, of latency")
    parser.add_argument("--depth", type=int, default=16, help="reads at once, of latency")
    parser.add_argument("--rounds", type=int, default=7, help="of contention")
    return parser.parse_args()


def measure(part, label, options):
    """One table, here."""
    with Lab(f"bench-{part}-{label}") as lab:
        try:
            PARTS[part][0](lab, label, options)
        except (GuestError, subprocess.SubprocessError) as error:
            print(f"\n{part} on {label}: not measured: {str(error)[-300:]}", flush=True)


def measure_aside(part, label):
    """One table, by a process of its own; what it printed, and whether it was well."""
    done = subprocess.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--part", part,
                           "--kernel", label, "--jobs", "0"], stdout=subprocess.PIPE, text=True,
                          check=False)
    return done.stdout, done.returncode == 0


def side_by_side(tables, jobs):
    """Prints them in their order; false if one did not end well."""
    good = True
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for text, well in pool.map(lambda table: measure_aside(*table), tables):
            print(text, end="", flush=True)
            good = good and well
    return good


def main():
    options = parse()
    if options.jobs == 0:
        # By measure_aside(): the last ones given are the ones that count.
        measure(options.part[-1], options.kernel[-1], options)
        return 0
    begun = time.monotonic()
    tables = [(part, label) for part in options.part or PARTS for label in
              options.kernel or PARTS[part][1][:1 if options.quick else None]]
    good = side_by_side([table for table in tables if table[0] not in ALONE], options.jobs)
    good = side_by_side([table for table in tables if table[0] in ALONE], 1) and good
    print(f"\nmeasured in {time.monotonic() - begun:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"bench: {error}")
