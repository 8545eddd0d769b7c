#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions of a 4 KiB random write, by exact measurement, beside peers: figures F1 and F2.

  tests/bench/run.py [--kernel LABEL]... [--device null_blk|brd] [--count N]

A guest runs with one emulated CPU whose clock counts instructions (2 ns each), so 1/IOPS is the
length of the path; it repeats to the last digits from boot to boot, beside whatever else the host
does. It says nothing of caches, contention or SMP. Each line is the difference to the bare device,
measured in the same guest, bare and candidate in turn; the spread is that of the rounds.
Nothing fails on a figure that is not reached: the table says so.
"""
import argparse
import os
import statistics
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
from vm import GuestError, Lab, LabError, tool  # noqa: E402  (the path is set just above)

NS_PER_INSTRUCTION = 2
ROUNDS = 2
FIO = ("fio --name=f --filename={dev} --rw=randwrite --bs=4k --direct=1 --thread --size=60M "
       "--number_ios={count} --norandommap --randrepeat=1 --randseed=1 --gtod_reduce=1 "
       "--clocksource=clock_gettime --output-format=terse --terse-version=3 {engine}")
ENGINES = {1: "--ioengine=psync", 32: "--ioengine=libaio --iodepth=32"}
TARGETS = {"ebb tracked": 350, "ebb untracked": 120}

DEVICE = {
    "null_blk": "modprobe null_blk nr_devices=3 queue_mode=2 irqmode=0 gb=1 submit_queues=1",
    "brd": "modprobe brd rd_nr=3 rd_size=131072",
}
NAMES = {"null_blk": ("/dev/nullb0", "/dev/nullb1", "/dev/nullb2"),
         "brd": ("/dev/ram0", "/dev/ram1", "/dev/ram2")}

# How to put each candidate on a device: commands before, the device to write to, commands after.
# {a} and {b} are two devices, {c} a third; ebb attaches {a} or leaves it alone.
CANDIDATES = {
    "ebb untracked": ("insmod {ko}; {ebb} attach {b} bench-b 1 >/dev/null", "{a}",
                      "{ebb} detach 1; rmmod ebb"),
    "ebb tracked": ("insmod {ko}; {ebb} attach {a} bench-a 1 >/dev/null", "{a}", "{ebb} detach 1; rmmod ebb"),
    "dm-linear": ("modprobe dm_mod; echo 0 $(blockdev --getsz {a}) linear {a} 0 | dmsetup --noudevsync create t",
                  "/dev/dm-0", "dmsetup --noudevsync remove t"),
    "dm-snapshot origin": (
        "modprobe dm_snapshot; s=$(blockdev --getsz {a}); "
        "echo 0 $s snapshot-origin {a} | dmsetup --noudevsync create t; "
        "echo 0 $s snapshot {a} {b} N 8 | dmsetup --noudevsync create s", "/dev/dm-0",
        "dmsetup --noudevsync remove s; dmsetup --noudevsync remove t"),
    "dm-era": ("modprobe dm_era; dd if=/dev/zero of={b} bs=4k count=1 2>/dev/null; "
               "echo 0 $(blockdev --getsz {a}) era {b} {a} 8 | dmsetup --noudevsync create t",
               "/dev/dm-0", "dmsetup --noudevsync remove t"),
    "drbd without a peer": (
        "modprobe drbd; printf 'resource t {{ disk {a}; meta-disk {b}[0]; device /dev/drbd0; "
        "on %s {{ address 127.0.0.1:7788; }} on other {{ address 127.0.0.2:7788; }} }}' "
        "$(uname -n) >/tmp/t.res; drbdadm -c /tmp/t.res -- --force create-md t; drbdadm -c /tmp/t.res attach t; "
        "drbdadm -c /tmp/t.res -- --force primary t", "/dev/drbd0",
        "drbdadm -c /tmp/t.res secondary t; drbdadm -c /tmp/t.res down t; rmmod drbd"),
}


class Bench:
    """One guest with one kind of device."""

    def __init__(self, vm, device, count, module):
        self.vm, self.count = vm, count
        self.a, self.b, self.c = NAMES[device]
        self.values = {"a": self.a, "b": self.b, "c": self.c, "ko": f"/ebb/{module}",
                       "ebb": "/ebb/build/tests/kmod/ebbtest"}
        vm.run(DEVICE[device])

    def instructions(self, dev, depth):
        """Per write."""
        command = FIO.format(dev=dev, count=self.count, engine=ENGINES[depth])
        fields = self.vm.run(command, timeout=1200).output.strip().splitlines()[-1].split(";")
        return 1e9 / float(fields[48]) / NS_PER_INSTRUCTION

    def compare(self, name, depth):
        """Medians of bare and candidate, and the spread of their difference; None: not to be had."""
        before, dev, after = (part.format(**self.values) for part in CANDIDATES[name])
        bare, with_it = [], []
        for _ in range(ROUNDS):
            bare.append(self.instructions(self.a, depth))
            try:
                self.vm.run(f"set -e; {before}")
                if name == "dm-snapshot origin":  # the first copy of a chunk is not the steady state
                    self.vm.run(f"dd if=/dev/zero of={dev} bs=1M count=61 oflag=direct 2>/dev/null")
                with_it.append(self.instructions(dev, depth))
            except GuestError as error:
                return None, " ".join(str(error).split())[:200]
            finally:
                self.vm.run(after, check=False)
        more = [w - b for w, b in zip(with_it, bare)]
        return (statistics.median(bare), statistics.median(more), max(more) - min(more)), None


def verdict(name, more):
    if name not in TARGETS:
        return ""
    return f"{'reached' if more <= TARGETS[name] else 'NOT reached'} (at most {TARGETS[name]})"


def bench_kernel(lab, label, device, count):
    module = f"build/kmod/{label}/ebb.ko"
    tool("kmod.sh", label, os.path.join(TOP, "kmod"), os.path.join(TOP, f"build/kmod/{label}"))
    vm = lab.vm(f"bench-{label}", kernel=label, icount=True, mem=1536, timeout=3000)
    vm.start(timeout=600)
    bench = Bench(vm, device, count, module)
    print(f"\n{label}, {device}, 4 KiB random write, {count} writes, {ROUNDS} rounds")
    print(f"{'':22}{'QD':>4}{'bare':>10}{'more':>10}{'spread':>9}{'IOPS':>9}")
    for name in CANDIDATES:
        for depth in ENGINES:
            figures, why = bench.compare(name, depth)
            if figures is None:
                print(f"{name:22}{depth:>4}   not measured: {why}", flush=True)
                continue
            bare, more, spread = figures
            print(f"{name:22}{depth:>4}{bare:>10.0f}{more:>+10.0f}{spread:>9.1f}"
                  f"{100 * bare / (bare + more):>8.1f}%  {verdict(name, more)}", flush=True)
    vm.power_off()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", action="append", help="label of kernel.sh (6.1 and 6.12)")
    parser.add_argument("--device", choices=DEVICE, default="null_blk")
    parser.add_argument("--count", type=int, default=50000)
    options = parser.parse_args()
    with Lab("bench") as lab:
        for label in options.kernel or ["6.1", "6.12"]:
            bench_kernel(lab, label, options.device, options.count)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"bench: {error}")
