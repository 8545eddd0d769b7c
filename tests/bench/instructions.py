# SPDX-License-Identifier: Apache-2.0
"""Figures F1 and F2: instructions of a 4 KiB random write, by exact measurement, beside peers.

A guest runs with one emulated CPU whose clock counts instructions (2 ns each), so the time of a
write is the length of its path; it repeats to the last digits from boot to boot, beside whatever
else the host does. It says nothing of caches, contention or SMP. Each line is the difference to the
bare device, measured in the same guest, bare and candidate in turn; the spread is that of the
rounds.
"""
import statistics

from candidates import (CANDIDATES, DEVICES, EBBTEST, PROGRAMS, GuestError, build_module, release)

NS_PER_INSTRUCTION = 2
# Of Ebb; of peers, which need not be told from a limit, fewer.
ROUNDS, ROUNDS_OF_PEERS = 3, 2
DEPTHS = (1, 32)
# At most so many; more where the kernel lacks DYNAMIC_FTRACE_WITH_ARGS.
FIGURES = {"ebb untracked": ("F2", 120, 150), "ebb tracked": ("F1", 350, 450),
           "ebb with a log": ("F1", 350, 450)}


class Bench:
    """One guest with one kind of device."""

    def __init__(self, vm, device, count, module):
        self.vm, self.count = vm, count
        prepare, names = DEVICES[device]
        self.values = dict(names, ko=module, ebb=EBBTEST)
        vm.run(prepare)

    def instructions(self, dev, depth):
        """Per write."""
        ns = self.vm.run(f"{PROGRAMS}/writes {dev} {self.count} {depth}", timeout=1800).output
        return float(ns.split()[-1]) / NS_PER_INSTRUCTION

    def commands(self, name):
        """Before, the device, after."""
        values = dict(self.values, dev=CANDIDATES[name][1].format(**self.values))
        return tuple(part.format(**values) for part in CANDIDATES[name])

    def compare(self, name, depth):
        """Medians of bare and of the difference, and its spread; or None and why there are none."""
        before, dev, after = self.commands(name)
        bare, more = [], []
        for _ in range(ROUNDS if name in FIGURES else ROUNDS_OF_PEERS):
            bare.append(self.instructions(self.values["a"], depth))
            try:
                self.vm.run(f"set -e; {before}", timeout=1800)
                more.append(self.instructions(dev, depth) - bare[-1])
            except GuestError as error:
                return None, " ".join(str(error).split())[-160:]
            finally:
                self.vm.run(after, check=False)
        return (statistics.median(bare), statistics.median(more), max(more) - min(more)), None


# Kernels without DYNAMIC_FTRACE_WITH_ARGS: ftrace saves all registers there.
WITHOUT_ARGUMENTS = ("5.10",)


def verdict(name, more, most):
    if name not in FIGURES:
        return ""
    figure = FIGURES[name][0]
    return f"  {figure} {'reached' if more <= most else 'NOT reached'} (at most {most})"


def bench(lab, label, options):
    module = build_module(label)
    vm = lab.vm(f"instructions-{label}", kernel=label, icount=True, mem=1536, timeout=5400)
    vm.start(timeout=900)
    guest = Bench(vm, options.device, options.count, module)
    print(f"\n{label} ({release(vm)}), {options.device}, 4 KiB random write, instructions of one; "
          f"{options.count} writes, {ROUNDS} rounds, of peers {ROUNDS_OF_PEERS}", flush=True)
    print(f"{'':22}{'QD':>4}{'bare':>10}{'more':>10}{'spread':>9}{'IOPS':>9}")
    # Peers are compared on the kernels of today.
    shown = FIGURES if label in WITHOUT_ARGUMENTS or options.quick else CANDIDATES
    for name in options.only or shown:
        most = FIGURES.get(name, ("", 0, 0))[2 if label in WITHOUT_ARGUMENTS else 1]
        for depth in DEPTHS:
            figures, why = guest.compare(name, depth)
            if figures is None:
                print(f"{name:22}{depth:>4}   not measured: {why}", flush=True)
                continue
            bare, more, spread = figures
            print(f"{name:22}{depth:>4}{bare:>10.0f}{more:>+10.0f}{spread:>9.1f}"
                  f"{100 * bare / (bare + more):>8.1f}%{verdict(name, more, most)}", flush=True)
    vm.power_off()
