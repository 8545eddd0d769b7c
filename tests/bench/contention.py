# SPDX-License-Identifier: Apache-2.0
"""Four CPUs that write at once: to a disk each, and all to one, against bare and peers.

Each emulated CPU has a thread of the host, which its other load disturbs: bare and candidate take
turns, and the medians of the ratios and their range are shown. Exact counts are for one CPU alone.
"""
import statistics

from candidates import EBBTEST, PROGRAMS, GuestError, build_module, release

CPUS = 4
DEPTH = 32
PREPARE = (f"modprobe null_blk nr_devices={CPUS} queue_mode=2 irqmode=0 gb=1 submit_queues={CPUS}; "
           f"modprobe brd rd_nr={CPUS} rd_size=16384; modprobe dm_mod; modprobe dm_era")
DM = "dmsetup --noudevsync"
ALL = " ".join(str(i) for i in range(CPUS))


def stacked(target):
    """A device-mapper target on each disk."""
    return (f"for i in {ALL}; do dd if=/dev/zero of=/dev/ram$i bs=1M count=4 2>/dev/null; "
            f"echo 0 $(blockdev --getsz /dev/nullb$i) {target} | {DM} create t$i; done",
            "/dev/dm-", f"for i in {ALL}; do {DM} remove t$i; done")


CANDIDATES = {
    "ebb tracked": ("insmod {ko}; for i in " + ALL +
                    f"; do {EBBTEST} attach /dev/nullb$i b$i 1 >/dev/null; done", "/dev/nullb",
                    "for i in 1 2 3 4; do " + EBBTEST + " detach $i; done; rmmod ebb"),
    "dm-linear": stacked("linear /dev/nullb$i 0"),
    "dm-era": stacked("era /dev/ram$i /dev/nullb$i 8"),
}


class Contention:
    """One guest with a disk for each CPU."""

    def __init__(self, vm, module, count):
        self.vm, self.module, self.count = vm, module, count
        vm.run(PREPARE)

    def writes(self, disk, spread):
        """ns per write of all CPUs together; disk N for CPU N, or the first one for all."""
        each = " ".join(f"taskset -c {i} {PROGRAMS}/writes {disk}{i if spread else 0} {self.count} "
                        f"{DEPTH} >/tmp/w{i} & p{i}=$!;" for i in range(CPUS))
        wait = " && ".join(f"wait $p{i}" for i in range(CPUS))
        done = self.vm.run(f"{each} {wait} && cat /tmp/w[0-9]", timeout=1800)
        times = [float(word) for word in done.output.split()]
        return 1 / sum(1 / ns for ns in times)

    def compare(self, name, spread, rounds):
        """Rounds of (bare, candidate), ns per write."""
        before, disk, after = CANDIDATES[name]
        pairs = []
        for _ in range(rounds):
            bare = self.writes("/dev/nullb", spread)
            try:
                self.vm.run("set -e; " + before.format(ko=self.module), timeout=600)
                pairs.append((bare, self.writes(disk, spread)))
            finally:
                self.vm.run(after, check=False)
        return pairs


def show(pairs):
    ratios = sorted(100 * b / c for b, c in pairs)
    return (f"{statistics.median(ratios):6.1f} % of bare's writes per second "
            f"({ratios[0]:.1f} to {ratios[-1]:.1f})")


def bench(lab, label, options):
    module = build_module(label)
    vm = lab.vm(f"contention-{label}", kernel=label, smp=CPUS, mem=1536, timeout=5400)
    vm.start(timeout=900)
    print(f"\n{label} ({release(vm)}), {CPUS} CPUs that write 4 KiB at random at depth {DEPTH}, "
          f"null_blk; {options.rounds} rounds")
    guest = Contention(vm, module, options.count)
    for spread in (True, False):
        print(f"  {'a disk for each CPU' if spread else 'one disk for all'}")
        for name in CANDIDATES:
            try:
                print(f"    {name:20}{show(guest.compare(name, spread, options.rounds))}", flush=True)
            except GuestError as error:
                print(f"    {name:20}not measured: {' '.join(str(error).split())[-160:]}", flush=True)
    vm.power_off()
