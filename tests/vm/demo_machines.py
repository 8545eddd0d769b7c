# SPDX-License-Identifier: Apache-2.0
"""The demonstration's three machines: the source in the cloud, the master target, and the machine
that comes home, which the controller starts."""
import os
import signal
import subprocess
import time

import demo_workload as workload
from guest import Guest
from machine import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
WWN_SOURCE, WWN_TARGET = 0x5000C2900000E000, 0x5000C2900000F000
AGENT_PORT = 8443  # inside the guests, at 10.0.2.100
NINEP = "trans=virtio,version=9p2000.L,msize=524288"
# From a disk up to its PCI device.
CONTROLLER = """
d=$(grep -l "%s" /sys/block/sd*/device/wwid); d=$(realpath ${d%%/wwid})
while [ ! -e $d/vendor ] || [ ! -e $d/class ]; do d=$(dirname $d); [ $d != / ] || exit 1; done
echo $(cat $d/vendor):$(cat $d/device) $(basename $(realpath $d/driver))
"""

# Of the build: what the source is given as by an installation, and all that the demonstration uses.
INSTALLED = ("ebbd", "ebb-freeze")
PROGRAMS = (*INSTALLED, "ebbctl", "stamper", "stampcheck")


def share(tag, path, readonly):
    return ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,"
            f"readonly={'on' if readonly else 'off'},multidevs=remap"]


class Machines:
    """Source and target are booted here; the home machine is only described."""

    def __init__(self, lab, story):
        self.home_pid_file = os.path.join(lab.folder, "home.pid")
        self.lab, self.story = lab, story
        self.out = os.path.join(lab.folder, "out")
        os.makedirs(self.out)
        self.controller_port = free_port()
        self.build = os.path.join(TOP, "build")
        net = lab.network()
        self.source = lab.vm("source", root="disk", mem=1024, smp=2, timeout=900,
                             qemu=share("ebb", TOP, True) + share("out", self.out, False))
        self._source_disks()
        self.source.net(net)
        self.source.user_net(guestfwd=[(AGENT_PORT, self.controller_port)])
        self.source.monitor(self.socket("source"))
        self.target = lab.vm("target", mem=1024, smp=2, udev=True, share=TOP, timeout=900,
                             modprobe=["xfs"])
        self._target_disks()
        self.target.net(net, "10.9.0.2/24")
        self.target.user_net(guestfwd=[(AGENT_PORT, self.controller_port)])
        self.target.monitor(self.socket("target"))
        self.home = None

    def socket(self, name):
        return os.path.join(self.lab.sockets, name + ".controller")

    def _source_disks(self):
        base = subprocess.check_output([os.path.join(HERE, "demo_disk.sh")], text=True).strip()
        system = os.path.join(self.lab.folder, "source-system.raw")
        subprocess.run(["cp", "--sparse=always", base, system], check=True)
        images = [system, self.lab.image("source-lvm.raw", "1G"),
                  self.lab.image("source-ext4.raw", "1G")]
        for number, image in enumerate(images):
            self.source.disk(image, "virtio-scsi", wwn=WWN_SOURCE + number + 1, boot=number == 0)

    def _target_disks(self):
        self.vmdks, self.replicas = [], []
        for number in range(3):
            path = self.lab.image(f"order-server-{number}.vmdk", "1G", "vmdk")
            self.vmdks.append(path)
            self.replicas.append(self.target.disk(
                path, "lsi", fmt="vmdk", wwn=WWN_TARGET + number + 1, node=f"replica{number}"))
        self.target.disk(self.lab.image("retention.raw", "2G"), "virtio-scsi", wwn=WWN_TARGET + 9)

    def boot(self):
        self.target.start(wait=False)
        self.source.start()
        self.source.run("modprobe -a 9pnet_virtio virtio_net; mkdir -p /ebb /out /usr/local/bin && "
                        f"mount -t 9p -o {NINEP},ro,cache=loose ebb /ebb && "
                        f"mount -t 9p -o {NINEP},cache=none out /out && "
                        "ip link set eth0 up && ip addr add 10.9.0.1/24 dev eth0 && "
                        "ip link set eth1 up && ip addr add 10.0.2.15/24 dev eth1")
        self._install()
        workload.prepare(self.source, f"{WWN_SOURCE + 2:x}", f"{WWN_SOURCE + 3:x}")
        self.target.wait_ready()
        self.target.run("d=$(grep -l 5000c2900000f009 /sys/block/sd*/device/wwid | cut -d/ -f4) && "
                        "mkfs.xfs -q /dev/$d && mkdir -p /mnt/retention && "
                        "mount /dev/$d /mnt/retention")
        self.story.say("booted: order-server from its own disk (XFS on LVM, ext4), and the master "
                       "target with empty VMDKs on lsi53c895a")

    def _install(self):
        """Ebb on the source, as an installation would: on its own system disk."""
        built = os.path.join(self.build, "kmod", "6.1")
        subprocess.run([os.path.join(TOP, "scripts/lab/kmod.sh"), "6.1",
                        os.path.join(TOP, "kmod"), built], check=True)
        for program in INSTALLED:
            subprocess.run(["strip", "-o", os.path.join(self.out, program),
                            os.path.join(self.build, program)], check=True)
        inside = "/ebb/" + os.path.relpath(os.path.join(built, "ebb.ko"), TOP)
        self.source.run(
            f"cp {inside} /lib/modules/$(uname -r)/ && depmod && cp {' '.join('/out/' + p for p in INSTALLED)} /usr/sbin/ && "
            "cp /ebb/build/tests/kmod/stamper /ebb/build/tests/kmod/stampcheck /usr/local/bin/ && "
            "cp /ebb/udev/*.rules /etc/udev/rules.d/ && udevadm control --reload && sync && "
            "modprobe ebb && echo 4000 >/sys/module/ebb/parameters/hold_deadline_ms")

    def pairs(self):
        words = []
        for number in range(3):
            words += ["--disk", f"naa.{WWN_SOURCE + number + 1:x}={self.home_id(number)}"]
        return words

    def source_clock(self):
        """How far the source's clock is ahead of this one's, in seconds: the quickest answer of a few."""
        best = None
        for _ in range(5):
            before = time.time()
            there = int(self.source.run("date +%s%N").output) / 1e9
            took = time.time() - before
            if best is None or took < best[0]:
                best = (took, there - before - took / 2)
        return best[1]

    def sent_bytes(self):
        """That left the source by the wire to the target, whatever they are."""
        return int(self.source.run("cat /sys/class/net/eth0/statistics/tx_bytes").output)

    def stamp_logs(self):
        return [os.path.join(self.out, f"stamps.{n}") for n in range(2)]

    def home_id(self, number):
        return f"naa.{WWN_TARGET + number + 1:x}"

    def vmdk_of(self, stable_id):
        return self.vmdks[[self.home_id(n) for n in range(3)].index(stable_id)]

    def provider(self):
        """The controller's view of the hypervisor."""
        delta = os.path.join(self.lab.folder, "delta")
        home = self.lab.vm("home", root="disk", mem=1024, smp=2,
                           qemu=share("ebb", TOP, True) + share("out", self.out, False))
        disks = []
        for number, vmdk in enumerate(self.vmdks):
            node = f"home{number}"
            home.disk(os.path.join(delta, node + ".qcow2"), "lsi", fmt="qcow2",
                      wwn=WWN_TARGET + number + 1, boot=number == 0, node=node)
            disks.append({"stable_id": self.home_id(number), "node": node, "file": vmdk,
                          "format": "vmdk"})
        home.monitor(self.socket("home"))
        pid_file = self.home_pid_file
        start = home.command_line() + ["-daemonize", "-pidfile", pid_file]
        self.home = home
        self.expect_home()
        replicas = [{"stable_id": self.home_id(n), "node": f"replica{n}", "file": v,
                     "format": "vmdk", "device": self.replicas[n].plug({"bus": "lsi0.0", "scsi-id": n})}
                    for n, v in enumerate(self.vmdks)]
        return {"machines": [
            {"name": "order-server", "qmp": self.socket("source")},
            {"name": "master-target", "qmp": self.socket("target"), "disks": replicas},
            {"name": "order-server-home", "qmp": self.socket("home"), "pid_file": pid_file,
             "start": start, "delta_folder": delta, "disks": disks}]}

    def expect_home(self):
        """The agent of the next machine that is started at home will be heard."""
        self.home.guest = Guest(self.home._path("agent"))

    def home_ready(self):
        self.home._started = time.monotonic()
        self.home.wait_ready(180)
        self.home.run("modprobe 9pnet_virtio; mkdir -p /ebb /out && "
                      f"mount -t 9p -o {NINEP},ro,cache=loose ebb /ebb && "
                      f"mount -t 9p -o {NINEP},cache=none out /out")

    def home_controllers(self):
        """Of each disk at home, as its kernel has it: PCI vendor and device, driver."""
        return [self.home.run(CONTROLLER % self.home_id(n)[4:]).output.strip() for n in range(3)]

    def home_root(self):
        """The wwid of the disk that the root file system at home is on."""
        return self.home.run("p=$(findmnt -no SOURCE /); p=${p##*/}; "
                             "cat /sys/class/block/$p/../device/wwid").output.strip()

    def leave_marks(self, name):
        """A block that is nowhere else, on each of the home machine's file systems."""
        marks = []
        for folder in ("/var/lib", "/srv/orders", "/srv/files"):
            marks.append(os.urandom(4096))
            self.home.run(f"cat >{folder}/{name} && sync", stdin=marks[-1])
        return marks

    def kill_home(self):
        """The controller started it, so the lab does not end it where the story breaks off."""
        try:
            with open(self.home_pid_file, encoding="ascii") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                if self.home_pid_file in file.read():
                    os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):  # it has not been started, or has ended
            pass

    def end(self):
        """Both machines are switched off in order; returns when they are."""
        with open(self.home_pid_file, encoding="ascii") as file:
            pid = int(file.read())
        self.home.run("sync; (sleep 1; busybox poweroff -f) >/dev/null 2>&1 &", check=False)
        self.target.power_off()
        end = time.monotonic() + 120
        while os.path.exists(f"/proc/{pid}/fd/0"):
            if time.monotonic() > end:
                raise TimeoutError("the machine that came home does not switch off")
            time.sleep(0.1)


