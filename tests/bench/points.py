# SPDX-License-Identifier: Apache-2.0
"""F8, F9, F10: what the target keeps for its points, and how long it takes to go to one (journal.cc, on
the host's own file system)."""
import json
import os
import shutil
import subprocess

import limited

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# name: disk in MiB, epochs, blocks of each, blocks to choose from, level of compression, blocks of an
# epoch that is open
RUNS = {"once": (1024, 20, 1000, 16384, 0, 0), "10 times the history": (1024, 200, 1000, 16384, 0, 0),
        "10 times the disk": (10240, 20, 1000, 16384, 0, 0), "8 times the blocks": (1024, 20, 8000, 131072, 0, 0),
        "compressed": (1024, 20, 1000, 16384, 1, 0),
        "in the middle of a close": (1024, 1, 1000, 262144, 0, 100000)}
# Of these, on disks of their own that move so many MiB a second each way.
LIMITED = ("once", "10 times the history", "8 times the blocks")
RATES = (100, 200)
MIB = 1 << 20
PROGRAM = os.path.join(TOP, "build/tests/bench/journal")


def run(folder, arguments):
    os.makedirs(folder)
    try:
        done = subprocess.run([PROGRAM, folder, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
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
    try:
        with limited.Disks(os.path.join(lab.folder, "limited"), RUNS["once"][0], 4096) as disks:
            limited_table(disks, 1 if options.quick else 3)
    except limited.Unusable as why:
        print(f"\nRetention and replica on disks of their own: not measured: {why}", flush=True)


def run_limited(disks, arguments, rate, raw):
    """Received without limits, and then with them. `raw`: also what the devices give."""
    disks.limit(0)
    process = disks.start([PROGRAM, disks.volume, *map(str, arguments), disks.replica])
    with process:
        if process.stdout.readline() != "ready\n":
            raise subprocess.SubprocessError("journal ended before it was ready")
        disks.limit(rate * MIB)
        text, _ = process.communicate("raw\n" if raw else "go\n")
    shutil.rmtree(os.path.join(disks.volume, "retention"))
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, PROGRAM)
    return json.loads(text)


def share(one):
    """Of the raw read of the retention: what the rewind has moved each way."""
    return one["back_bytes"] / one["back_seconds"] / (one["raw_bytes"] / one["raw_seconds"])


def amount(device, way):
    """MiB, and how long a request was."""
    count, moved = device[way + "s"], device["read_bytes" if way == "read" else "written_bytes"]
    return f"{moved / MIB:.0f} MiB ({moved / count / 1024:.0f} KiB)" if count else "0"


def limited_table(disks, rounds):
    """Rewinds alone."""
    print("\nRetention and replica on disks of their own, limited each way; what the first rewind read and "
          "wrote there (length of a request):\n\n"
          "| limit | | blocks written | to the first point | of the raw read | range | of the same moved raw | CPU | the "
          "loop's | read of the retention | written | read of the replica | written |\n"
          "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    raw = {}
    for rate in RATES:
        for name in LIMITED:
            all_of = [run_limited(disks, RUNS[name], rate, n == 0 and name == LIMITED[0]) for n in range(rounds)]
            raw.setdefault(rate, all_of[0])
            all_of.sort(key=share)
            one = all_of[len(all_of) // 2]
            print(f"| {rate} MiB/s | {name} | {one['back_bytes'] / MIB:.0f} MiB | {one['back_seconds']:.2f} s | "
                  f"{100 * share(one):.0f} % | {100 * share(all_of[0]):.0f} to {100 * share(all_of[-1]):.0f} % | "
                  f"{100 * one['moved_seconds'] / one['back_seconds']:.0f} % | "
                  f"{one['back_cpu_seconds']:.2f} s | {one['back_loop_seconds']:.2f} s | "
                  f"{amount(one['retention'], 'read')} | {amount(one['retention'], 'write')} | "
                  f"{amount(one['replica'], 'read')} | {amount(one['replica'], 'write')} |", flush=True)
    limits_table(raw)


def limits_table(raw):
    """What the devices gave under the same limits: whether they held."""
    ways = [(device + way, f"{device} {way.replace('_', ' ').strip()}") for device in ("retention", "replica")
            for way in ("_read", "_write", "_each_way", "_cached_write") if device + way in raw[RATES[0]]]
    print("\nRaw, under the same limits, 256 MiB, MiB/s:\n\n| limit | " + " | ".join(title for _, title in ways)
          + " |\n|---|" + "---|" * len(ways))
    for rate, one in raw.items():
        rates = [one[key] / MIB for key, _ in ways]
        print(f"| {rate} MiB/s | " + " | ".join(f"{value:.0f}" for value in rates) + " |", flush=True)
        # What was not used of a tenth of a second comes on top.
        if max(rates) > 1.2 * rate:
            print(f"\n**The limit does not hold**: {max(rates):.0f} MiB/s where it is {rate}.", flush=True)
