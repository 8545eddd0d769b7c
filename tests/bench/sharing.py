# SPDX-License-Identifier: Apache-2.0
"""Which cache lines four CPUs share when they write at once: share_plugin.c counts the uses of each
line of the kernel's memory that several CPUs used and one of them wrote to. What only happens now
and then (the clock, the scheduler) is left out: less than once in a hundred writes."""
import collections
import os

import contention
import profile
from candidates import EBBTEST, build_module

NAMES = ("bare", "ebb tracked", "ebb with a log")
COUNT = 2000
SELDOM = 0.01
# Marked before, as in the steady state between two cuts: the first write to a block after a cut
# sets its bit.
RANGE = (60 << 20) >> 9


class Sharing:
    """One guest, and what is counted in it."""

    def __init__(self, lab, label, module):
        plugin = profile.build_plugin("share_plugin")
        self.uses = os.path.join(lab.folder, "uses")
        self.vm = lab.vm(f"sharing-{label}", kernel=label, smp=contention.CPUS, threads="single",
                         mem=2048, timeout=3000, qemu=["-plugin", f"{plugin},out={self.uses},writers={contention.CPUS}"])
        self.vm.start(timeout=900)
        self.guest = contention.Contention(self.vm, module, COUNT)

    def count(self, name, spread):
        """Uses for a write, by function."""
        if name == "bare":
            self.guest.writes("/dev/nullb", spread)
            return self.by_function(self.symbols())
        before, disk, after, _ = contention.CANDIDATES[name]
        try:
            self.vm.run("set -e; " + before.replace("{ko}", self.guest.module) + "; "
                        + contention.each(f"{EBBTEST} mark $((i+1)) 0 {RANGE}"), timeout=900)
            self.guest.writes(disk, spread)
            return self.by_function(self.symbols())
        finally:
            self.vm.run(after, check=False)

    def symbols(self):
        return profile.Symbols(self.vm.run("cat /proc/kallsyms").output)

    def by_function(self, symbols):
        writes = contention.CPUS * COUNT
        functions = collections.Counter()
        with open(self.uses, encoding="ascii") as file:
            for line in file:
                instruction, _, loads, stores, all_stores = line.split()
                if int(all_stores) < SELDOM * writes:
                    continue
                functions[symbols.name(int(instruction, 16))] += (int(loads) + int(stores)) / writes
        return functions

    def row(self, name, spread):
        functions = self.count(name, spread)
        own = {f: n for f, n in functions.items() if "[ebb]" in f and n >= SELDOM}
        return (f"{sum(functions.values()):8.2f}, of them {sum(own.values()):.2f} by Ebb" + "".join(
            f"; {f.split()[0]} {n:.2f}" for f, n in sorted(own.items(), key=lambda x: -x[1])))


def bench(lab, label, _options):
    guest = Sharing(lab, label, build_module(label))
    contention.title(label, guest.vm)
    print("  uses of a cache line that several CPUs use and one of them writes to, for a write")
    contention.layouts(NAMES, guest.row)
    guest.vm.power_off()
