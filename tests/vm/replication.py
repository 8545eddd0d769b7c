# SPDX-License-Identifier: Apache-2.0
"""Two machines that replicate, for tests of what may break: ebbd on both sides over TLS, the module
on the source, the stamping writer on its two disks; all disks of the target lose at a power cut what
they had not flushed."""
import bisect
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "scripts/lab"), os.path.join(HERE, "lib")]
from demo_control import Control  # noqa: E402
from demo_workload import write_cut  # noqa: E402
from powercut import PowerCutDisk  # noqa: E402
from vm import Lab, free_port  # noqa: E402

__all__ = ["HERE", "Pair", "Tally", "TOP", "PORT", "SIZE", "WWN_SOURCE", "image", "test"]

WWN_SOURCE, WWN_TARGET = 0x5000C2900000A000, 0x5000C2900000B000
PORT = 9443  # of the target's data
SIZE = 64 << 20
BLOCK = 4096
STAMPED = (1024, 6144)  # first block and number of blocks of the stamping writer, on each disk
# The emulated LSI controller loses some when many are queued on two disks at once: minutes until they are aborted.
ONE_COMMAND = "sym53c8xx.cmd_per_lun=1"
HOME = "/var/lib/ebb"  # on the target: a disk of its own, since its root is gone at each start

# As a start of the machine has it: volumes mounted, then the daemon. What is on a disk was brought there by whoever
# wrote it: the kernel's own writing back, which would hide a flush that was left out, comes too late for a test.
MOUNT = """
set -e
sysctl -q vm.dirty_expire_centisecs=360000 vm.dirty_writeback_centisecs=360000
dev() { for d in /sys/block/sd*; do grep -qi "$1" $d/device/wwid && echo /dev/${d##*/}; done; }
mkdir -p /mnt/retention %(home)s
mount $(dev %(retention)x) /mnt/retention
mount $(dev %(system)x) %(home)s
"""
# XFS: the superblock of ext4 has two sectors, one of which a power cut may take alone.
FORMAT = """
set -e
dev() { for d in /sys/block/sd*; do grep -qi "$1" $d/device/wwid && echo /dev/${d##*/}; done; }
mkfs.xfs -q $(dev %(retention)x)
mkfs.xfs -q $(dev %(system)x)
"""
# Pairs of time and counter: the counter is read after the time.
TICKETS = """
import time
log = open("/out/tickets", "w", buffering=1)
counter = open("/dev/shm/tickets", "rb", buffering=0)
while True:
    now = time.time_ns()
    counter.seek(0)
    log.write("%d %d\\n" % (now, int.from_bytes(counter.read(8), "little")))
    time.sleep(0.1)
"""


class Tally:
    """Counts checks and tells of those that fail."""

    def __init__(self):
        self.begun = time.monotonic()
        self.passed = self.failed = 0

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:5.0f} s] {text}", flush=True)

    def check(self, what, good, words=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            self.say(f"FAIL {what}: {words}")
        return good

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def image(path, size):
    """Content that does not compress, so that what is sent can be told by its size; where stamps
    go there is nothing yet."""
    with open(path, "wb") as out:
        out.write(os.urandom(STAMPED[0] * BLOCK))
        out.seek(STAMPED[1] * BLOCK, os.SEEK_CUR)
        out.write(os.urandom(size - out.tell()))


class Pair:
    """`target_sizes`: of the target's disks, and how many there are. `nbd_port`: of this machine, at
    which what the target serves can be read. `retention_bytes`: of the volume."""

    def __init__(self, lab, build, target_sizes=(SIZE, SIZE), nbd_port=None, retention_bytes=1 << 30):
        self.target_settings = {"host": "10.9.0.2"}
        if nbd_port:
            self.target_settings["nbd"] = {"address": "0.0.0.0", "port": nbd_port,
                                           "host": "127.0.0.1"}
        self.lab, self.build = lab, build
        self.controller_port = free_port()
        self.folders = {name: os.path.join(lab.folder, name) for name in ("source-out", "target-out")}
        for folder in self.folders.values():
            os.makedirs(folder)
        net = lab.network()
        self.make_source(net)
        self.target = lab.vm("target", mem=768, smp=2, udev=True, timeout=3600,
                             out=self.folders["target-out"], modprobe=["xfs", "tcp_diag"],
                             append=ONE_COMMAND)
        self.disks = []  # replicas in order, then retention, then the target's own
        for number, size in enumerate((*target_sizes, retention_bytes, 320 << 20)):
            image = lab.image(f"target{number}.raw", str(size))
            disk = PowerCutDisk(image, lab.sockets)
            self.disks.append(disk)
            bus = "lsi" if number < len(target_sizes) else "virtio-scsi"
            self.target.disk("nbd:" + disk.socket, bus, wwn=WWN_TARGET + number + 1)
        self.target.net(net, "10.9.0.2/24")
        self.target.user_net(guestfwd=[(8443, self.controller_port)],
                             hostfwd=[(nbd_port, nbd_port)] if nbd_port else ())
        self.replicas = len(target_sizes)
        self.values = {"home": HOME, "retention": WWN_TARGET + self.replicas + 1,
                       "system": WWN_TARGET + self.replicas + 2}
        self.control = Control(lab, self)
        self.stamper = self.tickets = None
        self.protection_id = None
        self.first_reasons = []  # for which everything was sent at first
        self.taken_back = 0  # bytes of replicas that were found half written

    def make_source(self, net):
        self.source = self.lab.vm("source", mem=768, smp=2, udev=True, timeout=3600,
                             out=self.folders["source-out"], modprobe=["tcp_diag"])
        self.source_images = []
        for number in range(2):
            path = os.path.join(self.lab.folder, f"source{number}.raw")
            image(path, SIZE)
            self.source_images.append(path)
            self.source.disk(path, "virtio-scsi", wwn=WWN_SOURCE + number + 1)
        self.source.net(net, "10.9.0.1/24")
        self.source.user_net(guestfwd=[(8443, self.controller_port)])

    def provider(self):
        return None

    # -- machines ------------------------------------------------------------------------------
    def start(self):
        self.target.start(wait=False)
        self.source.start()
        module = os.path.join(self.build, "kmod/6.1")
        subprocess.run([os.path.join(TOP, "scripts/lab/kmod.sh"), "6.1", os.path.join(TOP, "kmod"),
                        module], check=True)
        self.source.run(f"insmod {self.inside(module)}/ebb.ko && "
                        "echo 4000 >/sys/module/ebb/parameters/hold_deadline_ms")
        self.begin_control()

    def begin_control(self, source_more=None):
        """Controller and daemons, on machines that are up. `source_more`: of the configuration."""
        self.target.wait_ready()
        self.target.run(FORMAT % self.values + MOUNT % self.values)
        self.control.start()
        ebbd = self.inside(self.build) + "/ebbd"
        self.control.join(self.source, "source", "cloud", "source", ebbd, more=source_more)
        self.control.join(self.target, "target", "home", "target", ebbd, folder=HOME + "/etc",
                          more={"state": HOME + "/state", "target": self.target_settings})

    def inside(self, path):
        """A path of the project's tree as the guests see it."""
        return "/ebb/" + os.path.relpath(path, TOP)

    def source_id(self, number):
        return f"naa.{WWN_SOURCE + number + 1:x}"

    def target_id(self, number):
        return f"naa.{WWN_TARGET + number + 1:x}"

    def pairs(self, targets=(0, 1)):
        words = []
        for number, target in enumerate(targets):
            words += ["--disk", f"{self.source_id(number)}={self.target_id(target)}"]
        return words

    def begin_protect(self, interval=2, targets=(0, 1)):
        self.control.ctl("protect", "source", "--target", "target", "--interval", str(interval),
                         *self.pairs(targets))
        self.until("the source has begun",
                   lambda: self.control.machine("source")["status"]["source"]["protections"])
        self.protection_id = self.control.protection("source")["id"]

    def until_protected(self, seconds=600):
        self.until("the initial sync", lambda: self.control.protection("source")["state"] ==
                   "protected", seconds)
        self.first_reasons = self.source_status()["resync_required"]

    def protect(self, **how):
        self.begin_protect(**how)
        self.until_protected()

    def load(self, rate=150):
        """The stamping writer on both disks, its log outside of the machine."""
        disks = " ".join(f"--disk /dev/disk/by-id/wwn-0x{WWN_SOURCE + n + 1:x}@{STAMPED[0]}+{STAMPED[1]}"
                         for n in range(2))
        self.stamper = self.source.spawn(
            f"exec {self.inside(self.build)}/tests/kmod/stamper {disks} --writers 2 --engine direct "
            f"--rate {rate} --log /out/stamps --log-each --tickets /dev/shm/tickets")
        self.source.poll("test -s /dev/shm/tickets")
        self.tickets = self.source.spawn("exec python3 -", stdin=TICKETS)

    def rest(self):
        """The load ends; what it wrote is on the disks."""
        self.stamper.kill(15)
        return self.stamper.wait(60, check=False)

    def kill_daemon(self, vm):
        vm.run("kill -9 $(pidof ebbd)")
        vm.poll("! pidof ebbd")

    def start_daemon(self, vm):
        self.control.serve(vm)

    def power_cut(self, seed, how="tear"):
        """Of the target, which may be dead already. Starts it again, without its daemon."""
        self.target.power_cut()
        lost = sum(disk.cut(how, seed)["lost"] for disk in self.disks)
        self.target.start()
        self.target.run(MOUNT % self.values)
        return lost

    def replicating(self):
        """Waits for it; account() of that moment."""
        self.until("a source that replicates",
                   lambda: self.source_status()["state"] == "replicating" and
                   self.source_status()["closed_epoch"])
        return self.account()

    # -- what is seen --------------------------------------------------------------------------
    def source_status(self):
        return self.control.machine("source")["status"]["source"]["protections"][0]

    def target_status(self):
        return self.control.machine("target")["status"]["target"]["protections"][0]

    def sent_bytes(self):
        """That left the source, of whatever protocol."""
        return int(self.source.run("cat /sys/class/net/eth0/statistics/tx_bytes").output)

    def account(self):
        """Bytes sent up to now, and bytes that the stamping writer has written."""
        records = sum(os.path.getsize(os.path.join(self.folders["source-out"], f"stamps.{n}")) // 48
                      for n in range(2))
        return self.sent_bytes(), records // 2 * BLOCK

    def until(self, what, condition, seconds=300):
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds} s; source {self.source_status()}, "
                                   f"target {self.target_status()}")
            time.sleep(0.2)

    # -- judging -------------------------------------------------------------------------------
    def copy_replica(self):
        """What the target's disks and its retention volume hold, while no daemon runs there: images
        by the source's disk, named by their index."""
        pairs = self.control.protection("source")["disks"]
        disks = " ".join(f"{p['index']}:/dev/disk/by-id/wwn-0x{p['target_id'][4:]}" for p in pairs)
        self.target.run(
            "set -e; sync; rm -rf /out/copy; mkdir /out/copy; "
            f"for d in {disks}; do dd if=${{d#*:}} of=/out/copy/${{d%%:*}}.raw bs=1M iflag=direct "
            f"conv=sparse status=none; done; cp -r /mnt/retention/{self.protection_id} "
            "/out/copy/retention")
        copy = os.path.join(self.folders["target-out"], "copy")
        return {p["source_id"]: os.path.join(copy, f"{p['index']}.raw") for p in pairs}

    def newest_point(self, images):
        """Takes a copy back to its newest point."""
        return self.point_of(images)

    def point_of(self, images, epoch=0):
        """Takes a copy to a point: {"epoch", "cut_time_ns", "rolled_back_bytes", "points"}."""
        in_order = sorted(images.values())
        done = subprocess.run([os.path.join(self.build, "tests/vm/replica_point"),
                               *(["--epoch", str(epoch)] if epoch else []), os.path.join(os.path.dirname(in_order[0]), "retention"), *in_order],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError("replica_point: " + done.stdout)
        return json.loads(done.stdout)

    def window(self, cut_time_ns):
        """The stamping writer's counter before and after a moment of the source's clock."""
        path = os.path.join(self.folders["source-out"], "tickets")

        def read():
            with open(path, encoding="ascii") as log:
                pairs = [tuple(map(int, line.split())) for line in log if line.endswith("\n")]
            return pairs if pairs and pairs[-1][0] > cut_time_ns else None

        pairs = self.until("tickets after the cut", read)
        after = bisect.bisect_right([moment for moment, _ in pairs], cut_time_ns)
        # A counter is read after its time, and before the next.
        return (pairs[after - 2][1] if after >= 2 else 0), pairs[after][1]

    def stamps(self, images, cut_time_ns):
        """Whether images hold that cut: "" or what is wrong."""
        cut = os.path.join(self.lab.folder, "cut")
        write_cut(cut, *self.window(cut_time_ns))
        out = self.folders["source-out"]
        command = [os.path.join(self.build, "tests/kmod/stampcheck"), "--log", out + "/stamps.0",
                   "--log", out + "/stamps.1", "--cuts", cut, "--cut", "1"]
        for number in range(2):
            command += ["--image", f"{number}={images[self.source_id(number)]}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return "" if done.returncode == 0 else done.stdout[-1500:]

    def check_point(self, tally, what, known):
        """The replica, as it is found, can be taken to a complete point, not older than `known`,
        which the source was told of."""
        images = self.copy_replica()
        point = self.newest_point(images)
        tally.check(f"{what}: the newest point is not older than what was acknowledged",
                    point["epoch"] >= known, f"{point}, acknowledged {known}")
        wrong = self.stamps(images, point["cut_time_ns"])
        tally.check(f"{what}: stamps of the newest point", not wrong, wrong)
        return point

    def check_goes_on(self, tally, what, before):
        """By delta, and to a new point. `before`: account() when all was well."""
        job = self.control.job("checkpoint", "source", "--name", re.sub("[^a-z]+", "-", what))
        status = self.source_status()
        sent, written = (now - then for now, then in zip(self.account(), before))
        # What was on the way is sent again; all of the disks would be 80 MiB more.
        tally.check(f"{what}: the source goes on by delta", sent < 2 * written + SIZE // 2,
                    f"{sent} bytes were sent, {written} written; {status}")
        tally.check(f"{what}: no new reason for a full resync",
                    status["resync_required"] in ([], self.first_reasons), status["resync_required"])
        return job["value"]["epoch"]

    def check_found(self, tally, what, before, lost=""):
        """What a target whose daemon is dead was left with, and that all goes on from it."""
        point = self.check_point(tally, what, self.source_status()["closed_epoch"])
        self.taken_back += point["rolled_back_bytes"]
        self.start_daemon(self.target)
        epoch = self.check_goes_on(tally, what, before)
        tally.check(f"{what}: epochs go on", epoch > point["epoch"], f"{epoch}, {point}")
        tally.say(f"{what}: {lost}{point['rolled_back_bytes']} bytes taken back to epoch "
                  f"{point['epoch']}; epoch {epoch} has followed")

    def check_equal(self, tally):
        """At the end: the load stops, a last cut, and all disks are the same, byte by byte."""
        self.control.ctl("interval", "source", "0")
        done = self.rest()
        tally.check("the stamping writer never failed", done.status == 0, done.output)
        epoch = self.control.job("checkpoint", "source", "--name", "final", "--export",
                                 "/out")["value"]["epoch"]
        out = self.folders["source-out"]
        with open(os.path.join(out, self.protection_id + ".json"), encoding="ascii") as account:
            copies = {disk["stable_id"]: os.path.join(out, os.path.basename(disk["file"]))
                      for disk in json.load(account)["disks"]}
        self.target.run("kill $(pidof ebbd)", check=False)
        self.target.poll("! pidof ebbd")
        self.target.power_off()
        self.source.power_off()
        for disk in self.disks:
            disk.close()
        pairs = self.control.protection("source")["disks"]
        for pair in pairs:
            number = int(pair["source_id"][-1], 16) - 1
            replica = self.disks[int(pair["target_id"][-1], 16) - 1].image
            copy = copies[pair["source_id"]]
            tally.check(f"disk {number}: the source's copy of cut {epoch} is its disk",
                        filecmp.cmp(copy, self.source_images[number], shallow=False))
            self.fit(replica)
            tally.check(f"disk {number}: the target's is equal to the copy",
                        filecmp.cmp(copy, replica, shallow=False), f"{copy} {replica}")

    def fit(self, replica):
        """A target's disk may be larger than the source's: the rest does not count."""
        if os.path.getsize(replica) > SIZE:
            shutil.copyfile(replica, replica + ".all")
            os.truncate(replica, SIZE)

    def close(self):
        self.source.power_cut()
        self.target.power_cut()  # a disk waits for its clients
        for disk in self.disks:
            disk.close()


def begin(pair, tally):
    pair.load()
    pair.protect()
    tally.say("protected; initial sync is done")


def test(name, events, begin=begin, make=Pair, end=Pair.check_equal):
    """The main function of a test: `events`, functions of pair and tally, happen to a pair that is
    under load and replicates since `begin`; then the load ends and all disks are compared."""
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build"))
    tally = Tally()
    with Lab(name) as lab:
        pair = make(lab, build)
        try:
            pair.start()
            begin(pair, tally)
            for event in events:
                event(pair, tally)
            end(pair, tally)
        finally:
            pair.close()
    return tally.end()
