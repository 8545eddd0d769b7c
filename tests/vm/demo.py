#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make demo: one machine comes home. A source machine under load, the module, TLS, a master target
that writes VMDKs behind an LSI Logic controller, ebbctl, failover, and the machine booting from the
VMDKs. Exit status 0 only if all of it was so."""
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "scripts/lab"), HERE]
import demo_checks as checks  # noqa: E402
import demo_workload as workload  # noqa: E402
from demo_control import Control  # noqa: E402
from demo_machines import PROGRAMS, Machines  # noqa: E402
from vm import Lab  # noqa: E402

MACHINE, TARGET = "order-server", "master-target"
EARLIER = "before-the-disaster"
CUTS_WANTED = 10
DISKS, SIZE = 3, 1 << 30


class Story:
    """Narrates, a line a step, with the time."""

    def __init__(self, quiet=False):
        self.begun = time.monotonic()
        self.quiet = quiet
        self.table = []
        self.failed = []

    def write(self, text=""):
        if not self.quiet:
            print(text, flush=True)

    def say(self, text):
        self.write(f"[{time.monotonic() - self.begun:5.0f} s] {text}")

    def row(self, what, value):
        self.table.append((what, value))

    def must(self, condition, text):
        if not condition:
            self.failed.append(text)
            self.say("NOT SO: " + text)
        return condition

    def end(self):
        width = max(len(what) for what, _ in self.table) if self.table else 0
        self.write()
        for what, value in self.table:
            self.write(f"  {what:<{width}}  {value}")
        self.write()
        for text in self.failed:
            self.write("FAILED: " + text)
        return 1 if self.failed else 0


def mib(count):
    return f"{count / (1 << 20):,.1f} MiB"


class Demonstration:
    """Machines, the controller and what has been seen of them so far."""

    def __init__(self, lab, story):
        self.story = story
        self.machines = Machines(lab, story)
        self.control = Control(lab, self.machines)
        self.load = None
        self.ahead = 0.0  # of the source's clock before this one's, seconds
        self.held = self.held_longest_ns = self.preserved = 0

    def boot(self):
        machines, control = self.machines, self.control
        machines.boot()
        control.start()
        control.join(machines.target, TARGET, "on-premises", "target", "/ebb/build/ebbd",
                     more={"target": {"host": "10.9.0.2"}})
        control.join(machines.source, MACHINE, "cloud", "source", "/usr/sbin/ebbd")
        self.story.say("both agents have joined: TLS 1.3, certificates by one-time tokens")
        self.ahead = machines.source_clock()

    def status(self):
        return self.control.machine(MACHINE)["status"]["source"]["protections"][0]

    def points(self):
        """Recovery points, oldest first."""
        return sorted(self.control.ctl("point", "list", MACHINE)["points"], key=lambda p: p["epoch"])

    def look(self):
        """The status now, and its most remarkable numbers so far."""
        now = self.status()
        self.held = max(self.held, now["held"])
        self.held_longest_ns = max(self.held_longest_ns, now["held_max_ns"])
        self.preserved = max(self.preserved, now["preserved"])
        return now

    def age(self, cut_time_ns):
        """Of a point, by this machine's clock."""
        return time.time() + self.ahead - cut_time_ns / 1e9

    # -- steps ---------------------------------------------------------------------------------
    def protect(self):
        story = self.story
        self.load = workload.Workload(self.machines.source, "/out/stamps", 80, 25)
        story.say("fio with verification and the stamping writer run, on all three disks, from now on")
        begun, sent = time.monotonic(), self.machines.sent_bytes()
        self.control.job("protect", MACHINE, "--target", TARGET, "--interval", "3",
                         *self.machines.pairs())
        took = time.monotonic() - begun
        sent = self.machines.sent_bytes() - sent
        story.row("initial sync", f"{took:.1f} s for {mib(DISKS * SIZE)}: {DISKS * SIZE / took / 1e6:.0f} "
                  f"MB/s of disk; {mib(sent)} on the wire, {sent / took / 1e6:.1f} MB/s")
        story.say(f"initial sync is done: {took:.0f} s")

    def watch_cuts(self):
        """Until enough cuts have closed after the initial sync, which are then counted."""
        story = self.story
        first = self.look()["closed_epoch"]
        begun, sent = time.monotonic(), self.machines.sent_bytes()
        oldest = 0.0
        while self.load.running() and time.monotonic() < begun + 600:
            now = self.look()
            oldest = max(oldest, self.age(now["last_cut_ns"]))
            if now["closed_epoch"] >= first + CUTS_WANTED:
                break
            time.sleep(0.5)
        sent = self.machines.sent_bytes() - sent
        took = time.monotonic() - begun
        story.must(self.load.running(), "the workload runs unpaused: " + self.load.account())
        self.count_cuts(first)
        story.row("cuts void", now["cuts_void"])
        story.row("sent while cuts closed", f"{mib(sent)} in {took:.0f} s, {sent / took / 1e6:.2f} MB/s")
        story.row("oldest the newest point became", f"{oldest:.1f} s")

    def count_cuts(self, first):
        """Points after epoch `first`, as the target has them; each must have writes on all disks."""
        story = self.story
        times = [p["cut_time_ns"] for p in self.points() if p["epoch"] >= first]
        writes = checks.read_writes(self.machines.stamp_logs())
        counts = checks.writes_of_cuts(writes, times, DISKS)
        if not story.must(len(counts) >= CUTS_WANTED, f"{CUTS_WANTED} cuts closed ({len(counts)})"):
            return
        fewest = [min(count[disk] for count in counts) for disk in range(DISKS)]
        story.must(min(fewest) > 0, f"each cut has writes on every disk: {counts}")
        story.say(f"{len(counts)} cuts have closed, each with writes on every disk (at least "
                  f"{', '.join(map(str, fewest))} stamped blocks)")
        story.row("cuts closed after the initial sync", len(counts))
        story.row("fewest stamped blocks in a cut", f"{', '.join(map(str, fewest))} (by disk)")
        stalls = checks.stalls(writes, times)
        story.must(stalls.near and stalls.elsewhere, "writes were seen at cuts and between them")
        story.row("a write within 0.1 s of a cut, as the writer saw it", stalls.near_words())
        story.row("a write at other times", stalls.elsewhere_words())

    def earlier_cut(self):
        """A point with a name, some cuts before the last, and a copy of its own; its epoch."""
        os.mkdir(os.path.join(self.machines.out, EARLIER))
        job = self.control.job("checkpoint", MACHINE, "--name", EARLIER, "--export",
                               "/out/" + EARLIER)
        epoch = job["value"]["epoch"]
        self.story.say(f"a point named {EARLIER}, epoch {epoch}, is copied on the source's side")
        return epoch

    def last_cut(self):
        """The last cut, exported on the source; its epoch."""
        story, control = self.story, self.control
        control.ctl("interval", MACHINE, "0")
        asked = self.load.ticket()
        begun = time.monotonic()
        job = control.job("checkpoint", MACHINE, "--name", "final", "--export", "/out")
        took = time.monotonic() - begun
        self.look()
        granted = self.load.ticket()
        workload.write_cut(os.path.join(self.machines.out, "cut"), asked, granted)
        story.row("last cut, until durable on the target and copied", f"{took:.1f} s")
        story.row("most writes held in a cut", f"{self.held}, the longest {self.held_longest_ns / 1e6:.1f} ms")
        story.row("most blocks preserved in a cut", self.preserved)
        epoch = job["value"]["epoch"]
        story.say(f"last cut, epoch {epoch}, is on the target, and copied on the source's side")
        return epoch

    def failover(self, epoch):
        story = self.story
        story.must(self.load.running(), "the workload ran until the failover: " + self.load.account())
        age = self.age(self.points()[-1]["cut_time_ns"])
        job = self.control.job("failover", MACHINE)
        point = job["value"]["point"]
        story.row("failover on the target", f"{job['failover_seconds']:.2f} s")
        story.row("age of the last cut when failover was asked for", f"{age:.1f} s")
        story.must(not self.machines.source.running(), "the source's QEMU process has ended")
        story.must("proved" in job.get("source_off", ""), "the source is proved off")
        story.must(point["epoch"] == epoch,
                   f"the newest point is the last cut ({point['epoch']}, {epoch})")
        story.say(f"the source is off, {job['source_off']}")
        story.say(f"failed over to the newest point, epoch {point['epoch']}; taken back of the open "
                  f"one: {mib(job['value'].get('rolled_back_bytes', 0))}")

    def change_point(self, words, epoch):
        """To another point before the commit, and the machine is started anew on it."""
        story = self.story
        self.machines.expect_home()
        job = self.control.job("change-point", MACHINE, "--point", words)
        point = job["value"]["point"]
        story.must(point["epoch"] == epoch, f"it is the point that was meant ({point['epoch']}, {epoch})")
        rewound = job["value"].get("rewound_bytes", 0)
        story.must(rewound > 0, "there was something to take back, or to bring back")
        story.row(f"to the point {words}", f"{mib(rewound)} in {job['failover_seconds']:.2f} s")

    def compare(self, epoch, folder=""):
        story, machines = self.story, self.machines
        protection = self.control.protection(MACHINE)
        copies = checks.exported(os.path.join(machines.out, folder, protection["id"] + ".json"), epoch)
        size = data = differing = 0
        for disk in protection["disks"]:
            found = checks.compare(copies[disk["source_id"]], machines.vmdk_of(disk["target_id"]),
                                   machines.lab.folder)
            story.must(found.equal and found.size == SIZE,
                       f"the VMDK of {disk['source_id']}: {found.size} bytes compared; of the source's "
                       f"image of epoch {epoch} differ MiB from {found.differing[:20]}")
            size, data = size + found.size, data + found.data
            differing += len(found.differing)
        same = story.must(size == DISKS * SIZE and not differing, "all disks were compared")
        story.row(f"VMDKs against the source's image of epoch {epoch}",
                  f"{'equal' if same else 'NOT EQUAL'}: {size:,} bytes, {mib(data)} of data")
        story.say(f"the VMDKs and the copy of epoch {epoch}, {size:,} bytes: "
                  + ("not one byte differs" if same else "NOT EQUAL"))

    def come_home(self):
        story, machines = self.story, self.machines
        machines.home_ready()
        controllers = machines.home_controllers()
        story.must(all("0x1000" in c for c in controllers), f"LSI Logic controllers: {controllers}")
        root = machines.home_root()
        story.must(machines.home_id(0) in root, f"it booted from its first VMDK: {root}")
        story.say(f"the machine has booted from its VMDKs behind LSI Logic ({controllers[0]})")
        for what, good, words in workload.check(machines.home, "/out/stamps", "/out/cut",
                                                machines.home_id(2)[4:]):
            story.must(good, f"{what}: {words[-600:]}")
            story.row(what, "yes" if good else "NO")
        story.say("file systems, stamps and fio's data have been checked in it")

    def commit(self):
        """What the machine writes at home, before and after, must be in the VMDKs alone then."""
        story, machines = self.story, self.machines
        marks = machines.leave_marks("before")
        self.control.job("commit", MACHINE)
        story.must(self.control.protection(MACHINE)["state"] == "failed-back", "committed")
        after = machines.leave_marks("after")
        machines.end()
        merged = [checks.holds(vmdk, [marks[n], after[n]], machines.lab.folder)
                  for n, vmdk in enumerate(machines.vmdks)]
        story.must(all(merged), f"what was written at home is in the VMDKs: {merged}")
        story.row("written at home, found in the merged VMDKs", "yes" if all(merged) else "NO")
        story.say("committed: the delta is merged into the VMDKs, the recovery points are closed")


def tell(story, lab):
    demonstration = Demonstration(lab, story)
    try:
        demonstration.boot()
        demonstration.protect()
        demonstration.watch_cuts()
        earlier = demonstration.earlier_cut()
        epoch = demonstration.last_cut()
        demonstration.failover(epoch)
        demonstration.compare(epoch)
        demonstration.change_point(EARLIER, earlier)
        demonstration.compare(earlier, EARLIER)
        demonstration.change_point("latest", epoch)
        demonstration.compare(epoch)
        demonstration.come_home()
        demonstration.commit()
    finally:
        demonstration.machines.kill_home()


def main():
    if sys.argv[1:] == ["--programs"]:
        print(*PROGRAMS)
        return 0
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
