#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""serve_test.py [BUILD_DIR]: points are read over NBD, and run, while replication goes on: each is the
source's copy of its cut, nobody's writes reach the replica, and one command leaves nothing."""
import filecmp
import json
import os
import subprocess
import sys
import time

from replication import BLOCK, SIZE, STAMPED, Pair, test
from qmp import Qmp  # of scripts/lab, whose place the line above knows
from vm import free_port

MARK = STAMPED[0] * BLOCK - 64 * BLOCK  # of the change that bisect looks for: nobody else writes there
POINTS = 6


class ServingPair(Pair):
    """The hypervisor knows one more machine, for test failovers."""

    def __init__(self, lab, build):
        super().__init__(lab, build, nbd_port=free_port())

    def path(self, name):
        return os.path.join(self.lab.folder, name)

    def provider(self):
        start = ["qemu-system-x86_64", "-name", "source-test", "-nodefaults", "-display", "none",
                 "-machine", "pc", "-accel", "tcg", "-m", "32", "-daemonize", "-nic", "none",
                 "-pidfile", self.path("test.pid"), "-device", "lsi53c895a,id=lsi0",
                 "-qmp", f"unix:{self.lab.sockets}/test.qmp,server=on,wait=off"]
        disks = []
        for number in range(2):
            node = f"test{number}"
            start += ["-blockdev", json.dumps({"driver": "qcow2", "node-name": node, "file": {
                "driver": "file", "filename": self.path(f"overlays/{node}.qcow2")}}),
                "-device", f"scsi-hd,drive={node},bus=lsi0.0,share-rw=on"]
            disks.append({"stable_id": self.target_id(number), "node": node, "file": "/nowhere",
                          "format": "raw"})
        return {"machines": [{"name": "source-test", "qmp": f"{self.lab.sockets}/test.qmp",
                              "pid_file": self.path("test.pid"), "start": start,
                              "delta_folder": self.path("overlays"), "disks": disks}]}

    def test_machine(self):
        """The pid of the test machine; none: it does not run."""
        try:
            with open(self.path("test.pid"), encoding="ascii") as file:
                pid = int(file.read())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return None

    def left(self):
        """What there is of a test failover."""
        found = [] if self.test_machine() is None else ["the machine"]
        folder = self.path("overlays")
        found += os.listdir(folder) if os.path.isdir(folder) else []
        found += [s["name"] for s in self.target_status().get("served") or []]
        return found

    def named_point(self, name):
        """A point and the source's copy of its cut, by the index of the disk."""
        folder = os.path.join(self.folders["source-out"], name)
        os.mkdir(folder)
        job = self.control.job("checkpoint", "source", "--name", name, "--export", "/out/" + name)
        return job["value"]["epoch"], [os.path.join(folder, f"{self.protection_id}-{n}.raw")
                                       for n in range(2)]

    def serve(self, point, name):
        return self.control.ctl("point", "serve", "source", "--point", str(point), "--name",
                                name)["value"]

    def copy_of(self, uri):
        place = self.path("copy.raw")
        subprocess.run(["nbdcopy", uri, place], check=True)
        return place

    def close(self):
        if self.test_machine() is not None:
            os.kill(self.test_machine(), 9)
        super().close()


def same(pair, value, copies):
    """Whether all exports are the copies."""
    return all(filecmp.cmp(pair.copy_of(e["uri"]), copies[e["index"]], shallow=False)
               for e in value["exports"])


def io(uri, *commands, fmt="raw"):
    words = [word for command in commands for word in ("-c", command)]
    return subprocess.run(["qemu-io", "-f", fmt, *words, uri], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def reads(pair, tally):
    """Again and again, while epochs close."""
    pair.replicating()
    epoch, copies = pair.named_point("served")
    value = pair.serve(epoch, "one")
    tally.check("it is the point that was meant", value["point"]["epoch"] == epoch, value)
    first = pair.source_status()["closed_epoch"]
    for last in (first, first + 2):
        pair.until("epochs close", lambda last=last: pair.source_status()["closed_epoch"] >= last)
        tally.check("each export is the source's copy of the cut", same(pair, value, copies))
    now = pair.source_status()["closed_epoch"]
    tally.say(f"epoch {epoch} was read whole twice while epochs {first} to {now} closed")
    # Another one beside it, whose stamps tell.
    newest = pair.serve("latest", "two")
    images = {}
    for export in newest["exports"]:
        place = pair.path(f"newest{export['index']}.raw")
        os.rename(pair.copy_of(export["uri"]), place)
        images[export["source_id"]] = place
    wrong = pair.stamps(images, newest["point"]["cut_time_ns"])
    tally.check("the stamps of the newest point", not wrong, wrong)
    overlay(pair, tally, value, copies)
    pair.control.ctl("point", "unserve", "source")
    pair.until("nothing is served", lambda: not pair.target_status().get("served"))
    tally.check("nothing can be read any more",
                subprocess.run(["nbdinfo", value["exports"][0]["uri"]], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, check=False).returncode != 0)


def overlay(pair, tally, value, copies):
    uri, above = value["exports"][0]["uri"], pair.path("above.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, above],
                   check=True)
    done = io(above, f"write -P 0x5a 0 {SIZE}", "read -P 0x5a 0 1M", fmt="qcow2")
    tally.check("an overlay can be written to", done.returncode == 0, done.stdout)
    done = io(uri, "write -P 0x5a 0 4096")
    tally.check("the export cannot", done.returncode != 0, done.stdout)
    tally.check("and is as it was", same(pair, value, copies))
    os.unlink(above)


def failover_test(pair, tally):
    """A machine on the point, which writes; the target's daemon dies; one command."""
    known = pair.source_status()["closed_epoch"]
    job = pair.control.job("test-failover", "source", "--point", "served")
    tally.check("the machine runs", pair.test_machine() is not None, job)
    machine = Qmp(f"{pair.lab.sockets}/test.qmp", time.monotonic() + 60)
    machine.execute("human-monitor-command",
                    command_line=f'qemu-io test0 "write -P 119 0 {SIZE}"')
    machine.close()
    written = os.path.getsize(pair.path("overlays/test0.qcow2"))
    tally.check("what it writes is in its overlay", written > SIZE, written)
    pair.until("epochs close meanwhile", lambda: pair.source_status()["closed_epoch"] > known + 1)
    pair.kill_daemon(pair.target)
    pair.start_daemon(pair.target)
    tally.check("after a kill there is something left", "the machine" in pair.left(), pair.left())
    for _ in range(2):
        pair.control.job("test-failover", "source", "--clean")
        tally.check("one command leaves nothing", pair.left() == [], pair.left())
    job = pair.control.job("test-failover", "source")
    tally.check("and it can be done again", pair.test_machine() is not None, job)
    pair.control.job("test-failover", "source", "--clean")
    tally.check("nothing is left of that", pair.left() == [], pair.left())
    tally.say("test failover: started, written to, target killed, cleaned up")


def bisect(pair, tally):
    """A change in the middle of some points is found."""
    pair.until("a source that replicates", lambda: pair.source_status()["state"] == "replicating")
    disk = f"/dev/disk/by-id/wwn-0x{int(pair.source_id(0)[4:], 16):x}"
    epochs = []
    for number in range(POINTS):
        if number == POINTS // 2:
            pair.source.run(f"tr '\\0' '\\252' </dev/zero | dd of={disk} bs={BLOCK} count=1 "
                            f"seek={MARK // BLOCK} oflag=direct iflag=fullblock status=none")
        epochs.append(pair.control.job("checkpoint", "source", "--name", f"b{number}")
                      ["value"]["epoch"])
    # Good is what was read, and is not the mark; what cannot be read is neither.
    command = (f'said=$(qemu-io -r -f raw -c "read -P 170 {MARK} {BLOCK}" "$EBB_NBD_0" 2>&1); '
               'case $said in *"verification failed"*) exit 0 ;; *"read "*) exit 1 ;; *) exit 125 ;; esac')
    found = pair.control.ctl("point", "bisect", "source", "--", "sh", "-c", command)
    if not tally.check("the change is found", found["last_good"] and found["first_bad"], found):
        return
    good, bad = found["last_good"]["epoch"], found["first_bad"]["epoch"]
    tally.check("the last good point is before the change, the first bad one after it",
                epochs[POINTS // 2 - 1] <= good < bad <= epochs[POINTS // 2], f"{found}, {epochs}")
    tally.check("nothing is left of the search", pair.left() == [], pair.left())
    tally.say(f"bisect: good up to {good}, bad from {bad}; {found['looked_at']} points were looked at")


if __name__ == "__main__":
    sys.exit(test("serve", [reads, failover_test, bisect], make=ServingPair))
