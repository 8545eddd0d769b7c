# SPDX-License-Identifier: Apache-2.0
"""F7: how old the newest point is while a disk is written to all the time (replicate.cc, over a link of its own
that is as fast as it is told to be, on the host)."""
import os
import shutil

import replicas

MIB = 1 << 20
DISK_MIB = 2048
SECONDS = 20
INTERVAL = 5
# Its bytes/s, and the parts of it that are written, in %. At 80 % of the first as much changes as an agent of
# another product may send at most.
LINKS = {"64 MiB/s": (64 * MIB, (20, 50, 80)), "1 Gbit/s": (125_000_000, (80,))}


def bench(lab, label, options):
    """Random 4 KiB blocks of a disk, all of it."""
    print(f"\n## Age of the newest point, a cut every {INTERVAL} s, on this {label}\n\n"
          "| link, written to the disk | p50 | p99 | most | in intervals (2) | points | void | sent | written |\n"
          "|---|---|---|---|---|---|---|---|---|")
    # One for all: a file system that discards what is deleted would do so during the next.
    folder = os.path.join(lab.folder, "ages")
    os.makedirs(folder)
    try:
        table(folder, list(LINKS.items())[:1 if options.quick else None])
    finally:
        shutil.rmtree(folder)


def table(folder, links):
    """Its rows."""
    for name, (link, loads) in links:
        for load in loads:
            one = replicas.run("churn", folder, DISK_MIB, link, load, SECONDS, INTERVAL * 1000)
            print(f"| {name}, {load} % | {one['p50']:.1f} s | {one['p99']:.1f} s | {one['most']:.1f} s | "
                  f"{one['p99'] / INTERVAL:.2f} | {one['points']} | {one['void']} | "
                  f"{one['there_bytes'] / SECONDS / MIB:.1f} MiB/s | "
                  f"{one['load_bytes'] / one['load_seconds'] / MIB:.1f} MiB/s |", flush=True)
