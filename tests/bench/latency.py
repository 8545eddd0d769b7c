# SPDX-License-Identifier: Apache-2.0
"""Figure F3: what a cut every 5 s does to the latency of writes, beside snapshots.

In virtual time, which counts instructions (1 ns each) and skips what nobody computes in, so that
the latencies are those of a disk that takes its time for everything, exactly, whatever else the
host does. Writers send a fixed number of writes a second for as long as the cuts go on. The one CPU
is shared with the reader of the cuts: so the same number of reads without any cut is shown too. The
kernel is preemptible (preempt=full), and the writers have the right of way.

All take turns, round by round; what is shown are the medians of the rounds and of their ratios, and
how far one round of the bare device is from another.
"""
import json
import statistics

from candidates import EBBTEST, PROGRAMS, GuestError, build_module, release

INTERVAL_S = 5
RATE = 2000
# The disk's time for a request, in us; the writers' working set, in MiB; rounds; peers too. In the
# last one more writes are held than the figure is for: how long.
LOADS = ((1000, 4000, 3, False), (100, 4000, 3, True), (100, 64, 1, False))
PERCENTILES = ("p50", "p99", "p999", "max")
DM = "dmsetup --noudevsync"
DISK = "/dev/d{us}"
OTHER = "/dev/c{us}"


def prepare(vm):
    vm.run("modprobe configfs; mount -t configfs configfs /sys/kernel/config; modprobe dm_snapshot; "
           "modprobe null_blk nr_devices=0")
    for us in sorted({load[0] for load in LOADS}):
        for name in (f"d{us}", f"c{us}"):
            folder = f"/sys/kernel/config/nullb/{name}"
            vm.run(f"mkdir {folder}; cd {folder}; echo 4096 >size; echo 2 >irqmode; echo 2 >queue_mode; "
                   f"echo {us * 1000} >completion_nsec; echo 1 >submit_queues; "
                   "echo 128 >hw_queue_depth; echo 1 >power")


class Latency:
    """Writers on a disk of a guest, and what goes on beside them."""

    def __init__(self, vm, module, options, us, mib):
        self.vm, self.module = vm, module
        self.cuts, self.depth = options.cuts, options.depth
        self.disk, self.other = DISK.format(us=us), OTHER.format(us=us)
        self.range = mib << 20

    def writers(self, dev, more=""):
        """The latencies (a dictionary, in us) of writes to dev, and what `more` printed; that runs
        beside them, nice."""
        seconds = (self.cuts + 1) * INTERVAL_S - 1
        writers = (f"chrt -f 10 {PROGRAMS}/latency {dev} --rate {RATE} --seconds {seconds} "
                   f"--range {self.range}")
        beside = f"(nice -n 19 sh -ec '{more}') >/tmp/more 2>&1 & " if more else ""
        done = self.vm.run(f"rm -f /tmp/more; {beside} {writers} >/tmp/latency || exit 1; wait; "
                           "cat /tmp/latency; cat /tmp/more 2>/dev/null; true", timeout=3000)
        lines = done.output.strip().splitlines()
        return json.loads(lines[0]), lines[1:]

    def reads(self):
        """The latency of reads alone."""
        done = self.vm.run(f"{PROGRAMS}/latency {self.disk} --rate {RATE} --seconds 1 --read "
                           f"--range {self.range}")
        return json.loads(done.output)

    def reader(self, dev, interval, times):
        """Reads as many blocks as are written in an interval."""
        return (f"{PROGRAMS}/cuts {dev} --reads {INTERVAL_S * RATE} --range {self.range} "
                f"--interval {interval} --cuts {times} --depth {self.depth}")

    def ebb(self):
        """Without cuts, with the reads alone, with cuts; and the account of the cuts."""
        def cuts(interval, times):
            return (f"{PROGRAMS}/cuts 1 --interval {interval} --cuts {times} --depth {self.depth}")
        try:
            self.vm.run(f"set -e; insmod {self.module} hold_deadline_ms=2000; "
                        f"{EBBTEST} attach {self.disk} bench 1 >/dev/null")
            alone, _ = self.writers(self.disk)
            reads, _ = self.writers(self.disk, self.reader(self.disk, INTERVAL_S * 1000, self.cuts))
            # What has been written so far does not belong to the first cut.
            self.vm.run(cuts(0, 1), timeout=600)
            with_cuts, account = self.writers(self.disk, cuts(INTERVAL_S * 1000, self.cuts))
            return alone, reads, with_cuts, json.loads(account[-1])
        finally:
            self.vm.run(f"{EBBTEST} detach 1; rmmod ebb", check=False)

    def snapshots(self):
        """Without, and with a snapshot that is read and removed at each interval."""
        size = self.vm.run(f"blockdev --getsz {self.disk}").output.strip()
        # Into the guest's memory, by copy-up: while a write waits nothing may be opened on the host.
        self.vm.run("touch /usr/sbin/dmsetup /etc/ld.so.cache $(ldd /usr/sbin/dmsetup | grep -o '/[^ ]*')")

        def loop(times, seconds):
            return (f"for i in $(seq {times}); do sleep {seconds}; {DM} suspend t; "
                    f"echo 0 {size} snapshot {self.disk} {self.other} N 8 | {DM} create s; "
                    f"{DM} resume t; {self.reader('/dev/dm-1', 0, 1)}; {DM} remove s; done; echo done")
        try:
            self.vm.run(f"set -e; echo 0 {size} snapshot-origin {self.disk} | {DM} create t")
            alone, _ = self.writers("/dev/dm-0")
            # Once before, so that all of it has been read from there.
            self.vm.run("set -e; " + loop(1, 1), timeout=600)
            with_snapshots, said = self.writers("/dev/dm-0", loop(self.cuts, INTERVAL_S))
            if said[-1:] != ["done"]:
                raise GuestError("snapshots: " + " ".join(said)[-160:])
            return alone, with_snapshots
        finally:
            self.vm.run(f"{DM} remove s; {DM} remove t", check=False)


def median(rounds, key):
    return statistics.median(latency[key] for latency in rounds)


def ratios(rounds, base, key):
    """Of each round to the same round of another row."""
    return [latency[key] / other[key] for latency, other in zip(rounds, base)]


def line(name, rounds, base=None):
    """One row; with ratios to another one."""
    def cell(key):
        ratio = f" ({statistics.median(ratios(rounds, base, key)):.3f})" if base else ""
        return f"{median(rounds, key):.1f}{ratio}"
    print(f"{name:32}" + "".join(f"{cell(key):>18}" for key in PERCENTILES), flush=True)


def sum_of(accounts):
    """Of the rounds' cuts: what is counted is added up, of all else the most is kept."""
    added = ("closed", "void", "blocks", "held", "preserved")
    return {key: (sum if key in added else max)(account[key] for account in accounts)
            for key in accounts[0]}


def report_cuts(account, alone, with_cuts, read):
    writes = sum(latency["count"] for latency in with_cuts)
    held = 100 * account["held"] / writes
    limit = read["p50"] + 100
    print(f"    {account['closed']} cuts closed, {account['void']} void; {account['blocks']} blocks "
          f"read, in at most {account['pass_ms_max']:.0f} ms for a cut")
    print(f"    held: {account['held']} of {writes} writes ({held:.3f} %), at most "
          f"{account['held_us_max']:.1f} us (a read and 100 us are {limit:.1f}: "
          f"{'reached' if account['held_us_max'] <= limit else 'NOT reached'}); preserved: "
          f"{account['preserved']} blocks, pool at most {account['pool_peak'] // 1024} KiB")
    if held >= 0.1:
        print("    more than 0.1 % held: no figure for it", flush=True)
        return
    p99, p999 = (ratios(with_cuts, alone, key) for key in ("p99", "p999"))
    good = statistics.median(p99) <= 1.05 and statistics.median(p999) <= 1.1
    print(f"    F3 {'reached' if good else 'NOT reached'}: p99 {statistics.median(p99):.3f} (at most "
          f"1.05), p99.9 {statistics.median(p999):.3f} ({min(p999):.3f} to {max(p999):.3f}; at most "
          "1.1)", flush=True)


def report_floor(bare):
    """How far two rounds of the same are apart."""
    if len(bare) > 1:
        apart = ", ".join(f"{name} {max(r[key] for r in bare) / min(r[key] for r in bare):.3f}"
                          for name, key in (("p99", "p99"), ("p99.9", "p999")))
        print(f"    bare against bare: {apart}", flush=True)


def measure_snapshots(guest, bare):
    try:
        origin, with_snapshots = guest.snapshots()
        line("dm-snapshot, none", [origin], bare[:1])
        line("dm-snapshot, snapshots", [with_snapshots], [origin])
    except GuestError as error:
        print("dm-snapshot: not measured:", " ".join(str(error).split())[-160:], flush=True)


def measure(guest, rounds, peers):
    read = guest.reads()
    bare, ebb = [], []
    for _ in range(rounds):
        bare.append(guest.writers(guest.disk)[0])
        ebb.append(guest.ebb())
    alone, reads, with_cuts, accounts = map(list, zip(*ebb))
    line("a read", [read])
    line("bare", bare)
    report_floor(bare)
    line("ebb, no cuts", alone, bare)
    line("ebb, no cuts, as many reads", reads, alone)
    line("ebb, cuts", with_cuts, alone)
    report_cuts(sum_of(accounts), alone, with_cuts, read)
    if peers:
        measure_snapshots(guest, bare)


def bench(lab, label, options):
    module = build_module(label)
    vm = lab.vm(f"latency-{label}", kernel=label, icount=True, mem=1536, append="preempt=full",
                timeout=5400, qemu=["-icount", "shift=0,sleep=off"])
    vm.start(timeout=900)
    prepare(vm)
    print(f"\n{label} ({release(vm)}), {RATE} writes of 4 KiB a second at random, a cut (a snapshot) "
          f"every {INTERVAL_S} s, {options.cuts} of them, {options.depth} reads at once; microseconds", flush=True)
    for us, mib, rounds, peers in LOADS:
        rounds = 1 if options.quick else rounds
        print(f"\ndisk of {us} us, working set of {mib} MiB, {rounds} rounds\n"
              f"{'':32}{'p50':>18}{'p99':>18}{'p99.9':>18}{'max':>18}")
        measure(Latency(vm, module, options, us, mib), rounds,
                peers and not options.quick)
    vm.power_off()
