# SPDX-License-Identifier: Apache-2.0
"""Four CPUs that write at once: to a disk each, and all to one, against bare and peers.

Writes per second, where each CPU has a thread of the host, which its other load disturbs: bare and
candidate take turns, bare itself is one of the candidates, and the medians of the ratios and their
range are shown. What can be counted of it is in sharing.py.
"""
import os
import statistics

from candidates import EBBTEST, PROGRAMS, GuestError, build_module, release

CPUS = 4
DEPTH = 32
ALL = " ".join(str(i) for i in range(CPUS))
MODULES = ("dm_mod", "dm_era", "dm_snapshot", "drbd")
# The null_blk disks are 0 to 3; 4 to 7 are for copies.
PREPARE = (f"modprobe null_blk nr_devices={2 * CPUS} queue_mode=2 irqmode=0 gb=1 submit_queues={CPUS}; "
           f"modprobe brd rd_nr={CPUS} rd_size=131072; " + "; ".join(f"modprobe {m}" for m in MODULES))
DM = "dmsetup --noudevsync"
WIPE = "dd if=/dev/zero of=/dev/ram$i bs=1M count=16 2>/dev/null"
# DRBD's metadata has 128 MiB, whatever it uses of them.
# The first write to a block of an era, a snapshot or a bitmap is not the steady state.
FILL = "dd if=/dev/zero of={dev}$i bs=1M count=61 oflag=direct 2>/dev/null"
DRBD = "/lib/drbd/drbdsetup-84"


def each(command):
    return f"for i in {ALL}; do {command}; done"


def stacked(target, fill=True):
    """A device-mapper target on each disk."""
    return (each(f"{WIPE}; echo 0 $(blockdev --getsz /dev/nullb$i) {target} | {DM} create t$i; "
                 + (FILL.format(dev="/dev/dm-") if fill else ":")),
            "/dev/dm-", each(f"{DM} remove t$i"))


def ebb(log):
    area = f" /dev/nullb$((i+{CPUS})) 0 8192 create" if log else ""
    hot = f"{EBBTEST} mark-all $((i+1))" if log else ":"
    return ("insmod {ko}; " + each(f"{EBBTEST} attach /dev/nullb$i b$i 1{area} >/dev/null; {hot}"),
            "/dev/nullb", each(f"{EBBTEST} detach $((i+1))") + "; rmmod ebb")


# How to put each on the disks: commands before, the name of the devices, commands after; and
# whether it is measured in fewer rounds.
CANDIDATES = {
    "bare again": (":", "/dev/nullb", ":", False),
    "ebb tracked": (*ebb(False), False),
    "ebb with a log": (*ebb(True), False),
    "dm-linear": (*stacked("linear /dev/nullb$i 0", fill=False), True),
    "dm-snapshot origin": (
        each(f"s=$(blockdev --getsz /dev/nullb$i); "
             f"echo 0 $s snapshot-origin /dev/nullb$i | {DM} create t$i") + "; " +
        each(f"s=$(blockdev --getsz /dev/nullb$i); "
             f"echo 0 $s snapshot /dev/nullb$i /dev/nullb$((i+{CPUS})) N 8 | {DM} create s$i; "
             f"{DM} suspend t$i; {DM} resume t$i; " + FILL.format(dev="/dev/dm-")),
        "/dev/dm-", each(f"{DM} remove s$i; {DM} remove t$i"), True),
    "dm-era": (*stacked("era /dev/ram$i /dev/nullb$i 8"), True),
    "DRBD without a peer": (
        each(f"{WIPE}; echo yes | drbdmeta --force /dev/drbd$i v08 /dev/ram$i 0 create-md >/dev/null; "
             f"{DRBD} new-resource r$i; {DRBD} new-minor r$i $i 0; "
             f"{DRBD} attach $i /dev/nullb$i /dev/ram$i 0; {DRBD} primary $i --force; "
             + FILL.format(dev="/dev/drbd")),
        "/dev/drbd", each(f"{DRBD} secondary $i; {DRBD} down r$i"), True),
}


class Contention:
    """One guest with a disk for each CPU."""

    def __init__(self, vm, module, count):
        self.vm, self.module, self.count = vm, module, count
        vm.run(PREPARE)

    def writes(self, disk, spread, count=None):
        """ns per write of all CPUs together; disk N for CPU N, or the first one for all."""
        # All begin at once: programs are loaded before.
        one = " ".join(f"taskset -c {i} {PROGRAMS}/writes {disk}{i if spread else 0} "
                       f"{count or self.count} {DEPTH} >/tmp/w{i} & p{i}=$!;" for i in range(CPUS))
        wait = " && ".join(f"wait $p{i}" for i in range(CPUS))
        done = self.vm.run(f"{one} {wait} && cat /tmp/w[0-9]", timeout=1800)
        times = [float(word) for word in done.output.split()]
        return 1 / sum(1 / ns for ns in times)

    def candidate(self, name, spread, count=None):
        before, disk, after, _ = CANDIDATES[name]
        try:
            self.vm.run("set -e; " + before.replace("{ko}", self.module), timeout=900)
            return self.writes(disk, spread, count)
        finally:
            self.vm.run(after, check=False)

    def compare(self, name, spread, rounds):
        """Rounds of (bare, candidate), ns per write."""
        return [(self.writes("/dev/nullb", spread), self.candidate(name, spread))
                for _ in range(rounds)]


def layouts(names, row):
    """A table for each way to spread the writes: row(name, spread) is what it says."""
    for spread in (True, False):
        print(f"  {'a disk for each CPU' if spread else 'one disk for all'}")
        for name in names:
            try:
                print(f"    {name:20}{row(name, spread)}", flush=True)
            except GuestError as error:
                print(f"    {name:20}not measured: {' '.join(str(error).split())[-160:]}", flush=True)


def rates(guest, options):
    def row(name, spread):
        rounds = 3 if CANDIDATES[name][3] else options.rounds
        pairs = guest.compare(name, spread, min(rounds, 3) if options.quick else rounds)
        ratios = sorted(100 * b / c for b, c in pairs)
        return (f"{statistics.median(ratios):6.1f} % of bare's writes per second "
                f"({ratios[0]:.1f} to {ratios[-1]:.1f}, {len(ratios)} rounds)")
    print(f"  writes per second, at a load of the host of {os.getloadavg()[0]:.1f}")
    layouts(shown(options), row)


def shown(options):
    """Without the peers, if it has to be quick."""
    return [name for name in CANDIDATES if not (options.quick and CANDIDATES[name][3])]


def title(label, vm):
    print(f"\n{label} ({release(vm)}), {CPUS} CPUs that write 4 KiB at random at depth {DEPTH}, null_blk",
          flush=True)


def bench(lab, label, options):
    module = build_module(label)
    vm = lab.vm(f"rates-{label}", kernel=label, smp=CPUS, mem=2048, timeout=5400)
    vm.start(timeout=900)
    title(label, vm)
    rates(Contention(vm, module, options.count), options)
    vm.power_off()
