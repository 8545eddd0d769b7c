# SPDX-License-Identifier: Apache-2.0
"""What the demonstration's machine does for a living, and how one sees later that none of it was
lost: fio with verification on both data disks, and the stamping writer over all three, whose log is
written outside the machine, record by record."""
import struct

TOOLS = "/usr/local/bin"
# Region of the stamping writer on each disk: disk number, file, MiB
STAMPS = [(0, "/var/lib/stamps", 8), (1, "/srv/orders/stamps", 8), (2, "/srv/files/stamps", 8)]
FIO = [("orders", "/srv/orders/fio", 24), ("files", "/srv/files/fio", 24)]
# A crash-consistent cut may hold any part of what fio had under way: a block is written whole or
# not at all only where nothing can split it, so one write is one block.
FIO_OPTIONS = "--bs=4k --direct=1 --verify=crc32c --randrepeat=0 --ioengine=libaio"

PREPARE = """
set -e
modprobe -a xfs dm_mod
dev() { for d in /sys/block/sd*; do grep -q "$1" $d/device/wwid && echo /dev/${d##*/}; done; }
pvcreate -q $(dev %(lvm)s) && vgcreate -q data $(dev %(lvm)s)
lvcreate -q -y -Wn -L960m -n orders data
mkfs.xfs -q -K /dev/data/orders
mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 $(dev %(ext4)s)
printf 'UUID=%%s /srv/orders xfs defaults 0 0\\n' $(blkid -s UUID -o value /dev/data/orders) >>/etc/fstab
printf 'UUID=%%s /srv/files ext4 defaults 0 2\\n' $(blkid -s UUID -o value $(dev %(ext4)s)) >>/etc/fstab
mount -a
"""


def prepare(vm, lvm, ext4):
    """Makes the data volumes and the files that are written to later, so that their blocks' places
    do not change any more."""
    vm.run(PREPARE % {"lvm": lvm, "ext4": ext4})
    for _, path, mib in STAMPS:
        vm.run(f"dd if=/dev/zero of={path} bs=1M count={mib} conv=fsync status=none")
    for name, path, mib in FIO:
        vm.run(f"fio --name={name} --filename={path} --size={mib}m --rw=write --do_verify=0 "
               f"{FIO_OPTIONS} --iodepth=16 --end_fsync=1 --output=/run/fio-{name}.layout")
    vm.run("sync")


class Workload:
    """Runs until the machine does not. fio verifies what it wrote as it goes."""

    def __init__(self, vm, log, stamp_rate, fio_rate):
        self.vm, self.log = vm, log
        disks = " ".join(f"--disk {path}" for _, path, _ in STAMPS)
        self.stamper = vm.spawn(
            f"{TOOLS}/stamper {disks} --writers 2 --engine direct --rate {stamp_rate} "
            f"--log {log} --log-each --tickets /dev/shm/tickets")
        self.fio = [vm.spawn(
            f"fio --name={name} --filename={path} --size={mib}m --rw=randwrite --time_based "
            f"--runtime=3600 --rate_iops={fio_rate} --iodepth=4 --verify_backlog=32 "
            f"--verify_fatal=1 {FIO_OPTIONS} --output=/run/fio-{name}.out")
            for name, path, mib in FIO]
        vm.poll("test -s /dev/shm/tickets")

    def jobs(self):
        return [self.stamper, *self.fio]

    def running(self):
        return all(job.running() for job in self.jobs())

    def account(self):
        """What jobs that ended had to say."""
        return "\n".join(job.output[-1000:] for job in self.jobs() if not job.running())

    def ticket(self):
        """The stamping writer's counter now."""
        raw = self.vm.run("od -An -t u8 -N 8 /dev/shm/tickets").output
        return int(raw.split()[0])


def write_cut(path, asked, granted):
    """A log with one cut, number 1, as stampcheck reads it (tests/kmod/lib/stamp.h)."""
    with open(path, "wb") as out:
        for kind, ticket in ((3, asked), (4, granted)):
            out.write(struct.pack("<IIIIQQQQ", kind, 0, 0, 0, 0, 1, ticket, 0))


FSCK = """
dev() { for d in /sys/block/sd*; do grep -q "$1" $d/device/wwid && echo /dev/${d##*/}; done; }
set -e
umount /srv/orders /srv/files
xfs_repair -n /dev/data/orders
e2fsck -fn $(dev %(ext4)s)
mount -o remount,ro /
e2fsck -fn $(findmnt -no SOURCE /)
mount -o remount,rw /
mount -a
"""


def check(vm, logs, cut, ext4):
    """Inside the machine that came home: list of (what, whether, words)."""
    results = []

    def look(what, command, timeout=300):
        done = vm.run(command, timeout, check=False)
        results.append((what, done.status == 0, done.output.strip()))

    look("volumes found and mounted at boot", "cat /run/volumes.log; grep -q 'mount -a: 0' "
         "/run/volumes.log && mountpoint /srv/orders && mountpoint /srv/files")
    images = " ".join(f"--image {disk}={path}" for disk, path, _ in STAMPS)
    look("stamps: all acknowledged writes, nothing without its predecessors",
         f"{TOOLS}/stampcheck --log {logs}.0 --log {logs}.1 {images} --cuts {cut} --cut 1")
    for name, path, mib in FIO:
        look(f"fio's data on {name}", f"fio --name={name} --filename={path} --size={mib}m --rw=read "
             f"{FIO_OPTIONS} --iodepth=16 --verify_fatal=1 --output=/run/fio.out; s=$?; "
             "grep -E 'verify|err=' /run/fio.out; exit $s")
    look("file systems clean (xfs_repair -n, e2fsck -fn)", FSCK % {"ext4": ext4})
    return results
