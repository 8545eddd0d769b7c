#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions of a 4 KiB random write, by exact measurement, beside peers: figures F1 and F2.

  tests/bench/run.py [--kernel LABEL]... [--device null_blk|brd] [--count N] [--only NAME]...

A guest runs with one emulated CPU whose clock counts instructions (2 ns each), so the time of a
write is the length of its path; it repeats to the last digits from boot to boot, beside whatever
else the host does. It says nothing of caches, contention or SMP. Each line is the difference to the
bare device, measured in the same guest, bare and candidate in turn; the spread is that of the
rounds. Nothing fails on a figure that is not reached: the table says so.
"""
import argparse
import os
import statistics
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
from vm import GuestError, Lab, LabError, tool  # noqa: E402  (the path is set just above)

NS_PER_INSTRUCTION = 2
ROUNDS = 3
DEPTHS = (1, 32)
WRITES = "/ebb/build/tests/bench/writes"
FIGURES = {"ebb untracked": ("F2", 120), "ebb tracked": ("F1", 350), "ebb with log": ("F1", 350)}

# Metadata of peers is read back, which null_blk cannot do: it goes to a RAM disk.
DEVICES = {
    "null_blk": ("modprobe null_blk nr_devices=2 queue_mode=2 irqmode=0 gb=1 submit_queues=1; "
                 "modprobe brd rd_nr=1 rd_size=131072",
                 {"a": "/dev/nullb0", "b": "/dev/nullb1", "meta": "/dev/ram0"}),
    "brd": ("modprobe brd rd_nr=3 rd_size=131072",
            {"a": "/dev/ram0", "b": "/dev/ram1", "meta": "/dev/ram2"}),
}

# The first write to a block of a snapshot, an era or a bitmap is not the steady state.
FILL = "dd if=/dev/zero of={dev} bs=1M count=61 oflag=direct 2>/dev/null"

# How to put each candidate on the device {a}: commands before, the device to write to, commands
# after. {b} is one more device like it.
CANDIDATES = {
    "ebb untracked": ("insmod {ko}; {ebb} attach {b} bench-b 1 >/dev/null", "{a}",
                      "{ebb} detach 1; rmmod ebb"),
    "ebb tracked": ("insmod {ko}; {ebb} attach {a} bench-a 1 >/dev/null", "{a}",
                    "{ebb} detach 1; rmmod ebb"),
    # With a write-intent log, its regions hot.
    "ebb with log": ("insmod {ko}; {ebb} attach {a} bench-a 1 {b} 0 8192 create >/dev/null; "
                     "{ebb} mark-all 1", "{a}", "{ebb} detach 1; rmmod ebb"),
    "dm-linear": ("modprobe dm_mod; "
                  "echo 0 $(blockdev --getsz {a}) linear {a} 0 | dmsetup --noudevsync create t",
                  "/dev/dm-0", "dmsetup --noudevsync remove t"),
    # Suspended and resumed, so that the origin splits what it is sent into chunks.
    "dm-snapshot origin": (
        "modprobe dm_snapshot; s=$(blockdev --getsz {a}); "
        "echo 0 $s snapshot-origin {a} | dmsetup --noudevsync create t; "
        "echo 0 $s snapshot {a} {b} N 8 | dmsetup --noudevsync create s; "
        "dmsetup --noudevsync suspend t; dmsetup --noudevsync resume t; " + FILL, "/dev/dm-0",
        "dmsetup --noudevsync remove s; dmsetup --noudevsync remove t"),
    "dm-era": ("modprobe dm_era; dd if=/dev/zero of={meta} bs=1M count=16 2>/dev/null; "
               "echo 0 $(blockdev --getsz {a}) era {meta} {a} 8 | dmsetup --noudevsync create t; "
               + FILL,
               "/dev/dm-0", "dmsetup --noudevsync remove t"),
    "DRBD without a peer": (
        "modprobe drbd; dd if=/dev/zero of={meta} bs=1M count=16 2>/dev/null; "
        "echo yes | drbdmeta --force /dev/drbd0 v08 {meta} 0 create-md >/dev/null; "
        "d=/lib/drbd/drbdsetup-84; $d new-resource t; $d new-minor t 0 0; "
        "$d attach 0 {a} {meta} 0; $d primary 0 --force; " + FILL, "/dev/drbd0",
        "d=/lib/drbd/drbdsetup-84; $d secondary 0; $d down t; rmmod drbd"),
}


class Bench:
    """One guest with one kind of device."""

    def __init__(self, vm, device, count, module):
        self.vm, self.count = vm, count
        prepare, names = DEVICES[device]
        self.values = dict(names, ko=f"/ebb/{module}", ebb="/ebb/build/tests/kmod/ebbtest")
        vm.run(prepare)

    def instructions(self, dev, depth):
        """Per write."""
        ns = self.vm.run(f"{WRITES} {dev} {self.count} {depth}", timeout=1800).output
        return float(ns.split()[-1]) / NS_PER_INSTRUCTION

    def commands(self, name):
        """Before, the device, after."""
        values = dict(self.values, dev=CANDIDATES[name][1].format(**self.values))
        return tuple(part.format(**values) for part in CANDIDATES[name])

    def compare(self, name, depth):
        """Medians of bare and of the difference, and its spread; or None and why there are none."""
        before, dev, after = self.commands(name)
        bare, more = [], []
        for _ in range(ROUNDS):
            bare.append(self.instructions(self.values["a"], depth))
            try:
                self.vm.run(f"set -e; {before}", timeout=1800)
                more.append(self.instructions(dev, depth) - bare[-1])
            except GuestError as error:
                return None, " ".join(str(error).split())[-160:]
            finally:
                self.vm.run(after, check=False)
        return (statistics.median(bare), statistics.median(more), max(more) - min(more)), None


def verdict(name, more):
    if name not in FIGURES:
        return ""
    figure, most = FIGURES[name]
    return f"  {figure} {'reached' if more <= most else 'NOT reached'} (at most {most})"


def build_module(label):
    """Builds ebb.ko for the kernel; its path in the tree."""
    out = f"build/bench/{label}"
    tool("kmod.sh", label, os.path.join(TOP, "kmod"), os.path.join(TOP, out))
    return out + "/ebb.ko"


def bench_kernel(lab, label, options):
    module = build_module(label)
    vm = lab.vm(f"bench-{label}", kernel=label, icount=True, mem=1536, timeout=5400)
    vm.start(timeout=900)
    bench = Bench(vm, options.device, options.count, module)
    release = vm.run("uname -r").output.strip()
    print(f"\n{label} ({release}), {options.device}, 4 KiB random write, instructions of one; "
          f"{options.count} writes, {ROUNDS} rounds")
    print(f"{'':22}{'QD':>4}{'bare':>10}{'more':>10}{'spread':>9}{'IOPS':>9}")
    for name in options.only or CANDIDATES:
        for depth in DEPTHS:
            figures, why = bench.compare(name, depth)
            if figures is None:
                print(f"{name:22}{depth:>4}   not measured: {why}", flush=True)
                continue
            bare, more, spread = figures
            print(f"{name:22}{depth:>4}{bare:>10.0f}{more:>+10.0f}{spread:>9.1f}"
                  f"{100 * bare / (bare + more):>8.1f}%{verdict(name, more)}", flush=True)
    vm.power_off()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", action="append", help="label of kernel.sh (6.1 and 6.12)")
    parser.add_argument("--device", choices=DEVICES, default="null_blk")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--only", action="append", choices=CANDIDATES)
    options = parser.parse_args()
    with Lab("bench") as lab:
        for label in options.kernel or ["6.1", "6.12"]:
            bench_kernel(lab, label, options)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"bench: {error}")
