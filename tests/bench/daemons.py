# SPDX-License-Identifier: Apache-2.0
"""F12: memory that a source and a target take, with one disk and with 60 (replicate.cc, in the memory of the host: the core and
platform of ebbd in a process each, without its HTTP)."""
import os
import shutil

import replicas

TIB_IN_MIB = 1 << 20
# disks, MiB of each, rounds, blocks changed in each: 30,000 take most of the closings' budget.
RUNS = {"1 disk of 1 TiB": (1, TIB_IN_MIB, 3, 3000), "60 disks of 1 TiB": (60, TIB_IN_MIB, 3, 3000),
        "60 disks, 10 times the blocks": (60, TIB_IN_MIB, 3, 30000)}
# A disk of 1 TiB, of which little is there; a file system that discards takes minutes to delete it.
MEMORY = "/dev/shm"


def bench(_lab, label, _options):
    """Disks are empty but for the blocks that change."""
    print(f"\n## Memory of the daemon, on this {label}\n\n| | source, at most | target, at most |\n|---|---|---|")
    for name, arguments in RUNS.items():
        folder = os.path.join(MEMORY, f"ebb-bench-{os.getpid()}")
        os.makedirs(folder)
        try:
            one = replicas.run("many", folder, *arguments)
        finally:
            shutil.rmtree(folder)
        print(f"| {name} | {one['source_kib'] / 1024:.0f} MiB | {one['target_kib'] / 1024:.0f} MiB |", flush=True)
