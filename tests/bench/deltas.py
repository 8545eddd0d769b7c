# SPDX-License-Identifier: Apache-2.0
"""F5, F6 (and the first sync beside them): what a changed part of a disk, and comparing all of it,
take and send; beside rsync and nbdcopy on the same files (replicate.cc, on the host's own file
system). Growth: ten times the disk, ten times the changed blocks."""
import os
import re
import shutil
import subprocess
import time

import replicas
from replicas import MIB, median, spread

# name: disk in MiB, changed blocks of 4 KiB (1 %, 0.1 %, 10 %)
SIZES = {"256 MiB": (256, 655), "10 times the disk": (2560, 655),
         "10 times the blocks": (256, 6553)}


def timed(command):
    """Seconds, and what it printed."""
    begun = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - begun, done.stdout


def rsync(folder):
    """Seconds and bytes of both directions."""
    seconds, text = timed(["rsync", "--inplace", "--no-whole-file", "--ignore-times", "--fsync", "--stats",
                           f"{folder}/source-0.raw", f"{folder}/peer.raw"])
    return seconds, sum(int(n.replace(",", "")) for n in
                        re.findall(r"^Total bytes (?:sent|received): ([\d,]+)", text, re.M))


def nbdcopy(folder):
    """Seconds, over TLS with a key that both know."""
    key = os.path.join(folder, "psk")
    with open(key, "w", encoding="ascii") as file:
        file.write("bench:" + os.urandom(32).hex() + "\n")
    os.chmod(key, 0o600)
    place = os.path.join(folder, "nbd")
    server = subprocess.Popen(["nbdkit", "--foreground", "-U", place, "--tls=require", f"--tls-psk={key}",
                               "file", f"{folder}/peer.raw", "cache=none"])
    try:
        while not os.path.exists(place):
            if server.poll() is not None:
                raise replicas.Failed("nbdkit ended")
            time.sleep(0.02)
        return timed(["nbdcopy", "--flush", f"{folder}/source-0.raw",
                      f"nbds+unix://bench@/?socket={place}&tls-psk-file={key}"])[0]
    finally:
        server.terminate()
        server.wait()
        os.unlink(place)


def fill(folder, mib):
    """First sync, beside nbdcopy of the same."""
    first = replicas.run("fill", folder, mib)
    subprocess.run(["truncate", "-s", f"{mib}M", f"{folder}/peer.raw"], check=True)
    return first["seconds"], nbdcopy(folder)


def delta(folder, blocks, rounds):
    """Ours and rsync's in turn, each of as many new changes."""
    ours, theirs = [], []
    rsync(folder)  # the peer's copy has what ours has
    for _ in range(rounds):
        one = replicas.run("delta", folder, blocks)
        ours.append((one["seconds"], one["there_bytes"], one["back_bytes"]))
        theirs.append(rsync(folder))
    replicas.same(folder)
    return ours, theirs


def deltas_table(lab, rounds):
    """F5."""
    print("\n| | changed | ebb: bytes there for a changed one | and back | time | rsync: both ways | time | first sync | "
          "nbdcopy, all of it |\n|---|---|---|---|---|---|---|---|---|")
    for name, (mib, blocks) in SIZES.items():
        folder = os.path.join(lab.folder, "deltas")
        os.makedirs(folder)
        try:
            first, copy = fill(folder, mib)
            ours, theirs = delta(folder, blocks, rounds)
        finally:
            shutil.rmtree(folder)
        changed = blocks * 4096
        print(f"| {name} | {changed / MIB:.1f} MiB | {median(w for _, w, _ in ours) / changed:.3f} | "
              f"{median(w for _, _, w in ours) / changed:.3f} | "
              f"{median(s for s, _, _ in ours):.2f} s ({spread(s for s, _, _ in ours)}) | "
              f"{median(w for _, w in theirs) / changed:.3f} | {median(s for s, _ in theirs):.2f} s "
              f"({spread(s for s, _ in theirs)}) | {mib / first:.0f} MiB/s | {mib / copy:.0f} MiB/s |",
              flush=True)


def equal_table(lab, rounds):
    """F6: everything is compared; a raw read of both disks at once, and rsync, in turn with it."""
    print("\n| equal disks on | raw read of both at once | ebb | of raw | wire, of the disk | CPU of source, target | "
          "rsync | its wire |\n|---|---|---|---|---|---|---|---|")
    for name, top, mib in (("this disk", lab.folder, 512), ("memory", "/dev/shm", 512)):
        folder = os.path.join(top, f"ebb-bench-{os.getpid()}")
        os.makedirs(folder)
        try:
            fill(folder, mib)
            rsync(folder)
            raws, ours, theirs = [], [], []
            for _ in range(rounds):
                raws.append(replicas.run("raw", folder)["seconds"])
                ours.append(replicas.run("equal", folder))
                theirs.append(rsync(folder))
            wire = replicas.run("wire", folder)
            wire = wire["there_bytes"] + wire["back_bytes"]
        finally:
            shutil.rmtree(folder)
        parts = [raw / one["seconds"] for raw, one in zip(raws, ours)]
        print(f"| {name} | {mib / median(raws):.0f} MiB/s ({spread(mib / s for s in raws)}) | "
              f"{mib / median(o['seconds'] for o in ours):.0f} MiB/s | {100 * median(parts):.0f} % "
              f"({spread(100 * part for part in parts)}) | {100 * wire / mib / MIB:.2f} % | "
              f"{median(o['source_cpu'] for o in ours):.2f}, {median(o['target_cpu'] for o in ours):.2f} s | "
              f"{mib / median(s for s, _ in theirs):.0f} MiB/s | "
              f"{100 * median(w for _, w in theirs) / mib / MIB:.2f} % |", flush=True)


def bench(lab, label, options):
    """Both tables."""
    rounds = 1 if options.quick else 3
    print(f"\n## Deltas and equal disks, on this {label}: medians of {rounds} (range)")
    deltas_table(lab, rounds)
    equal_table(lab, rounds)
