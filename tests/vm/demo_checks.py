# SPDX-License-Identifier: Apache-2.0
"""What the demonstration judges by, apart from its machines: images, the stamping writer's log, the
times of the cuts. demo_checks_test.py plants faults, each of which must be found."""
import json
import mmap
import os
import statistics
import struct
import subprocess
from dataclasses import dataclass, field

CHUNK = 1 << 20
RECORD = struct.Struct("<IIIIQQQQ")  # LogRecord of tests/kmod/lib/stamp.h
ISSUED, ACKNOWLEDGED = 1, 2


@dataclass
class Comparison:
    """Of an image and a VMDK."""

    size: int = 0  # bytes compared
    data: int = 0  # of them, in chunks that are not zero
    differing: list = field(default_factory=list)  # offsets of chunks

    @property
    def equal(self):
        return self.size > 0 and not self.differing


def compare(raw, vmdk, folder):
    """Byte by byte; a size of their own counts as a difference."""
    plain = os.path.join(folder, "compare.raw")
    subprocess.run(["qemu-img", "convert", "-U", "-f", "vmdk", "-O", "raw", vmdk, plain], check=True)
    found = Comparison()
    with open(raw, "rb") as ours, open(plain, "rb") as theirs:
        while True:
            a, b = ours.read(CHUNK), theirs.read(CHUNK)
            if not a and not b:
                break
            if a != b:
                found.differing.append(found.size)
            found.size += max(len(a), len(b))
            found.data += len(a) if a.count(0) != len(a) else 0
    os.unlink(plain)
    return found


def holds(vmdk, marks, folder):
    """Whether a VMDK by itself has each of these contents, wherever it may be."""
    plain = os.path.join(folder, "merged.raw")
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", vmdk, plain], check=True)
    with open(plain, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        found = all(content.find(mark) >= 0 for mark in marks)
    os.unlink(plain)
    return found


def exported(account, epoch):
    """The copy's images by stable id, from its account; ValueError when it is of another cut."""
    with open(account, encoding="utf-8") as file:
        value = json.load(file)
    if value["epoch"] != epoch:
        raise ValueError(f"the copy is of epoch {value['epoch']}, not {epoch}")
    folder = os.path.dirname(account)
    return {disk["stable_id"]: os.path.join(folder, os.path.basename(disk["file"]))
            for disk in value["disks"]}


def read_writes(logs):
    """By disk: (issued, acknowledged) of each write, in nanoseconds of the writer's clock."""
    by_disk, under_way = {}, {}
    for path in logs:
        with open(path, "rb") as file:
            raw = file.read()
        for record in RECORD.iter_unpack(raw[:len(raw) - len(raw) % RECORD.size]):
            kind, disk, writer, _, block, sequence, _, moment = record
            key = (disk, writer, block, sequence)
            if kind == ISSUED:
                under_way[key] = moment
            elif kind == ACKNOWLEDGED:
                by_disk.setdefault(disk, []).append((under_way.pop(key), moment))
    return by_disk


def writes_of_cuts(writes, cut_times, disks):
    """For each cut but the first: how many writes on each disk were issued after the cut before it
    and acknowledged before it."""
    return [[sum(before < issued and acknowledged < cut for issued, acknowledged in
                 writes.get(disk, ())) for disk in range(disks)]
            for before, cut in zip(cut_times, cut_times[1:])]


@dataclass
class Stall:
    """How long writes took, in milliseconds: `near` a cut, and `elsewhere`."""

    near: list = field(default_factory=list)
    elsewhere: list = field(default_factory=list)

    def near_words(self):
        return _spread(self.near)

    def elsewhere_words(self):
        return _spread(self.elsewhere)


def _spread(times):
    if not times:
        return "none seen"
    return f"median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms, of {len(times)}"


def stalls(writes, cut_times, reach_ns=100_000_000):
    """What a cut costs, as the writer sees it: writes that were under way within `reach_ns` of one,
    and the others between the first cut and the last."""
    seen = Stall()
    for disk in writes.values():
        for issued, acknowledged in disk:
            if acknowledged < cut_times[0] or issued > cut_times[-1]:
                continue
            near = any(issued <= cut + reach_ns and acknowledged >= cut - reach_ns
                       for cut in cut_times)
            (seen.near if near else seen.elsewhere).append((acknowledged - issued) / 1e6)
    return seen
