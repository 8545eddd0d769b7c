# SPDX-License-Identifier: Apache-2.0
"""A pair of machines whose source boots from a tracked disk, through Debian's own initramfs, and keeps
its maps on a partition of that disk; its disks lose at a power cut what they had not flushed."""
import os
import re
import subprocess

from demo_machines import NINEP, share
from powercut import PowerCutDisk
from replication import HERE, SIZE, TOP, WWN_SOURCE, Pair, image

MIB = 1 << 20
MAP_CONFIG = {"source": {"map": "/dev/disk/by-partlabel/ebb-map"}}
BOOT_SECONDS = 1200  # with an initramfs that looks for everything, on a busy machine
# As a start of the machine has it, but for the daemon.
ENTER = f"""
set -e
modprobe -q ebb || true  # as the unit of ebbd does
modprobe -a 9pnet_virtio virtio_net tcp_diag; mkdir -p /ebb /out
mount -t 9p -o {NINEP},ro,cache=loose ebb /ebb; mount -t 9p -o {NINEP},cache=none out /out
ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0
ip link set eth1 up; ip addr add 10.0.2.15/24 dev eth1
"""
AREA = re.compile(r"^\S+ disk=(\d+) offset=(\d+) ", re.M)


def map_bytes(disk_bytes):
    """Of the map of a disk of less than 256 GiB (docs/map-format.md): what a slot has beyond is not used."""
    regions, blocks = -(-disk_bytes // MIB), -(-disk_bytes // 4096)
    return 4096 * (2 + 2 * -(-regions // 31744) + -(-blocks // 31680))


class RestartPair(Pair):
    """The source's disk 0 is its system, with the map partition; disk 1 is for data."""

    def __init__(self, lab, build, **more):
        maker = os.environ.get("EBB_RESTART_INITRAMFS", "initramfs-tools")
        made = subprocess.run([os.path.join(HERE, "restart_disk.sh"), "6.1", maker], check=True, text=True,
                              stdout=subprocess.PIPE, env={**os.environ, "BUILD": build})
        self.made = made.stdout.strip()
        system = os.path.join(self.made, "system.raw")
        self.sizes = (os.path.getsize(system), SIZE)
        self.wwn = WWN_SOURCE  # of the source's disks, less the number
        super().__init__(lab, build, target_sizes=self.sizes, **more)

    def make_source(self, net):
        with open(os.path.join(self.made, "uuid"), encoding="ascii") as file:
            root = file.read().strip()
        self.source = self.lab.vm(
            "source", root="kernel", initrd=os.path.join(self.made, "initrd"), mem=768, smp=2,
            timeout=3600, append=f"root=UUID={root} rw ebb.udev=1",
            qemu=share("ebb", TOP, True) + share("out", self.folders["source-out"], False))
        system, data = (os.path.join(self.lab.folder, f"source{n}.raw") for n in range(2))
        subprocess.run(["cp", "--sparse=always", os.path.join(self.made, "system.raw"), system],
                       check=True)
        image(data, SIZE)
        self.source_images = [system, data]
        self.source_disks = [PowerCutDisk(path, self.lab.sockets) for path in self.source_images]
        for number, disk in enumerate(self.source_disks):
            self.source.disk("nbd:" + disk.socket, "virtio-scsi", wwn=WWN_SOURCE + number + 1)
        self.source.net(net)
        self.source.user_net(guestfwd=[(8443, self.controller_port)])

    def source_id(self, number):
        return f"naa.{self.wwn + number + 1:x}"

    def enter(self):
        self.source.run(ENTER)

    def start(self):
        self.target.start(wait=False)
        self.source.start(timeout=BOOT_SECONDS)
        self.enter()
        self.begin_control(source_more=MAP_CONFIG)

    # -- what happens to the source --------------------------------------------------------------
    def stop_daemon(self):
        self.source.run("kill $(pidof ebbd); while pidof ebbd; do :; done", 60)

    def reboot(self, between=None):
        """In order; what its disks had in their caches is lost all the same."""
        self.source.halt()
        lost = self.lose(1)
        self.begin_again(between)
        return lost

    def cut(self, seed, between=None):
        self.source.power_cut()
        lost = self.lose(seed)
        self.begin_again(between)
        return lost

    def lose(self, seed):
        return sum(disk.cut("tear", seed)["lost"] for disk in self.source_disks)

    def begin_again(self, between):
        """`between`: what is done to the disks' images while the machine is off."""
        if between:
            for disk in self.source_disks:
                disk.close()
            between()
            for disk in self.source_disks:
                disk.open()
        self.source.start(timeout=BOOT_SECONDS)
        self.enter()

    def dev(self, number):
        return f"/dev/disk/by-id/wwn-0x{self.wwn + number + 1:x}"

    def write(self, number, offset_mib, mib):
        """Content that does not compress, on the data disk or in a file of the system's."""
        where = f"{self.dev(1)} oflag=direct seek={offset_mib}" if number else "/srv/file oflag=append"
        device, *words = where.split()
        self.source.run(f"dd if=/dev/urandom of={device} bs=1M count={mib} conv=notrunc "
                        f"{' '.join(words)} status=none && sync")

    def give_ids(self, wwn):
        """The source's disks have others from its next start on."""
        self.wwn = wwn
        for number, disk in enumerate(self.source.disks):
            disk.wwn = wwn + number + 1

    def new_initramfs(self):
        """As its administrator makes it; the next start is by that one."""
        self.source.run("update-initramfs -u -k $(uname -r) && cp /boot/initrd.img-$(uname -r) /out/initrd",
                        1800)
        self.source.initrd = os.path.join(self.folders["source-out"], "initrd")

    def attach_log(self):
        """What the initramfs said of this boot's attaches."""
        return self.source.run("dmesg | grep 'ebb-attach: ' || true").output

    def areas(self):
        """Ranges of the system disk that hold the module's maps: not tracked."""
        listed = self.source.run("ebb-attach --list; cat /sys/class/block/sd*[0-9]/uevent /dev/null; "
                                 "grep -H . /sys/class/block/sd*/start").output
        start = int(re.search(r"sd[a-z]2/start:(\d+)", listed).group(1)) * 512
        return [(start + int(offset), map_bytes(int(size))) for size, offset in AREA.findall(listed)]

    def health(self):
        """Every sentence of `ebbctl` about the source, with its remedy."""
        return str(self.control.protection("source"))

    def checkpoint(self, what):
        self.control.job("checkpoint", "source", "--name", re.sub("[^a-z]+", "-", what))

    # -- judging -------------------------------------------------------------------------------
    def compare(self, tally, what):
        """At rest: a last cut, and both disks of both sides are the same on their media."""
        # `sync` alone, and BLKFLSBUF, leave in a disk's cache what went to the device itself.
        # It is busy while a file is open for writing: the daemon, at each cut, writes its state.
        self.source.poll("sync; mount -o remount,ro /")
        self.source.run("for d in /dev/sd?; do blockdev --flushbufs $d && sync -d $d; done", 120)
        self.checkpoint(what)
        unflushed = [disk.stats()["unflushed"] for disk in self.source_disks]
        tally.check(f"{what}: the source's disks are on their media", unflushed == [0, 0],
                    f"{unflushed} sectors are not")
        holes = self.areas()
        for number in range(2):
            different = self.differences(self.source_images[number], self.disks[number].image,
                                         holes if number == 0 else [], self.sizes[number])
            tally.check(f"{what}: the replica of disk {number} is its disk", not different,
                        f"{len(different)} blocks, the first at {different[:8]}")
        self.source.run("mount -o remount,rw /")

    @staticmethod
    def differences(one, other, holes, size):
        """Blocks, but for those in the holes, where the second file must be zeroes."""
        different = []
        with open(one, "rb") as a, open(other, "rb") as b:
            for at in range(0, size, MIB):
                first, second = bytearray(a.read(MIB)), b.read(MIB)
                second = second[:len(first)]
                for start, length in holes:
                    low, high = max(start, at), min(start + length, at + MIB)
                    if low < high:
                        first[low - at:high - at] = bytes(high - low)
                if first == second:
                    continue
                different += [(at + i) // 4096 for i in range(0, len(first), 4096)
                              if first[i:i + 4096] != second[i:i + 4096]]
        return different

    def close(self):
        super().close()
        for disk in self.source_disks:
            disk.close()
