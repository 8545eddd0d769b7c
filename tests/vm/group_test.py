#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""group_test.py [BUILD_DIR]: two sources and one target; a client writes a number to the first, and when that is
acknowledged to the second. Points that they have in common never hold the second write without the first, whatever
dies or is late; and no write is held longer than its gate's deadline. Then both fail over to one of them."""
import json
import os
import signal
import subprocess
import sys
import time

from replication import BLOCK, SIZE, Pair, image, test
from demo_control import Refused  # of this folder and scripts/lab, whose places the line above knows
from vm import free_port

WWN_OTHER = 0x5000C2900000C000
SLOTS, FIRST = 4, 16  # clients, each with a block of its own on both machines
SERVER_PORT = 7000
GROUP = "shop"
GATE = 900  # ms; machines under emulation, three on one host

# Writes what it is told, and answers when that is on the disk.
SERVER = """
import mmap, os, socket, struct, sys, threading
disk = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
def serve(connection):
    page = mmap.mmap(-1, 4096)
    while True:
        words = connection.recv(16, socket.MSG_WAITALL)
        if len(words) < 16:
            return
        slot, number = struct.unpack("<QQ", words)
        page[:8] = struct.pack("<Q", number)
        os.pwritev(disk, [page], (FIRST + slot) * 4096)
        connection.sendall(b"k")
listener = socket.create_server(("0.0.0.0", PORT))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
# How long the longest turn took is kept: in ms.
CLIENT = """
import mmap, os, socket, struct, sys, threading, time
disk = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
numbers, longest = [0] * SLOTS, [0.0] * SLOTS
def write(slot):
    other = socket.create_connection(("10.9.0.3", PORT))
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    page = mmap.mmap(-1, 4096)
    while True:
        began = time.monotonic()
        number = numbers[slot] + 1
        page[:8] = struct.pack("<Q", number)
        os.pwritev(disk, [page], (FIRST + slot) * 4096)
        other.sendall(struct.pack("<QQ", slot, number))
        if other.recv(1) != b"k":
            return
        numbers[slot] = number
        longest[slot] = max(longest[slot], time.monotonic() - began)
for slot in range(SLOTS):
    threading.Thread(target=write, args=(slot,), daemon=True).start()
while True:
    time.sleep(0.2)
    with open("/dev/shm/client.new", "w") as out:
        out.write("%d %d" % (sum(numbers), max(longest) * 1000))
    os.rename("/dev/shm/client.new", "/dev/shm/client")
"""


def numbers_in(image_of_disk):
    with open(image_of_disk, "rb") as file:
        file.seek(FIRST * BLOCK)
        blocks = file.read(SLOTS * BLOCK)
    return [int.from_bytes(blocks[n * BLOCK:n * BLOCK + 8], "little") for n in range(SLOTS)]


class Group(Pair):
    """The pair, and one more source with one disk."""

    def __init__(self, lab, build):
        super().__init__(lab, build, target_sizes=(SIZE, SIZE, SIZE), nbd_port=free_port())
        self.source.monitor(self.socket("source"))
        self.other.monitor(self.socket("other"))
        self.target.monitor(self.socket("target"))

    def socket(self, name):
        return os.path.join(self.lab.sockets, name + ".provider")

    def path(self, name):
        return os.path.join(self.lab.folder, name)

    def home(self, name, numbers):
        """A machine that runs its firmware, on deltas above replicas."""
        start = ["qemu-system-x86_64", "-name", name, "-nodefaults", "-display", "none", "-machine", "pc",
                 "-accel", "tcg", "-m", "32", "-daemonize", "-nic", "none", "-pidfile", self.path(name + ".pid"),
                 "-device", "lsi53c895a,id=lsi0", "-qmp", f"unix:{self.socket(name)},server=on,wait=off"]
        disks = []
        for number in numbers:
            node = f"{name}{number}"
            start += ["-blockdev", json.dumps({"driver": "qcow2", "node-name": node, "file": {
                "driver": "file", "filename": self.path(f"{name}/{node}.qcow2")}}),
                "-device", f"scsi-hd,drive={node},bus=lsi0.0,share-rw=on"]
            disks.append({"stable_id": self.target_id(number), "node": node, "file": self.disks[number].image,
                          "format": "raw"})
        return {"name": name, "qmp": self.socket(name), "pid_file": self.path(name + ".pid"), "start": start,
                "delta_folder": self.path(name), "disks": disks}

    def provider(self):
        replicas = [{"stable_id": self.target_id(n), "node": f"d{n}", "file": self.disks[n].image, "format": "raw",
                     "device": self.target.disks[n].plug({"bus": "lsi0.0", "scsi-id": n})} for n in range(3)]
        return {"machines": [{"name": "source", "qmp": self.socket("source")},
                             {"name": "other", "qmp": self.socket("other")},
                             {"name": "target", "qmp": self.socket("target"), "disks": replicas},
                             self.home("source-home", (0, 1)), self.home("other-home", (2,))]}

    def make_source(self, net):
        super().make_source(net)
        out = os.path.join(self.lab.folder, "other-out")
        os.makedirs(out)
        self.other = self.lab.vm("other", mem=512, smp=2, udev=True, timeout=3600, out=out)
        path = os.path.join(self.lab.folder, "other0.raw")
        image(path, SIZE)
        self.other.disk(path, "virtio-scsi", wwn=WWN_OTHER + 1)
        self.other.net(net, "10.9.0.3/24")
        self.other.user_net(guestfwd=[(8443, self.controller_port)])

    def start(self):
        self.other.start(wait=False)
        super().start()

    def begin_control(self, source_more=None):
        super().begin_control(source_more)
        self.other.wait_ready()
        module = os.path.join(self.build, "kmod/6.1")
        self.other.run(f"insmod {self.inside(module)}/ebb.ko && "
                       "echo 4000 >/sys/module/ebb/parameters/hold_deadline_ms")
        self.control.join(self.other, "other", "cloud", "source", self.inside(self.build) + "/ebbd")

    def protect_both(self):
        self.protect()
        self.control.job("protect", "other", "--target", "target", "--interval", "2", "--disk",
                         f"naa.{WWN_OTHER + 1:x}={self.target_id(2)}")

    def run_client(self):
        words = f"FIRST, SLOTS, PORT = {FIRST}, {SLOTS}, {SERVER_PORT}\n"
        server = self.other.spawn(f"exec python3 - /dev/disk/by-id/wwn-0x{WWN_OTHER + 1:x}",
                                  stdin=words + SERVER)
        self.other.poll(f"ss -ltn | grep -q :{SERVER_PORT} || netstat -ltn | grep -q :{SERVER_PORT}")
        client = self.source.spawn(f"exec python3 - /dev/disk/by-id/wwn-0x{int(self.source_id(0)[4:], 16):x}",
                                   stdin=words + CLIENT)
        self.source.poll("test -s /dev/shm/client")
        self.clients = [server, client]

    def client(self):
        """Turns, and the longest one in ms."""
        return tuple(map(int, self.source.run("cat /dev/shm/client").output.split()))

    def points(self):
        return self.control.ctl("group", "points", GROUP)["points"]

    def numbers(self, machine, epoch):
        """What the clients' blocks hold in a point of a machine."""
        value = self.control.ctl("point", "serve", machine, "--point", str(epoch), "--name", "look")
        try:
            export = value["value"]["exports"][0]
            place = os.path.join(self.lab.folder, "look.raw")
            subprocess.run(["qemu-img", "dd", "-f", "raw", "-O", "raw", f"bs={BLOCK}", f"count={FIRST + SLOTS}",
                            f"if={export['uri']}", f"of={place}"], check=True)
            return numbers_in(place)
        finally:
            self.control.ctl("point", "unserve", machine, "--name", "look")

    def judge(self, tally, what, point):
        return self.judge_numbers(tally, what, point, self.numbers("source", point["epochs"]["source"]),
                                  self.numbers("other", point["epochs"]["other"]))

    @staticmethod
    def judge_numbers(tally, what, point, first, second):
        good = all(b <= a <= b + 1 for a, b in zip(first, second)) and any(second)
        tally.check(f"{what}: no write without the one before it", good,
                    f"{first} {second} {point}")
        return second

    def protections_open(self):
        """Whether both replicate, and what they have can be asked for."""
        try:
            self.points()
        except Refused:
            return False
        return all(p["health"] == "ok" or p["state"] == "protected"
                   for p in self.control.state()["protections"])

    def common(self, *words):
        return self.control.job("checkpoint", "--group", GROUP, *words)

    def goes_on(self, tally, what):
        """Nobody is kept from writing, and a common point can be had."""
        before = self.client()[0]
        self.until("clients go on", lambda: self.client()[0] > before + 20)
        job = self.common()
        tally.check(f"{what}: then a common point", job["state"] == "done", job)

    def close(self):
        for name in ("source-home", "other-home"):
            try:
                with open(self.path(name + ".pid"), encoding="ascii") as file:
                    os.kill(int(file.read()), signal.SIGKILL)
            except (OSError, ValueError):  # it was not started
                pass
        self.other.power_cut()
        super().close()


def begin(group, tally):
    group.protect_both()
    group.run_client()
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "0", "--app-interval", "0", "--gate", str(GATE))
    tally.say("both are protected; the client runs")


def cuts(group, tally):
    """One after the other, under load."""
    for number in range(4):
        job = group.common("--name", f"c{number}")
        tally.check("a common cut", job["state"] == "done", job)
    tally.say(f"writes were held for {job['held_ms']} ms by the last one")
    points = group.points()
    tally.check("all are there, by their names",
                [p["name"] for p in points if p["name"]] == [f"c{n}" for n in range(4)], points)
    before = None
    for point in points:
        numbers = group.judge(tally, point["name"] or "a point", point)
        tally.check("they follow each other", before is None or before <= numbers,
                    f"{before} {numbers}")
        before = numbers
    # What the test is worth: each machine's newest points are not of one moment.
    turns, longest = group.client()
    tally.say(f"{turns} turns of the clients, the longest {longest} ms")


def regular(group, tally):
    known = len(group.points())
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "3", "--app-interval", "0", "--gate", str(GATE))
    group.until("points come by themselves", lambda: len(group.points()) >= known + 4)
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "0", "--app-interval", "0", "--gate", str(GATE))
    for point in group.points()[-2:]:
        group.judge(tally, "at the interval", point)


def application(group, tally):
    job = group.common("--app", "--name", "app")
    tally.check("an application-consistent one", job["state"] == "done", job)
    point = group.points()[-1]
    tally.check("and it says so", point["kind"] == "app" and point["name"] == "app", point)
    group.judge(tally, "application-consistent", point)


def too_short(group, tally):
    """No three exchanges fit into this deadline on these machines."""
    known = len(group.points())
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "0", "--app-interval", "0", "--gate", "10")
    try:
        group.common()
        tally.say("10 ms were enough")
    except Refused as error:
        tally.check("a gate that opens by itself fails the cut", "E_COMMON_CUT" in str(error), error)
        tally.check("and leaves no common point", len(group.points()) == known)
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "0", "--app-interval", "0", "--gate", str(GATE))
    group.goes_on(tally, "after a gate that opened by itself")


def killed(group, tally):
    """A source's daemon, the target's, the controller, each while cuts are made as fast as it goes."""
    known = len(group.points())
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "1", "--app-interval", "0", "--gate", str(GATE))
    for vm in (group.other, group.source, group.target):
        group.until("cuts are made", lambda n=known: len(group.points()) > n)
        group.kill_daemon(vm)
        time.sleep(1)
        before = group.client()[0]
        group.until("clients go on without the daemon", lambda b=before: group.client()[0] > b + 20, 30)
        group.start_daemon(vm)
        group.until("points are told of", lambda: group.protections_open())
        known = len(group.points())
    group.control.ctl("group", "set", GROUP, "--machine", "source", "--machine", "other",
                      "--interval", "0", "--app-interval", "0", "--gate", str(GATE))
    group.goes_on(tally, "after daemons were killed")
    points = group.points()
    for point in points[-4:]:
        group.judge(tally, "among daemons that die", point)


def end(group, tally):
    """Both at once, to the newest point that they have in common, under load; there the disks are of one moment."""
    turns, longest = group.client()
    tally.check("the clients have written", turns > 200, turns)
    tally.say(f"{turns} turns of the clients, the longest {longest} ms; {len(group.points())} common points")
    newest = group.points()[-1]
    group.until("later points, which they do not have in common", lambda: all(
        part["newest_point"]["epoch"] > newest["epochs"][p["machine"]]
        for p in group.control.state()["protections"]
        for part in group.control.machine("target")["status"]["target"]["protections"] if part["id"] == p["id"]))
    jobs = group.control.job("failover", "--group", GROUP)
    tally.check("both are failed over", all(j["state"] == "done" for j in jobs["jobs"]), jobs)
    for p in group.control.state()["protections"]:
        tally.check(f"{p['machine']} is at that point", p["state"] == "commit-pending" and
                    p["point"]["epoch"] == newest["epochs"][p["machine"]], p)
    group.judge_numbers(tally, "after the failover", newest, numbers_in(group.disks[0].image),
                        numbers_in(group.disks[2].image))


if __name__ == "__main__":
    sys.exit(test("group", [cuts, regular, application, too_short, killed], begin=begin, make=Group, end=end))
