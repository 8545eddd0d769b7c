# SPDX-License-Identifier: Apache-2.0
"""F8, F9, F10: what the target keeps for its points, and how long it takes to go to one (journal.cc, on
the host's own file system)."""
import json
import os
import shutil
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# name: disk in MiB, epochs, blocks of each, blocks to choose from, level of compression, blocks of an
# epoch that is open
RUNS = {"once": (1024, 20, 1000, 16384, 0, 0), "10 times the history": (1024, 200, 1000, 16384, 0, 0),
        "10 times the disk": (10240, 20, 1000, 16384, 0, 0), "8 times the blocks": (1024, 20, 8000, 131072, 0, 0),
        "compressed": (1024, 20, 1000, 16384, 1, 0),
        "in the middle of a close": (1024, 1, 1000, 262144, 0, 100000)}
MIB = 1 << 20


def run(folder, arguments):
    os.makedirs(folder)
    try:
        done = subprocess.run([os.path.join(TOP, "build/tests/bench/journal"), folder,
                               *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(folder)


def bench(lab, label, options):
    print(f"\n## Points, on this {label}\n\n"
          "| | kept per changed byte | failover | rolled back | to the first point | blocks written | a second | "
          "of the same moved raw | and back | raw read of the retention |\n|---|---|---|---|---|---|---|---|---|---|")
    for name, arguments in RUNS.items():
        rounds = [run(os.path.join(lab.folder, "journal"), arguments)
                  for _ in range(1 if options.quick else 3)]
        one = sorted(rounds, key=lambda r: r["back_seconds"])[len(rounds) // 2]
        back, forth = one["back_seconds"], one["forth_seconds"]
        raw = f"{100 * one['moved_seconds'] / back:.0f} %" if back else ""
        # What is rolled back was kept as well, and did not close.
        kept = "" if one["rolled_back_bytes"] else f"{one['retention_bytes'] / one['changed_bytes']:.3f}"
        print(f"| {name} | {kept} | "
              f"{one['failover_seconds'] * 1000:.0f} ms | "
              f"{one['rolled_back_bytes'] / MIB:.0f} MiB | {back:.2f} s | {one['back_bytes'] / MIB:.0f} MiB | "
              f"{one['back_bytes'] / MIB / back:.0f} MiB | {raw} | {forth:.2f} s | "
              f"{one['raw_bytes'] / MIB / one['raw_seconds']:.0f} MiB/s |", flush=True)
