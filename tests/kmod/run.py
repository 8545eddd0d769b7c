#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the module's tests (tests/kmod/cases/*.sh) in virtual machines with a real kernel.

    tests/kmod/run.py --kernel 6.1 [--only NAME]... [--jobs N] [--pairwise | --check]
                       [--repeat N | --resume]

Many cases share one boot; each loads and unloads the module itself, and the kernel's log must hold
no complaint after it. A case that leaves the module loaded, or a complaint, costs the machine: the
next one gets a new one. Lines of a case's head say what it needs:

    # not on KERNEL...: REASON         where it cannot run; it is named as skipped there
    # check: 6.1 debug                 part of `make check` on these kernels
    # machine: own                     has a machine for itself
    # threads: single                  the virtual CPUs take turns (see docs/testing.md)
    # disks: more                      the machine has those of MORE_DISKS too
    # memory: MIB                      the machine has so much
    # timeout: SECONDS                 (default 240; four times that under debug and kcsan)

--pairwise chooses, by a case's name, two of the kernels that do not get all cases; where it cannot
run on some of these, of the others. What a case finds missing in the guest it says itself (skip). On
Debian's kernels that is a failure, as their packages are known: it has to be in the head.

A case that does not end in time is asked what it waits for (guest/hung.sh) before it is killed.
Before a machine under `debug` goes, kmemleak looks for what its cases have lost: two scans take
minutes, so not after each of them; "leaks" counts as one more case.

--resume goes on where an earlier run of the same content stopped: a case that has passed on this
kernel with the same module, tools and lab (verdicts.py) is told, with its date, and not run. With
EBB_FRESH=1 in the environment all run, and what passes is kept.
"""
import argparse
import concurrent.futures
import glob
import itertools
import os
import re
import subprocess
import sys
import threading
import time
import zlib

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.environ.get("EBB_LAB", os.path.join(TOP, "scripts/lab"))
sys.path.insert(0, LAB)
import console  # noqa: E402
import races  # noqa: E402
import verdicts  # noqa: E402
from vm import GuestError, Lab, LabError, QmpError  # noqa: E402

CASES = os.path.join(TOP, "tests/kmod/cases")
PRINT = threading.Lock()
DEBIAN = ("5.10", "6.1", "6.12", "trixie", "sid")
PAIRWISE = ("5.10", "6.12", "trixie", "sid")
# Kernels that check every access, emulated. Under KASAN the AML interpreter does not get through its
# tables, and allocations of ebb_write may be made to fail (out-of-memory). A guest under KCSAN would
# see no race if it looked as seldom as a real machine, and not for as long as an emulated CPU needs.
SLOW = {"debug": "pci=noacpi slub_debug=A,ebb_write",
        "kcsan": "slub_debug=A,ebb_write sym53c8xx.cmd_per_lun=1 kcsan.skip_watch=40 "
                 "kcsan.udelay_task=300 kcsan.udelay_interrupt=60"}
LEAKS = "bash /ebb/tests/kmod/guest/leaks.sh "
# Passes under `debug` are kept once nothing of them was lost: when one can resume, looked for so often.
LEAKS_EVERY = 10


# Behind controllers, and with sectors and sizes, that only some cases ask for: name, bus, bytes, more.
MORE_DISKS = (
    ("mptsas0", "mptsas", "32M", {"wwn": 0x5000C290000000C0}),
    ("pvscsi0", "pvscsi", "32M", {"wwn": 0x5000C290000000D0}),
    ("nvme0", "nvme", "32M", {"serial": "nvme0"}),
    ("native0", "virtio-scsi", "32M", {"wwn": 0x5000C290000000E0, "logical_block": 4096}),
    ("odd0", "virtio", str((32 << 20) + 3 * 512), {"serial": "odd0"}),
    ("odd1", "virtio-scsi", str((32 << 20) + 5 * 512), {"wwn": 0x5000C290000000F0}),
)


class Case:
    """One file of cases/, with what its head says."""

    def __init__(self, path):
        self.name = os.path.basename(path)[:-3]
        with open(path, encoding="utf-8") as file:
            text = file.read()
        head = dict(re.findall(r"^# (check|machine|threads|disks|memory|timeout): *(.*)$", text, re.M))
        if re.search(r"^# (kernels|short):", text, re.M):
            sys.exit(f"run.py: {path}: what it cannot run on is said by '# not on KERNEL...: REASON'")
        self.absent = {kernel: reason
                       for kernels, reason in re.findall(r"^# not on ([^:]+): *(.+)$", text, re.M)
                       for kernel in kernels.split()}
        self.check = head.get("check", "").split()
        self.own = head.get("machine") == "own"
        # What a machine must be like to run it.
        self.needs = (head.get("threads", "multi"), head.get("disks") == "more",
                      int(head.get("memory", "0")))
        self.timeout = int(head.get("timeout", "240"))

    def pair(self):
        """The two kernels of PAIRWISE on which it runs; fewer if there are no two."""
        where = [k for k in PAIRWISE if k not in self.absent]
        pairs = list(itertools.combinations(where, 2)) or [where]
        return pairs[zlib.crc32(self.name.encode()) % len(pairs)]


class Machine:
    """A guest with the disks that the cases know by name; booted when first needed."""

    def __init__(self, options, number, needs):
        self.options, self.needs = options, needs
        threads, more_disks, memory = needs
        slow = options.kernel in SLOW
        self.lab = Lab(f"kmod-{options.kernel}-{options.tag}{number}")
        self.vm = self.lab.vm("kmod", kernel=options.kernel,
                              mem=memory * (2 if slow else 1) or (3072 if slow else 1536),
                              smp=2, threads=threads,
                              # Some memory is a disk (refused-disks). The emulated LSI
                              # controller loses commands when many are queued on two disks: one each.
                              append=("" if memory else "memmap=64M!1G ") +
                              SLOW.get(options.kernel, "sym53c8xx.cmd_per_lun=1"),
                              share=TOP, timeout=6 * 3600)
        for index in range(2):
            for bus, kind, size in (("lsi", 0xA0, "32M"), ("virtio-scsi", 0xB0, "64M")):
                image = self.lab.image(f"{bus}{index}.raw", size)
                # Under KASAN sym53c8xx loses patience with the emulated controller.
                if options.kernel == "debug" and bus == "lsi":
                    bus = "virtio-scsi"
                self.vm.disk(image, bus, wwn=0x5000C29000000000 + kind + index)
            image = self.lab.image(f"virtio{index}.raw", "64M")
            self.vm.disk(image, "virtio", serial=f"virtio{index}")
        for name, bus, size, how in MORE_DISKS if more_disks else ():
            self.vm.disk(self.lab.image(name + ".raw", size), bus, **how)
        self.passed = []
        self.vm.start()
        if options.kernel == "debug":
            try:
                self.vm.run(LEAKS + "begin", 900)
            except GuestError:
                self.lab.close()
                raise

    def host_action(self, line):
        """What a case asks of the host: "unplug virtio1", "resize virtio1 BYTES", "throttle
        virtio1 IOPS"."""
        what, name, *rest = line.split()
        disk = next(d for d in self.vm.disks if d.serial == name or
                    (d.wwn and name == f"scsi{d.wwn & 0xf}" and d.wwn & 0xF0 == 0xB0))
        if what == "unplug":
            self.vm.qmp.execute("device_del", id="dev-" + disk.node)
        elif what == "resize":
            self.vm.qmp.execute("block_resize", node_name=disk.node, size=int(rest[0]))
        elif what == "throttle":  # so many requests a second; 0: as many as may be
            self.vm.qmp.execute("block_set_io_throttle", _literal=True,
                                id=f"/machine/peripheral/dev-{disk.node}/virtio-backend", bps=0,
                                bps_rd=0, bps_wr=0, iops=int(rest[0]), iops_rd=0, iops_wr=0)

    def run(self, case):
        """(verdict, text): "passed", "failed" or "skipped"."""
        slow = self.options.kernel in SLOW
        mark = len(console.read(self.vm.console))
        seen = bytearray()
        why = ""

        def listen(data):
            seen.extend(data)
            while b"\n" in seen:
                line, _, rest = bytes(seen).partition(b"\n")
                seen[:] = rest
                if line.startswith(b"HOST: "):
                    threading.Thread(target=self.host_action, args=(line[6:].decode(),),
                                     daemon=True).start()

        command = (f"export CASE={case.name} SLOW={int(slow)} KO=/ebb/{self.options.ko} "
                   f"TESTKO=/ebb/build/kmod-test/{self.options.kernel} "
                   f"{' '.join(self.options.env)}; "
                   f". /ebb/tests/kmod/guest/lib.sh; . /ebb/tests/kmod/cases/{case.name}.sh")
        try:
            done = self.vm.spawn(f"exec bash {os.environ.get('EBB_BASH', '')} -c '{command}'",
                                 on_output=listen)
            why = "" if done.ended(case.timeout * (4 if slow else 1)) else self.what_hangs()
            done.wait(0, check=False)
            text, status = done.output, done.status
        except GuestError as error:
            text, status = f"{error}\n{why}", 125
        time.sleep(0.1)
        log = console.read(self.vm.console)[mark:]
        if self.options.kernel == "kcsan":
            log = races.without_foreign(log)
        if found := console.complaints(log):
            return "failed", text + "\nkernel:\n" + console.excerpt(log, found[0])
        if status == 0 or status == 77:
            try:
                self.vm.run("! grep -q '^ebb ' /proc/modules", 120)
            except GuestError:
                return "failed", text + "\nthe module is still loaded"
        if status == 77 and self.options.kernel in DEBIAN:
            return "failed", text + "\nskipped, which its head does not say"
        if status == 0:
            self.passed.append(case.name)
        return {0: "passed", 77: "skipped"}.get(status, "failed"), text

    def leaks(self):
        """(verdict, text): what was lost by the cases that passed here, none of which has seen it."""
        text = " ".join(self.passed) + "\n"
        try:
            done = self.vm.run("! grep -q '^ebb ' /proc/modules && " + LEAKS + "end", 1800, check=False)
            return "passed" if done.status == 0 else "failed", text + done.output
        except GuestError as error:
            return "failed", text + f"it was not looked what they have lost: {error}"

    def what_hangs(self):
        """Tasks that wait for I/O, with their stacks, and what the module knows."""
        try:
            return self.vm.run("bash /ebb/tests/kmod/guest/hung.sh", 120, check=False).output
        except GuestError as error:
            return str(error)

    def close(self):
        self.lab.close()


class Runner:
    """The queue of cases and the machines that serve it."""

    def __init__(self, options, cases, kept=None):
        self.options, self.waiting, self.kept = options, list(cases), kept
        self.lock = threading.Lock()
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.skipped = []

    def take(self):
        with self.lock:
            return self.waiting.pop(0) if self.waiting else None

    def report(self, case, verdict, seconds, text):
        with PRINT:
            self.counts[verdict] += 1
            print(f"{self.options.kernel} {case:28} {verdict} {seconds:6.1f} s", flush=True)
            folder = os.path.join(TOP, "build/logs")
            os.makedirs(folder, exist_ok=True)
            name = f"kmod-{self.options.kernel}-{self.options.tag}{case}.log"
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
            if verdict == "skipped":
                self.skip(case, (re.findall(r"^SKIPPED: (.*)$", text, re.M) or ["?"])[-1])
            if verdict == "failed" or self.options.verbose:
                lines = text.splitlines()
                said = [line for line in lines[:-60] if line.startswith("FAILED")]
                print("    " + "\n    ".join(said + lines[-60:]), flush=True)

    def skip(self, case, reason):
        self.skipped.append(f"{self.options.kernel} {case} skipped: {reason}")

    def keep(self, names):
        """They have passed for good: a later run need not do it again."""
        with self.lock:
            for name in names:
                if self.kept and not self.kept.keep(name):
                    print(f"{name}: the tree has changed since it began; not kept as passed", flush=True)

    def look_for_leaks(self, machine):
        begun = time.monotonic()
        verdict, text = machine.leaks()
        self.report("leaks", verdict, time.monotonic() - begun, text)
        if verdict == "passed":
            self.keep(machine.passed)
        machine.passed = []
        return verdict

    def part(self, machine):
        """The machine goes; under kmemleak it is asked first what the cases have lost."""
        if self.options.kernel == "debug" and machine.passed:
            self.look_for_leaks(machine)
        machine.close()

    def serve(self, number):
        machine, used = None, 0
        while (case := self.take()) is not None:
            begun = time.monotonic()
            try:
                if machine and machine.needs != case.needs:
                    self.part(machine)
                    machine = None
                if machine is None:
                    machine = Machine(self.options, f"{number}-{used}", case.needs)
                    used += 1
                    begun = time.monotonic()
                verdict, text = machine.run(case)
            except (LabError, QmpError, GuestError, OSError) as error:
                verdict, text = "failed", f"machine: {error}"
            self.report(case.name, verdict, time.monotonic() - begun, text)
            if verdict == "passed" and self.options.kernel != "debug":
                self.keep([case.name])
            if self.kept and machine and self.options.kernel == "debug" and len(machine.passed) >= LEAKS_EVERY:
                verdict = self.look_for_leaks(machine)
            if machine and (verdict == "failed" or case.own):
                self.part(machine)
                machine = None
        if machine:
            self.part(machine)


def parse():
    parser = argparse.ArgumentParser(description="module tests in virtual machines")
    parser.add_argument("--kernel", default="6.1", help="label of scripts/lab/kernel.sh")
    parser.add_argument("--only", action="append", default=[], help="names of cases")
    parser.add_argument("--jobs", type=int, default=1, help="machines at once")
    share = parser.add_mutually_exclusive_group()
    share.add_argument("--pairwise", action="store_true", help="every case on two kernels of four")
    share.add_argument("--check", action="store_true", help="the share of make check alone")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--repeat", type=int, default=1, help="every case so many times")
    again.add_argument("--resume", action="store_true", help="not those that have passed with the same inputs")
    parser.add_argument("--ko", help="a module built already (path in the tree)")
    parser.add_argument("--tag", default="", help="keeps folders and logs of runs apart")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE",
                        help="a variable for the cases, without quotes in it")
    parser.add_argument("--verbose", action="store_true", help="print what passing cases say")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.pairwise and options.kernel not in PAIRWISE:
        parser.error("--pairwise is for " + ", ".join(PAIRWISE))
    if options.resume and (options.ko or options.env or {"EBB_LAB", "EBB_BASH"} & set(os.environ)):
        parser.error("--resume is for the module and the lab of the tree")
    return options


def build_module(options, source, out):
    """Builds a folder's modules for the kernel."""
    subprocess.run([os.path.join(LAB, "kmod.sh"), options.kernel, os.path.join(TOP, source),
                    os.path.join(TOP, out, options.kernel)], check=True)


def select(options):
    """(cases to run, cases that cannot run there)"""
    cases = [Case(path) for path in sorted(glob.glob(os.path.join(CASES, "*.sh")))]
    absent = []
    if options.only:
        cases = [c for c in cases if c.name in options.only]
    else:
        if options.check:
            cases = [c for c in cases if options.kernel in c.check]
        absent = [c for c in cases if options.kernel in c.absent]
        cases = [c for c in cases if options.kernel not in c.absent]
        if options.pairwise:
            cases = [c for c in cases if options.kernel in c.pair()]
    # Machines of their own last: the common one is not thrown away in between. Long cases first.
    return sorted(cases * options.repeat, key=lambda c: (c.own, c.needs, -c.timeout)), absent


def passed_before(options, cases):
    """(the verdicts that are kept, {name of a case: when it passed})"""
    if not options.resume:
        return None, {}
    kept = verdicts.Verdicts(options.kernel,
                             lambda: verdicts.shared_inputs(options.kernel, ["tests/kmod/run.py"]),
                             lambda name: verdicts.case_inputs(f"tests/kmod/cases/{name}.sh"))
    dates = {case.name: kept.earlier(case.name) for case in cases}
    return kept, {name: date for name, date in dates.items() if date}


def build(options):
    if options.resume:
        verdicts.build_tools()
    build_module(options, "tests/kmod/modules", "build/kmod-test")
    if not options.ko:
        build_module(options, "kmod", "build/kmod")
        options.ko = os.path.join("build/kmod", options.kernel, "ebb.ko")


def main():
    options = parse()
    cases, absent = select(options)
    if not cases:
        print("run.py: no such case", file=sys.stderr)
        return 2
    kept, earlier = passed_before(options, cases)
    cases = [case for case in cases if case.name not in earlier]
    if options.list:
        print("".join(case.name + "\n" for case in cases), end="")
        return 0
    for name, date in earlier.items():
        print(verdicts.told(options.kernel, name, 28, date), flush=True)
    if cases:
        build(options)
    options.tag = options.tag and options.tag + "-"
    options.env = ['{}="{}"'.format(*e.split("=", 1)) for e in options.env]
    runner = Runner(options, cases, kept)
    runner.counts["passed"] = len(earlier)
    for case in absent:
        runner.skip(case.name, case.absent[options.kernel])
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for future in [pool.submit(runner.serve, n) for n in range(options.jobs)]:
            future.result()
    counts = runner.counts
    print("".join(line + "\n" for line in runner.skipped), end="")
    print(verdicts.summary(counts["passed"], counts["failed"], len(earlier)))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
