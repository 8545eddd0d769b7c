#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model test over restarts: random operations, and between them reboots and power cuts.

    tests/kmod/model_restarts.py [--kernel 6.1] --seeds A..B [--at-most S]
    tests/kmod/model_restarts.py --check        what `make check` does: some seeds, for a minute or two
    tests/kmod/model_restarts.py --seed 4711 --tries 5 --shrink 600
    tests/kmod/model_restarts.py --replay build/hunt/4711-6.12.small

A scenario (modeltest --restarts) names the disks of a machine, all on backends that lose what was not
flushed (tests/vm/lib/powercut), and what happens to it. The machine runs one leg of it after the
other, each until it is ended: in order, or by a power cut at chance or at a chosen write or flush.
What outlives it, replicas and what the model allows, is in a folder of the host. The next leg
begins by judging what the module has recovered: modeltest says how.
"""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import threading
import time

import run
from run import GuestError, Lab, LabError, QmpError

sys.path.insert(0, os.path.join(run.TOP, "tests/vm/lib"))
from powercut import PowerCutDisk  # noqa: E402

MODELTEST = os.path.join(run.TOP, "build/tests/kmod/modeltest")
RESTARTS = ("reboot", "poweroff", "cut", "cutwrite", "cutflush", "haltwrite", "haltflush")
LEG = 1200  # seconds until a leg hangs
# Short ones, and how many seconds may have passed when the last one begins.
CHECK, CHECK_SECONDS = (84,), 50
NUMBERS = ("writes", "passes", "cuts", "daemons", "cooled")


class Found(Exception):
    """What a leg found wrong."""


class Plan:
    """The text of a scenario, as far as the host must know it."""

    def __init__(self, text):
        self.lines = text.splitlines()
        self.seed = int(re.search(r"^seed (\d+)$", text, re.M).group(1))
        words = [line.split() for line in self.lines]
        self.disks = [(w[1], int(w[2]), int(w[3])) for w in words if w[0] == "disk"]
        self.disks += [(w[1], 32768, int(w[2])) for w in words if w[0] == "map"]
        self.restarts = [(w[1], {k: int(v) for k, v in (x.split("=") for x in w[2:])})
                         for w in words if len(w) > 1 and w[0] == "0" and w[1] in RESTARTS]

    def text(self):
        return "".join(line + "\n" for line in self.lines)


class Machine:
    """The machine of a plan, in whatever boot."""

    def __init__(self, lab, options, plan):
        self.plan, self.ko = plan, options.ko
        self.out = os.path.join(lab.folder, "out")
        os.makedirs(self.out)
        with open(os.path.join(self.out, "scenario"), "w", encoding="utf-8") as file:
            file.write(plan.text())
        self.vm = lab.vm("m", kernel=options.kernel, mem=640, smp=2, out=self.out, timeout=3600,
                         modprobe=["dm-mod"])
        self.disks = []
        for number, (kind, sectors, block) in enumerate(plan.disks):
            image = lab.image(f"disk{number}.raw", str(sectors * 512))
            self.disks.append(PowerCutDisk(image, lab.sockets))
            name = {"serial": f"ebb{number}"} if kind in ("virtio", "nvme") else {
                "wwn": 0x5000C29000000E00 + number}
            self.vm.disk("nbd:" + self.disks[-1].socket, kind, logical_block=block, **name)

    def leg(self, number):
        """One leg, to its end; what it said. Found: it failed."""
        running = threading.Event()
        said = bytearray()

        def listen(data):
            said.extend(data)
            if b"RUNNING" in said:
                running.set()

        self.vm.start()
        command = self.vm.spawn(
            f"cp /ebb/{self.ko} /dev/shm/ebb.ko; exec /ebb/build/tests/kmod/modeltest --module "
            f"/dev/shm/ebb.ko --replay /out/scenario --leg {number} --keep /out", on_output=listen)
        kind, how = ("end", {}) if number == len(self.plan.restarts) else self.plan.restarts[number]
        end = time.monotonic() + LEG
        while not running.wait(0.02) and command.running() and time.monotonic() < end:
            pass
        if kind in ("end", "reboot") or not running.is_set():
            # What ends by itself, or has failed before it could be ended.
            command.wait(max(1, end - time.monotonic()), check=False)
            if command.status != 0 or kind not in ("end", "reboot"):
                raise Found(command.output)
        if kind in ("poweroff", "haltwrite", "haltflush"):
            time.sleep(how.get("n", 0) / 1e6)
        if kind in ("reboot", "poweroff"):
            self.go_down(command, kind, how)
        if kind.startswith("halt"):
            self.lose_power_going_down(command, kind, how)
        if kind.startswith("cut"):
            self.lose_power(command, kind, how)
        if kind == "end":
            self.vm.power_cut()
        else:
            self.lose(how.get("seed", 0))
        return command.output

    def go_down(self, command, kind, how):
        """In order, but for its end."""
        if kind == "poweroff" and not command.running():
            raise Found(command.output)
        if kind == "poweroff" and how.get("at"):
            self.slow_map(how["at"])
        try:
            self.vm.halt(sync=False)
        except LabError as error:
            raise Found(f"{command.output}\nFAILED: {error}") from None

    def slow_map(self, requests):
        """The map device takes so many requests a second until the machine starts again."""
        disk = self.vm.disks[-1]
        path = f"/machine/peripheral/dev-{disk.node}" + ("/virtio-backend" if disk.bus == "virtio" else "")
        self.vm.qmp.execute("block_set_io_throttle", _literal=True, id=path, bps=0, bps_rd=0, bps_wr=0,
                            iops=requests, iops_rd=0, iops_wr=0)

    def lose_power_going_down(self, command, kind, how):
        """In order, until a disk gets a chosen request, if it does."""
        if not command.running():
            raise Found(command.output)
        self.disks[how.get("disk", 0)].arm(kind[4:], how.get("at", 1), self.vm.process.pid)
        try:
            self.vm.halt(sync=False)
        except (LabError, GuestError) as error:
            if self.vm.running():
                raise Found(f"{command.output}\nFAILED: {error}") from None
            self.vm.power_cut()

    def lose_power(self, command, kind, how):
        """Under way, at chance or when a disk gets a chosen request."""
        end = time.monotonic() + how.get("n", 0) / 1e6
        if kind != "cut":
            end += 10
            self.disks[how.get("disk", 0)].arm(kind[3:], how.get("at", 1), self.vm.process.pid)
        while time.monotonic() < end and self.vm.running() and command.running():
            time.sleep(0.002)
        # Without a status it ended with the machine.
        if not command.running() and command.status is not None:
            raise Found(command.output)
        self.vm.power_cut()

    def lose(self, seed):
        """What the disks' caches held is lost: all of it, none, or sector by sector."""
        rng = random.Random(seed)
        for disk in self.disks:
            # A request that was chosen, and never came, is not waited for by the next boot.
            disk.arm("write", 0, 0)
            disk.cut(rng.choice(("tear", "tear", "drop")), rng.randrange(1 << 30))


def attempt(plan, options, tag):
    """(what was wrong or "", what was said, numbers). Folders are used again: a hunt has no end."""
    said, numbers = [], dict.fromkeys(NUMBERS, 0)
    begun = time.monotonic()
    wrong = ""
    try:
        with Lab(f"model-restarts-{options.kernel}-{options.tag}{tag}") as lab:
            machine = Machine(lab, options, plan)
            for leg in range(len(plan.restarts) + 1):
                said.append(f"-- leg {leg} --\n")
                said.append(machine.leg(leg))
            machine.vm.check()
    except Found as found:
        wrong = str(found) or "a leg failed"
    except (GuestError, QmpError, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        wrong = f"machine: {error}"
    except LabError as error:
        wrong = str(error)
    text = "".join(said)
    for line in text.splitlines():
        if line.startswith("{"):
            for name in NUMBERS:
                numbers[name] += json.loads(line)[name]
    recovered = re.findall(r"^recovered disk \d+: ([a-z ]+), (\d+) blocks, (\d+) differ", text, re.M)
    numbers["restarts"] = text.count("-- leg ") - 1
    for name, what in (("crashes", "log"), ("seals", "sealed map")):
        numbers[name] = sum(r[0] == what for r in recovered)
    numbers["differed"] = sum(int(r[2]) for r in recovered)
    numbers["seconds"] = round(time.monotonic() - begun, 1)
    return wrong, text, numbers


class Shrinker:
    """Leaves out of a plan that fails what it does not need for that."""

    def __init__(self, plan, options, said):
        self.best, self.options = plan, options
        self.end = time.monotonic() + options.shrink
        self.tries = 0
        # Nothing after the leg that failed matters.
        legs = said.count("-- leg ")
        ends = [i for i, line in enumerate(plan.lines) if self.word(line) in RESTARTS]
        if legs <= len(ends) and legs > 0:
            self.take(plan.lines[:ends[legs - 1]] + ["0 settle"])

    @staticmethod
    def word(line):
        words = line.split()
        return words[1] if len(words) > 1 and words[0].isdigit() else ""

    def take(self, lines):
        """Makes it the best if it fails."""
        if lines == self.best.lines or time.monotonic() > self.end:
            return False
        plan = Plan("\n".join(lines))
        for _ in range(self.options.shrink_tries):
            self.tries += 1
            if time.monotonic() > self.end:
                return False
            if attempt(plan, self.options, "shrink")[0]:
                self.best = plan
                print(f"    smaller: {len(lines)} lines", flush=True)
                return True
        return False

    def run(self):
        """The smallest that was found."""
        self.drop_legs()
        for lane in range(1, 10):
            self.take([x for x in self.best.lines if not x.startswith(f"{lane} ")])
        count = len(self.best.lines)
        size = count // 2
        while size >= 1 and time.monotonic() < self.end:
            at = 0
            while at < len(self.best.lines):
                lines = self.best.lines
                # Disks and paths stay: numbers refer to them.
                part = [x for i, x in enumerate(lines)
                        if not (at <= i < at + size and x.split()[0].isdigit())]
                if not self.take(part):
                    at += size
            size //= 2
        return self.best

    def drop_legs(self):
        """Whole legs, from the first on: what the failing one needs is usually right before it."""
        at = 0
        while time.monotonic() < self.end:
            lines = self.best.lines
            ends = [i for i, line in enumerate(lines) if self.word(line) in RESTARTS]
            first = next(i for i, line in enumerate(lines) if self.word(line))
            borders = [first] + [e + 1 for e in ends]
            if at + 1 >= len(borders):
                return
            if not self.take(lines[:borders[at]] + lines[borders[at + 1]:]):
                at += 1


def generate(seed):
    done = subprocess.run([MODELTEST, "--module", "-", "--restarts", "--show", "--seed", str(seed)],
                          check=True, stdout=subprocess.PIPE, text=True)
    # Its account, of nothing, comes last.
    return Plan(done.stdout[:done.stdout.index("{")])


def reason(wrong):
    """What is printed of it: with its first line, which says "machine: ", without the scenario."""
    lines = wrong.partition("==== scenario\n")[0].splitlines()
    return "\n    ".join(lines[:1] + lines[1:][-29:])


def one(plan, options):
    """A plan, as often as asked for: (whether nothing was found, text, numbers)."""
    for _ in range(options.tries):
        wrong, said, numbers = attempt(plan, options, "one")
        if not wrong:
            print(f"{options.kernel} restarts seed {plan.seed}: passed {json.dumps(numbers)}", flush=True)
            continue
        log = run.console.read(os.path.join(run.TOP, "build/lab",
                                            f"model-restarts-{options.kernel}-{options.tag}one",
                                            "m.console"))
        text = f"{said}\n{wrong}\nkernel:\n{log[-20000:]}\n==== scenario\n{plan.text()}==== end\n"
        print(f"{options.kernel} restarts seed {plan.seed}: FAILED after "
              f"{numbers['restarts']} restarts\n    {reason(wrong)}", flush=True)
        if options.shrink:
            small = Shrinker(plan, options, said).run()
            text += f"==== scenario\n{small.text()}==== end\n"
        return False, text, numbers
    return True, "", numbers


def save(folder, kernel, text):
    """Files of what failed; the name they have in common."""
    scenarios = re.findall(r"^==== scenario\n(.*?)^==== end$", text, re.M | re.S)
    seed = re.search(r"^seed (\d+)$", scenarios[0], re.M).group(1) if scenarios else "none"
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, f"{seed}-{kernel}")
    if len(scenarios) > 1:
        scenarios = scenarios[0], scenarios[-1]
    for name, content in zip((".scenario", ".small"), scenarios):
        with open(base + name, "w", encoding="utf-8") as file:
            file.write(content)
    with open(base + ".log", "w", encoding="utf-8") as file:
        file.write(text)
    return base


def folder_of_finds():
    return os.path.join(os.environ.get("EBB_CACHE") or os.path.join(run.TOP, "build"), "hunt")


def prepare(options):
    """The module, if none was given."""
    options.tag = options.tag and options.tag + "-"
    if not options.ko:
        run.build_module(options, "kmod", "build/kmod")
        options.ko = os.path.join("build/kmod", options.kernel, "ebb.ko")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", help="A..B")
    parser.add_argument("--check", action="store_true", help="the share of make check alone")
    parser.add_argument("--at-most", type=int, default=0, help="begin none after so many seconds")
    parser.add_argument("--replay", help="a saved scenario")
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--shrink", type=int, default=0, help="seconds for making it smaller")
    parser.add_argument("--shrink-tries", type=int, default=2)
    parser.add_argument("--ko", help="a module built already (path in the tree)")
    parser.add_argument("--tag", default="", help="keeps folders of runs apart")
    return parser.parse_args()


def seeds(options):
    """Those that were asked for."""
    if options.check:
        options.at_most = options.at_most or CHECK_SECONDS
        return CHECK
    if options.seeds:
        first, last = (int(x) for x in options.seeds.split(".."))
        return range(first, last + 1)
    return (options.seed or 1,)


def main():
    options = parse()
    prepare(options)
    if options.replay:
        with open(options.replay, encoding="utf-8") as file:
            plans = [Plan(file.read())]
    else:
        plans = (generate(seed) for seed in seeds(options))
    begun = time.monotonic()
    passed = failed = 0
    for plan in plans:
        if options.at_most and time.monotonic() - begun > options.at_most:
            break
        good, text, _ = one(plan, options)
        passed, failed = passed + good, failed + (not good)
        if not good:
            print("    saved: " + save(folder_of_finds(), options.kernel, text) + ".*", flush=True)
            break
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
