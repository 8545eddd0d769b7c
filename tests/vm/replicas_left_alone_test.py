#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replicas_left_alone_test.py [BUILD_DIR [--without-rule]]: a source whose disks are an LVM physical
volume and the two halves of an md mirror, and a target with Debian's own configuration of LVM and
mdadm, on which these disks could be activated and assembled at any moment. They are not: when ebbd ends, is killed, after
a power cut before ebbd runs, and by hand with the configuration that the documentation names; not a
byte of them changes. The target's own volume group comes up at each boot, so something does look;
and once the protection has been disabled, the same events do activate, assemble and write.
--without-rule: the same without udev's rule; it fails."""
import hashlib
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "scripts/lab"), HERE]
from demo_control import Control  # noqa: E402
from replication import Tally  # noqa: E402
from vm import Lab, free_port  # noqa: E402

WWN_SOURCE, WWN_TARGET = 0x5000C2900000A100, 0x5000C2900000B100
SIZE = "24M"
RETENTION, SYSTEM = WWN_TARGET + 4, WWN_TARGET + 5
HOME = "/var/lib/ebb"
RULE = "" if "--without-rule" in sys.argv else "/ebb/udev/60-ebb.rules"

SOURCE = """
set -e
cd /dev/disk/by-id
pv=/dev/disk/by-id/wwn-0x%(wwn)x1 first=/dev/disk/by-id/wwn-0x%(wwn)x2 second=/dev/disk/by-id/wwn-0x%(wwn)x3
modprobe -a dm_mod raid1
pvcreate -qq $pv
vgcreate -qq payroll $pv
lvcreate -qq -Wn -Zn -l 100%%FREE -n data payroll
mdadm --create /dev/md/books --run --metadata=1.2 --level=1 --raid-devices=2 --assume-clean \\
    --homehost=any $first $second
mkfs.ext4 -q /dev/payroll/data
mkfs.ext4 -q /dev/md/books
mkdir -p /mnt/data /mnt/books
mount /dev/payroll/data /mnt/data
mount /dev/md/books /mnt/books
"""
# So that nothing writes any more; what is replicated then is final.
AT_REST = """
set -e
for m in data books; do head -c 2000000 /dev/urandom >/mnt/$m/numbers; umount /mnt/$m; done
vgchange -qq -an payroll
mdadm --stop /dev/md/books
sync
"""
OWN = """
set -e
disk=/dev/disk/by-id/wwn-0x%(retention)x
pvcreate -qq $disk
vgcreate -qq own $disk
lvcreate -qq -Wn -Zn -l 100%%FREE -n retention own
mkfs.xfs -q /dev/own/retention
"""
# The configuration that docs/decisions/0301-replicas-and-lvm.md gives for what is done by hand.
BY_HAND = """
cat >/etc/lvm/lvmlocal.conf <<'END'
devices {
    global_filter = [ "a|^/dev/disk/by-id/|", "a|^/dev/disk/by-path/|", "a|^/dev/md/|", "r|.*|" ]
}
END
mkdir -p /etc/mdadm
echo 'DEVICE /dev/disk/by-id/* /dev/disk/by-path/*' >>/etc/mdadm/mdadm.conf
vgchange -ay
mdadm --assemble --scan
udevadm settle --timeout=60
vgs --noheadings -o vg_name
"""
# What initramfs-tools would do, and then md in that initramfs, for which every mark came too late.
INITRAMFS = """
set -e
export DESTDIR=/run/initramfs
mkdir -p $DESTDIR/etc/mdadm
cp /etc/mdadm/mdadm.conf $DESTDIR/etc/mdadm/
sh /ebb/packaging/initramfs-tools/ebb
cmp $DESTDIR/usr/lib/udev/rules.d/60-ebb.rules /ebb/udev/60-ebb.rules
diff -r $DESTDIR/etc/ebb/replicas /etc/ebb/replicas
[ $(ls $DESTDIR/etc/ebb/replicas | wc -l) = 3 ]
for name in %(names)s; do
    mdadm --incremental --config=$DESTDIR/etc/mdadm/mdadm.conf --offroot /dev/$name && exit 1
done
true
"""


class Target:
    """The target and the source, as much of replication.Pair as is wanted here."""

    def __init__(self, lab, build):
        self.lab, self.build = lab, build
        self.controller_port = free_port()
        net = lab.network()
        self.source = lab.vm("source", mem=512, smp=1, udev=True, timeout=900)
        self.sources = [lab.image(f"source{n}.raw", SIZE) for n in range(3)]
        for number, image in enumerate(self.sources):
            self.source.disk(image, "virtio-scsi", wwn=WWN_SOURCE + number + 1)
        self.vm = lab.vm("target", mem=512, smp=2, timeout=900, modprobe=["xfs"])
        self.replicas = [lab.image(f"replica{n}.raw", SIZE) for n in range(3)]
        for number, image in enumerate(self.replicas):
            self.vm.disk(image, "lsi", wwn=WWN_TARGET + number + 1)
        self.vm.disk(lab.image("retention.raw", "512M"), "virtio-scsi", wwn=RETENTION)
        self.vm.disk(lab.image("system.raw", "64M"), "virtio-scsi", wwn=SYSTEM)
        for vm, address in ((self.source, 1), (self.vm, 2)):
            vm.net(net, f"10.9.0.{address}/24")
            vm.user_net(guestfwd=[(8443, self.controller_port)])
        self.control = Control(lab, self)

    def provider(self):
        return None

    def inside(self, path):
        return "/ebb/" + os.path.relpath(path, TOP)

    def boot(self):
        """As far as the machine gets before its daemon starts."""
        self.vm.start()
        self.vm.run(f"sh /ebb/tests/vm/stock_guest.sh {SYSTEM:x} {RULE}")

    def mount(self):
        self.vm.poll("test -e /dev/own/retention")  # by event: nobody activates it by name
        self.vm.run("mkdir -p /mnt/retention && mount /dev/own/retention /mnt/retention")

    def protect(self):
        module = os.path.join(self.build, "kmod/6.1")
        subprocess.run([os.path.join(TOP, "scripts/lab/kmod.sh"), "6.1", os.path.join(TOP, "kmod"),
                        module], check=True)
        self.source.run(f"insmod {self.inside(module)}/ebb.ko && "
                        "echo 4000 >/sys/module/ebb/parameters/hold_deadline_ms")
        self.source.run(SOURCE % {"wwn": WWN_SOURCE >> 4})
        self.control.start()
        ebbd = self.inside(self.build) + "/ebbd"
        self.control.join(self.source, "source", "cloud", "source", ebbd)
        self.control.join(self.vm, "target", "home", "target", ebbd, folder=HOME + "/etc",
                          more={"state": HOME + "/state", "target": {"host": "10.9.0.2"}})
        pairs = []
        for number in range(1, 4):
            pairs += ["--disk", f"naa.{WWN_SOURCE + number:x}=naa.{WWN_TARGET + number:x}"]
        # Its filesystems are unmounted soon: that is refused while a point has them frozen.
        self.control.ctl("protect", "source", "--target", "target", "--interval", "2", "--app-interval", "0",
                         *pairs)
        self.until("the initial sync", lambda: self.protection()["state"] == "protected")

    def protection(self):
        return next(iter(self.control.state()["protections"]), {"state": "none"})

    def status(self):
        found = self.control.machine("target")["status"]["target"]["protections"]
        return found[0] if found else {"state": "none"}

    def until(self, what, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds} s; {self.protection()}, {self.status()}")
            time.sleep(0.2)

    def sums(self):
        """Of the replicas as they are: what was acknowledged to the guest is in the host's files."""
        return [digest(image) for image in self.replicas]

    def names(self):
        """Kernel names of the replicas."""
        return self.vm.run(
            f"for d in /sys/block/sd*; do grep -qiE '{WWN_TARGET >> 4:x}[123]$' $d/device/wwid && "
            "echo ${d##*/}; done; true").output.split()

    def stop_daemon(self, signal):
        self.vm.run(f"kill -{signal} $(pidof ebbd)")
        self.vm.poll("! pidof ebbd")


def digest(path):
    with open(path, "rb") as image:
        return hashlib.file_digest(image, "sha256").hexdigest()


def taken(target):
    """What holds a replica, and what udev says of it: "" if nobody does."""
    vm = target.vm
    vm.run("udevadm settle --timeout=60")
    said = ""
    for name in target.names():
        holders = vm.run(f"ls /sys/block/{name}/holders").output.split()
        if holders:
            said += f"{name} is held by {holders}; "
        links = vm.run(f"find /dev/disk -lname '*/{name}'").output.split()
        if links:
            said += f"{name} has links {links}; "
    for line in vm.run("cat /proc/mdstat; dmsetup ls; "
                       "lvs --noheadings --separator / -o vg_name,lv_name,lv_active").output.splitlines():
        if line.startswith("md") or line.startswith("payroll-") or "payroll/data/active" in line:
            said += line.strip() + "; "
    return said


def check(tally, target, what, before):
    wrong = taken(target)
    tally.check(f"{what}: nobody has taken a replica", not wrong, wrong)
    tally.check(f"{what}: not a byte of the replicas has changed", target.sums() == before)


def daemon_ends(tally, target, before):
    for signal, what in (("TERM", "ebbd has closed its disks"), ("KILL", "ebbd was killed")):
        target.stop_daemon(signal)
        check(tally, target, what, before)
        target.vm.run("udevadm trigger --action=change --subsystem-match=block; "
                      "udevadm trigger --action=add --subsystem-match=block")
        check(tally, target, what + ", all devices announced again", before)
        target.control.serve(target.vm)
        target.until("the target has its protection open", lambda: target.status()["state"] == "waiting")
        tally.say(what)


def power_fails(tally, target, before):
    target.vm.power_cut()
    target.boot()
    target.mount()
    names = target.names()
    tally.check("after a power cut: all replicas are there", len(names) == 3, names)
    check(tally, target, "after a power cut, before ebbd runs", before)
    by_hand = target.vm.run(BY_HAND, check=False).output
    tally.check("by hand: LVM sees its own group alone",
                by_hand.split()[-1] == "own" and "payroll" not in by_hand, by_hand)
    check(tally, target, "by hand", before)
    hook = target.vm.run(INITRAMFS % {"names": " ".join(names)}, check=False)
    tally.check("the initramfs has rule and marks, and assembles nothing", hook.status == 0, hook.output)
    check(tally, target, "as in the initramfs", before)
    target.vm.run("rm /etc/lvm/lvmlocal.conf; sed -i '/^DEVICE/d' /etc/mdadm/mdadm.conf")
    target.control.serve(target.vm)
    target.until("the target has its protection open", lambda: target.status()["state"] == "waiting")
    tally.say("after a power cut")


def given_up(tally, target, before):
    """The marks go, and with them the guard: the test would see it if there was none."""
    target.control.job("disable", "source")
    left = target.vm.run("ls /etc/ebb/replicas").output.split()
    tally.check("marks go with the protection", not left, left)
    target.vm.run("udevadm trigger --action=add --subsystem-match=block")
    target.vm.poll("test -e /dev/payroll/data && grep -q '^md.*active' /proc/mdstat", 60)
    tally.check("without marks replicas are taken", "payroll-data" in taken(target))
    target.vm.run("md=$(ls -d /sys/block/md*) && echo active >$md/md/array_state; sync")
    tally.check("without marks md writes to replicas", target.sums()[1:] != before[1:])


def main():
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build"))
    tally = Tally()
    with Lab("replicas-left-alone") as lab:
        target = Target(lab, build)
        try:
            target.vm.start(wait=False)
            target.source.start()
            target.vm.wait_ready()
            target.vm.run(f"sh /ebb/tests/vm/stock_guest.sh {SYSTEM:x} {RULE}")
            target.vm.run(OWN % {"retention": RETENTION})
            target.mount()
            target.protect()
            target.source.run(AT_REST)
            target.control.ctl("interval", "source", "0")
            target.control.job("checkpoint", "source", "--name", "at-rest")
            before = target.sums()
            tally.check("the replicas are the source's disks",
                        before == [digest(image) for image in target.sources])
            tally.say("replicated: a physical volume and a mirror")
            daemon_ends(tally, target, before)
            power_fails(tally, target, before)
            given_up(tally, target, before)
        finally:
            target.source.power_cut()
            target.vm.power_cut()
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
