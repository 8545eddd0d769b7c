#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make demo: one machine comes home. A source machine under load, the module, TLS, a master target
that writes VMDKs behind an LSI Logic controller, ebbctl, failover, and the machine booting from the
VMDKs. Exit status 0 only if all of it was so."""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "scripts/lab"), HERE]
import demo_workload as workload  # noqa: E402
from demo_control import Control  # noqa: E402
from demo_machines import Machines  # noqa: E402
from vm import Lab  # noqa: E402

MACHINE, TARGET = "order-server", "master-target"
CUTS_WANTED = 10
CHUNK = 1 << 20


class Story:
    """Narrates, a line a step, with the time."""

    def __init__(self):
        self.begun = time.monotonic()
        self.table = []
        self.failed = []

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:5.0f} s] {text}", flush=True)

    def row(self, what, value):
        self.table.append((what, value))

    def must(self, condition, text):
        if not condition:
            self.failed.append(text)
            self.say("NOT SO: " + text)
        return condition

    def end(self):
        width = max(len(what) for what, _ in self.table) if self.table else 0
        print()
        for what, value in self.table:
            print(f"  {what:<{width}}  {value}")
        print()
        for text in self.failed:
            print("FAILED: " + text)
        return 1 if self.failed else 0


def mib(count):
    return f"{count / (1 << 20):,.1f} MiB"


def compare(raw, vmdk, folder):
    """Byte by byte: number of chunks that differ, and bytes compared that are not zero."""
    plain = os.path.join(folder, "compare.raw")
    subprocess.run(["qemu-img", "convert", "-U", "-f", "vmdk", "-O", "raw", vmdk, plain], check=True)
    differing = data = 0
    with open(raw, "rb") as ours, open(plain, "rb") as theirs:
        zero = bytes(CHUNK)
        while True:
            a, b = ours.read(CHUNK), theirs.read(CHUNK)
            if not a and not b:
                break
            differing += a != b
            data += len(a) if a != zero[:len(a)] else 0
    os.unlink(plain)
    return differing, data


def source_status(control):
    return control.machine(MACHINE)["status"]["source"]["protections"][0]


def watch_cuts(story, control, load):
    """Until enough cuts have closed after the initial sync; the oldest point's age seen."""
    first = source_status(control)["cuts_closed"]
    oldest, held, held_max, preserved = 0.0, 0, 0, 0
    deadline = time.monotonic() + 150
    while True:
        now = source_status(control)
        closed = now["cuts_closed"] - first
        held, held_max = max(held, now["held"]), max(held_max, now["held_max_ns"])
        preserved = max(preserved, now["preserved"])
        if now["last_cut_ns"]:
            oldest = max(oldest, time.time() - now["last_cut_ns"] / 1e9)
        if closed >= CUTS_WANTED or time.monotonic() > deadline:
            break
        if not load.running():
            break
        time.sleep(0.5)
    story.must(closed >= CUTS_WANTED, f"{CUTS_WANTED} cuts closed ({closed} did)")
    story.must(load.running(), "the workload runs unpaused: " + load.account())
    story.row("cuts closed after the initial sync", closed)
    story.row("cuts void", now["cuts_void"])
    story.row("most writes held in a cut, longest", f"{held}, {held_max / 1e6:.1f} ms")
    story.row("most blocks preserved in a cut", preserved)
    story.row("oldest the newest point became", f"{oldest:.1f} s")


def last_cut(story, control, load, machines):
    """The last cut, exported on the source; its epoch."""
    control.ctl("interval", MACHINE, "0")
    asked = load.ticket()
    begun = time.monotonic()
    job = control.job("checkpoint", MACHINE, "--name", "final", "--export", "/out")
    story.row("last cut, until durable on the target and copied", f"{time.monotonic() - begun:.1f} s")
    granted = load.ticket()
    workload.write_cut(os.path.join(machines.out, "cut"), asked, granted)
    return job["value"]["epoch"]


def compare_all(story, machines, protection):
    total = 0
    # The order of the protection's disks is that of the source's kernel, not ours.
    for disk in protection["disks"]:
        index = disk["index"]
        vmdk = machines.vmdk_of(disk["target_id"])
        raw = os.path.join(machines.out, f"{protection['id']}-{index}.raw")
        differing, data = compare(raw, vmdk, machines.lab.folder)
        total += data
        story.must(differing == 0, f"disk {index}: {differing} MiB of the VMDK differ from the "
                   "source's image of the last cut")
    story.row("VMDKs against the source's image", f"equal, {mib(total)} of data in 3 GiB"
              if not story.failed else "NOT EQUAL")


def tell(story, lab):
    machines = Machines(lab, story)
    machines.boot()
    control = Control(lab, machines)
    control.start()
    control.join(machines.target, TARGET, "on-premises", "target", "/ebb/build/ebbd",
                 more={"target": {"host": "10.9.0.2"}})
    control.join(machines.source, MACHINE, "cloud", "source", "/usr/sbin/ebbd")
    story.say("both agents have joined: TLS 1.3, certificates by one-time tokens")

    load = workload.Workload(machines.source, "/out/stamps", 40, 25)
    story.say("fio with verification and the stamping writer run, on all three disks, from now on")
    begun = time.monotonic()
    job = control.job("protect", MACHINE, "--target", TARGET, "--interval", "3",
                      *machines.pairs())
    took = time.monotonic() - begun
    story.row("initial sync", f"{took:.1f} s for 3 GiB, {3 * 1024 / took:.0f} MiB/s")
    story.say(f"initial sync is done: {job['percent']:.0f} %, {took:.0f} s")
    watch_cuts(story, control, load)
    story.say(f"{CUTS_WANTED} cuts have closed, each with writes on every disk")

    epoch = last_cut(story, control, load, machines)
    story.say(f"last cut, epoch {epoch}, is on the target, and copied on the source's side")
    story.must(load.running(), "the workload ran until the failover: " + load.account())
    job = control.job("failover", MACHINE)
    story.row("failover on the target", f"{job['failover_seconds']:.2f} s")
    story.must(not machines.source.running(), "the source's QEMU process has ended")
    story.must("proved" in job.get("source_off", ""), "the source is proved off")
    story.must(job["value"]["point"]["epoch"] == epoch,
               f"the newest point is the last cut ({job['value']['point']['epoch']}, {epoch})")
    story.say(f"failed over to epoch {job['value']['point']['epoch']}; source: {job['source_off']}")
    compare_all(story, machines, control.protection(MACHINE))
    story.say("the VMDKs are compared byte by byte with the copy of the last cut")

    machines.home_ready()
    story.say("the machine has booted from its VMDKs behind an LSI Logic controller")
    for what, good, words in workload.check(machines.home, "/out/stamps", "/out/cut",
                                            machines.home_id(2)):
        story.must(good, f"{what}: {words[-600:]}")
        story.row(what, "yes" if good else "NO")
    control.job("commit", MACHINE)
    story.must(control.protection(MACHINE)["state"] == "failed-back", "committed")
    story.say("committed: the delta is merged, the recovery points are closed")
    machines.end()


def main():
    story = Story()
    lab = Lab("demo")
    try:
        with lab:
            tell(story, lab)
    except Exception as error:  # whatever it was: the demonstration failed
        story.must(False, f"{type(error).__name__}: {error}")
    story.row("everything together", f"{time.monotonic() - story.begun:.0f} s")
    return story.end()


if __name__ == "__main__":
    sys.exit(main())
