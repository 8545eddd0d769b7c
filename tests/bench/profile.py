#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where the instructions of a write go: what a candidate of run.py adds to the bare device, by
function of the kernel.

  tests/bench/profile.py [--kernel LABEL] [--device null_blk|brd] [--depth N] [--only NAME]

The same guests and writes as those of run.py; a plugin of QEMU counts what runs while they are
timed. An interrupt of the clock that falls into one run and not into the other shows as fractions.
"""
import argparse
import bisect
import collections
import os
import subprocess

from candidates import CANDIDATES, DEVICES, TOP, Lab, build_module
from instructions import Bench

COUNT = 20000


def build_plugin(name):
    """Compiles one of the plugins of QEMU; its path."""
    here = os.path.dirname(os.path.abspath(__file__))
    out = os.path.join(TOP, f"build/bench/{name}.so")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                    "-fvisibility=hidden", "-o", out, os.path.join(here, name + ".c")], check=True)
    return out


class Symbols:
    """Names of the kernel's functions by address."""

    def __init__(self, kallsyms):
        found = sorted((int(address, 16), " ".join(name)) for address, kind, *name in
                       (line.split() for line in kallsyms.splitlines()) if kind in "tTwW")
        self.addresses = [address for address, _ in found]
        self.names = [name for _, name in found]

    def name(self, address):
        return self.names[bisect.bisect_right(self.addresses, address) - 1] if address else "(user)"


def count(lab, options, candidate, plugin):
    """Instructions per write, by function."""
    name = "with" if candidate else "bare"
    counts = os.path.join(lab.folder, name + ".counts")
    vm = lab.vm(name, kernel=options.kernel, icount=True, mem=1536, timeout=3000,
                qemu=["-plugin", f"{plugin},out={counts}"])
    vm.start(timeout=900)
    bench = Bench(vm, options.device, COUNT, options.module)
    device = bench.values["a"]
    if candidate:
        before, device, _ = bench.commands(candidate)
        vm.run(f"set -e; {before}", timeout=1800)
    bench.instructions(device, options.depth)
    symbols = Symbols(vm.run("cat /proc/kallsyms").output)
    vm.power_off()
    functions = collections.Counter()
    with open(counts, encoding="ascii") as file:
        for line in file:
            address, number = line.split()
            functions[symbols.name(int(address, 16))] += int(number) / COUNT
    return functions


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--kernel", default="6.1", help="label of kernel.sh")
    parser.add_argument("--device", choices=DEVICES, default="null_blk")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--only", choices=CANDIDATES, default="ebb tracked")
    options = parser.parse_args()
    options.module = build_module(options.kernel)
    subprocess.run([os.path.join(TOP, "scripts/build.sh"), "ebbtest", "writes"], check=True,
                   stdout=subprocess.DEVNULL)
    plugin = build_plugin("count_plugin")
    with Lab("profile") as lab:
        bare = count(lab, options, None, plugin)
        more = count(lab, options, options.only, plugin)
    more.subtract(bare)
    for name, number in more.most_common():
        if abs(number) >= 0.5:
            print(f"{number:+10.1f}  {name}")
    print(f"{sum(more.values()):+10.1f}  of {sum(bare.values()):.0f} bare")


if __name__ == "__main__":
    main()
