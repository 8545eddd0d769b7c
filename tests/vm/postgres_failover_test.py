#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""postgres_failover_test.py [BUILD_DIR]: a failover in the middle of a large close, under
PostgreSQL and pgbench. The target's disks are slow, so that a large write is under way when it is asked for;
the replica is rolled back to the last complete point, the source is fenced, and the machine at home has
just what clients had been told of at the cut that ebbctl named before: the loss was as displayed. Then the
failover is taken back: the source, which has gone on, is compared, and the replica is its disks again."""
import filecmp
import json
import os
import re
import signal
import subprocess
import sys
import time

from postgres import PostgresPair
from replication import PORT, WWN_TARGET, Lab, Tally, TOP
from guest import Guest  # of scripts/lab, whose place the line above knows

SLOW = 512 << 10  # bytes a second that each disk of the target writes
SHOWN = re.compile(r"The point would be epoch (\d+), cut (.+) ago; to roll back: (.+)")
# More than a target keeps in memory until a close is whole (128 MiB); of the database, too.
LARGE = """
dd if=/dev/urandom of=/mnt/pg/large bs=1M count=144 oflag=direct status=none
psql -h /tmp -U postgres -qAtX postgres \
    -c "create table large as select n, md5(n::text) from generate_series(1, 200000) n"
"""


class FailoverPair(PostgresPair):
    """The hypervisor knows both machines, and the one at home, which boots beside its disks."""

    def __init__(self, lab, build):
        super().__init__(lab, build, disk=224 << 20)
        self.source.monitor(self.socket("source"))
        self.target.monitor(self.socket("target"))
        self.pid_file = os.path.join(lab.folder, "home.pid")
        self.delta = os.path.join(lab.folder, "delta")
        self.home = lab.vm("source-home", mem=768, smp=2, udev=True, packages="postgres",
                           modprobe=["dm-mod", "ext4"])
        for number in range(2):
            self.home.disk(os.path.join(self.delta, f"home{number}.qcow2"), "lsi", fmt="qcow2",
                           wwn=WWN_TARGET + number + 1, node=f"home{number}")
        self.home.monitor(self.socket("home"))

    def socket(self, name):
        return os.path.join(self.lab.sockets, name + ".provider")

    def provider(self):
        def disks(node):
            return [{"stable_id": self.target_id(n), "node": f"{node}{n}", "file": self.disks[n].image,
                     "format": "raw"} for n in range(2)]
        replicas = disks("d")
        for number, one in enumerate(replicas):
            one["device"] = self.target.disks[number].plug({"bus": "lsi0.0", "scsi-id": number})
        start = self.home.command_line() + ["-daemonize", "-pidfile", self.pid_file]
        self.home.guest = Guest(os.path.join(self.lab.sockets, "source-home.agent"))
        return {"machines": [
            {"name": "source", "qmp": self.socket("source")},
            {"name": "target", "qmp": self.socket("target"), "disks": replicas},
            {"name": "source-home", "qmp": self.socket("home"), "pid_file": self.pid_file,
             "start": start, "delta_folder": self.delta, "disks": disks("home")}]}

    def slow(self, rate):
        """How fast the target's replicas can be written to; 0: as fast as they are."""
        for number in range(2):
            self.target.qmp.execute("human-monitor-command",
                                    command_line=f"block_set_io_throttle dev-d{number} 0 0 {rate} 0 0 0")

    def home_ready(self):
        self.home._started = time.monotonic()
        self.home.wait_ready()

    def shown(self, *words):
        """What `ebbctl failover --dry-run` says: as JSON, and to people."""
        found = self.control.ctl("failover", "source", "--dry-run", *words)
        text = subprocess.run([os.path.join(self.build, "ebbctl"), "--socket", self.control.socket,
                               "failover", "source", "--dry-run", *words], stdout=subprocess.PIPE,
                              text=True, check=False).stdout
        return found, SHOWN.search(text)

    def close(self):
        try:
            with open(self.pid_file, encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGKILL)
        except (OSError, ValueError):  # it was not started
            pass
        super().close()


def large_close(pair, tally):
    """Returns in the middle of it; the newest point then."""
    pair.until("points under load", lambda: pair.has_told() and
               min(pair.told(pair.source_status()["last_cut_ns"]).values()) > 5)
    pair.slow(SLOW)
    pair.control.ctl("interval", "source", "0")  # so that one cut has all of it
    pair.source.run(LARGE, 1200)
    pair.control.ctl("interval", "source", "2")

    def under_way():
        status = pair.target_status()
        return status if status["rollback_bytes"] >= 4 << 20 else None
    status = pair.until("a large close", under_way)
    tally.say(f"epoch {status['open_epoch']} is being received, {status['rollback_bytes']} bytes of it are "
              f"on the disks; the newest point is epoch {status['newest_point']['epoch']}")


def steady(pair):
    """When nothing has changed on the target for some reports of its."""
    known, since = None, time.monotonic()

    def same():
        nonlocal known, since
        status = pair.target_status()
        now = (status["rollback_bytes"], status["newest_point"]["epoch"])
        if now != known:
            known, since = now, time.monotonic()
        return time.monotonic() - since > 8
    pair.until("the target has applied what it has got", same)


def judge(pair, tally, dry, shown, job):
    """What is at home is what was shown."""
    value, point = job["value"], dry["point"]
    tally.check("people are shown the same", shown and int(shown[1]) == point["epoch"], shown)
    tally.check("it is the point that was shown", value["point"]["epoch"] == point["epoch"] and
                value["point"]["cut_time_ns"] == point["cut_time_ns"], f"{dry}, {job}")
    pair.home_ready()
    good, words = pair.look_into(pair.home)
    told, all_told = pair.told(point["cut_time_ns"]), pair.told(time.time_ns() + 10**15)
    wrong = pair.judge(words, told) if good else words[-3000:]
    tally.check("the database at home recovers, and has what was told before the cut", not wrong, wrong)
    lost = {client: all_told[client] - number for client, number in told.items()}
    tally.check("something was lost", min(lost.values()) > 2 and min(told.values()) > 2, f"{told}, {lost}")
    tally.check("the judge would notice if more or less were", good and all(
        pair.judge(words, {client: number + more for client, number in told.items()})
        for more in (2, -2)), words)
    tally.say(f"shown: epoch {point['epoch']}, cut {shown and shown[2]} ago, {shown and shown[3]} to roll back; "
              f"failed over in {job['failover_seconds']:.2f} s, {value['rolled_back_bytes']} bytes rolled "
              f"back; there are the {sum(told.values())} commits told before the cut, the "
              f"{sum(lost.values())} after it are gone")


def unreachable(pair, tally):
    """The network is gone; the source goes on, and comes back."""
    large_close(pair, tally)
    pair.source.run("ip link set eth0 down; "
                    f"ss -K -t state established '( sport = :{PORT} or dport = :{PORT} )'")
    pair.slow(0)
    steady(pair)
    dry, shown = pair.shown("--source-unreachable")
    tally.check("there is something to roll back", dry["rollback_bytes"] >= 4 << 20, dry)
    job = pair.control.job("failover", "source", "--source-unreachable")
    tally.check("so much was rolled back as was shown",
                job["value"]["rolled_back_bytes"] == dry["rollback_bytes"], f"{dry}, {job}")
    judge(pair, tally, dry, shown, job)
    pair.source.run("ip link set eth0 up")
    pair.until("the source learns that it is fenced", lambda: pair.source_status()["state"] == "fenced")
    status = pair.target_status()
    tally.check("the target takes nothing of it any more", status["state"] == "failed-over" and
                status["newest_point"]["epoch"] == dry["point"]["epoch"], status)


def taken_back(pair, tally):
    """What the source wrote meanwhile counts, and goes on being written; what is at home is dropped."""
    job = pair.control.job("rollback", "source")
    state, status = pair.control.protection("source")["state"], pair.target_status()
    tally.check("replication goes on", (state, status["state"]) == ("protected", "receiving"), f"{job}, {status}")
    tally.check("what is the same was not sent", job["same_bytes"] > job["compared_bytes"] / 2 > 0, job)
    wrong = pair.rest()
    tally.check("the source's load never failed", not wrong, wrong)
    pair.control.ctl("interval", "source", "0")
    epoch = pair.control.job("checkpoint", "source", "--name", "again", "--export", "/out")["value"]["epoch"]
    out = pair.folders["source-out"]
    with open(os.path.join(out, pair.protection_id + ".json"), encoding="ascii") as account:
        copies = [os.path.join(out, os.path.basename(disk["file"])) for disk in json.load(account)["disks"]]
    pair.target.run("kill $(pidof ebbd)", check=False)
    pair.target.poll("! pidof ebbd")
    pair.target.power_off()
    for disk in pair.disks:
        disk.close()
    for number, copy in enumerate(copies):
        tally.check(f"disk {number}: the target's is the source's copy of epoch {epoch}",
                    filecmp.cmp(copy, pair.disks[number].image, shallow=False))
    tally.say(f"rolled back: {job['compared_bytes']} bytes compared, {job['same_bytes']} of them the same; "
              f"both replicas are the source's epoch {epoch}")


def tell(build, tally):
    with Lab("postgres-failover") as lab:
        pair = FailoverPair(lab, build)
        try:
            pair.start()
            pair.make_database()
            pair.begin_protect(interval=2)
            pair.until_protected()
            tally.say("a database on two tracked disks; initial sync is done")
            pair.load()
            unreachable(pair, tally)
            taken_back(pair, tally)
        finally:
            pair.close()


def main():
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build"))
    tally = Tally()
    tell(build, tally)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
