#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""boots_test.py [BUILD_DIR]: the system of a source, whose root disk is protected, boots from a served
point, as `test-failover` starts it, while replication goes on: it is as of the cut, what it writes
stays its own, and one command leaves nothing."""
import hashlib
import os
import sys
import time

from replication import test
from guest import Guest  # of scripts/lab, whose place the line above knows
from restart import BOOT_SECONDS, RestartPair
from vm import free_port

NAMED = "before-upgrade"


class BootsPair(RestartPair):
    """The hypervisor knows one more machine, made as the source is, on overlays above a point."""

    def __init__(self, lab, build):
        self.test = None
        super().__init__(lab, build, nbd_port=free_port())

    def path(self, name):
        return os.path.join(self.lab.folder, name)

    def provider(self):
        with open(os.path.join(self.made, "uuid"), encoding="ascii") as file:
            root = file.read().strip()
        self.test = self.lab.vm(
            "source-test", root="kernel", initrd=os.path.join(self.made, "initrd"), mem=768, smp=2,
            append=f"root=UUID={root} rw ebb.udev=1", qemu=["-nic", "none"])
        disks = []
        for number in range(2):
            node = f"test{number}"
            self.test.disk(self.path(f"overlays/{node}.qcow2"), "virtio-scsi", fmt="qcow2", node=node,
                           wwn=int(self.target_id(number)[4:], 16), boot=number == 0)
            disks.append({"stable_id": self.target_id(number), "node": node, "file": "/nowhere",
                          "format": "raw"})
        self.test.monitor(self.path_of_monitor())
        start = self.test.command_line() + ["-daemonize", "-pidfile", self.path("test.pid")]
        self.test.guest = Guest(os.path.join(self.lab.sockets, "source-test.agent"))
        return {"machines": [{"name": "source-test", "qmp": self.path_of_monitor(),
                              "pid_file": self.path("test.pid"), "start": start,
                              "delta_folder": self.path("overlays"), "disks": disks}]}

    def path_of_monitor(self):
        return os.path.join(self.lab.sockets, "test.controller")

    def booted(self):
        """The test machine's agent answers."""
        self.test._started = time.monotonic()
        self.test.wait_ready(BOOT_SECONDS)
        return self.test

    def test_pid(self):
        try:
            with open(self.path("test.pid"), encoding="ascii") as file:
                pid = int(file.read())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return None

    def close(self):
        if self.test_pid() is not None:
            os.kill(self.test_pid(), 9)
        super().close()


def begin(pair, tally):
    pair.protect()
    tally.say("protected; initial sync is done")


def digest(vm, path):
    return vm.run(f"sha256sum {path}").output.split()[0]


def boots(pair, tally):
    content = os.urandom(1 << 20)
    pair.source.run("cat >/srv/ledger && sync", stdin=content)
    pair.control.job("checkpoint", "source", "--name", NAMED)
    pair.source.run("echo changed >/srv/ledger; echo later >/srv/later; sync")
    pair.control.job("checkpoint", "source", "--name", "after")
    before = pair.source_status()["closed_epoch"]
    begun = time.monotonic()
    pair.control.job("test-failover", "source", "--point", NAMED)
    vm = pair.booted()
    tally.say(f"the system of the point has booted after {time.monotonic() - begun:.0f} s")
    root = vm.run("d=$(awk '$2 == \"/\" {print $1}' /proc/mounts); d=$(realpath $d); "
                  "cat /sys/class/block/${d##*/}/../device/wwid").output.strip()
    tally.check("its root is on the first disk of the point", root == pair.target_id(0), root)
    tally.check("a file is as it was at the cut",
                digest(vm, "/srv/ledger") == hashlib.sha256(content).hexdigest())
    tally.check("what came later is not there", vm.run("! test -e /srv/later", check=False).status == 0)
    tally.check("its filesystem is writable", vm.run("echo own >/srv/own && sync", check=False).status == 0)
    network = vm.run("ls /sys/class/net").output.split()
    tally.check("it has no network", network == ["lo"], network)
    pair.until("epochs close meanwhile", lambda: pair.source_status()["closed_epoch"] > before + 1)
    complaints = vm.complaints()
    tally.check("its kernel does not complain", not complaints, complaints)
    pair.control.job("test-failover", "source", "--clean")
    tally.check("one command leaves nothing", pair.test_pid() is None and
                not pair.target_status().get("served") and not os.listdir(pair.path("overlays")))
    tally.check("the source has nothing of it", pair.source.run("! test -e /srv/own", check=False).status == 0)
    pair.compare(tally, "after a test failover")


if __name__ == "__main__":
    sys.exit(test("boots", [boots], begin=begin, make=BootsPair, end=lambda pair, tally: None))
