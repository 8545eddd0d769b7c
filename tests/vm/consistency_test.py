#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""consistency_test.py [--share] [BUILD_DIR]: application-consistent points of a source with ext4 and XFS
on LVM over two tracked disks, under load: each is clean when checked; and everything that can die or
stand still between freeze and thaw does: the filesystems are thawed within the limit, always."""
import json
import os
import sys
from functools import partial

import replication
from app_points import at_freeze, begin_point, end_point, made
from replication import Pair, test

LIMIT = 4  # seconds that filesystems may be frozen
# What a machine under emulation, beside others, needs to notice that the time is over.
SLACK = 20
CONFIG = {"source": {"app_freeze_seconds": LIMIT, "app_script_seconds": 20}}
VOLUMES = {"ext4": "/srv/ext4", "xfs": "/srv/xfs"}

PREPARE = """
set -e
modprobe -a dm_mod ext4 xfs loop
pvcreate -q -ff -y %(disks)s
vgcreate -q data %(disks)s
# The first over both disks.
lvcreate -q -y -W n -n ext4 -L 72M data
lvcreate -q -y -W n -n xfs -l 100%%FREE data
mkfs.ext4 -q -m 0 /dev/data/ext4
mkfs.xfs -q -f --unsupported /dev/data/xfs
for fs in ext4 xfs; do mkdir -p /srv/$fs; mount /dev/data/$fs /srv/$fs; done
# As systemd has /run: in memory.
mkdir -p /run/ebb && mount -t tmpfs tmpfs /run/ebb
mkdir -p /etc/ebb/consistency.d
cat >/etc/ebb/consistency.d/10-note <<'END'
#!/bin/sh
echo "$1 $EBB_POINT_KIND" >>/run/notes
test ! -e /run/script-$1-fails || { echo "made to fail"; exit 3; }
test ! -e /run/script-$1-hangs || exec sleep 1000
END
chmod 755 /etc/ebb/consistency.d/10-note
"""
# Files that are made, written to, renamed and removed, with and without fsync. How long each turn took, in
# milliseconds, is kept: nobody stands still longer than the limit.
LOAD = """
import os, sys, time
top, longest, turn = sys.argv[1], 0, 0
while True:
    began = time.monotonic()
    name = "%s/f%d" % (top, turn % 50)
    with open(name + ".new", "wb") as out:
        out.write(os.urandom(3000 + turn % 7000))
        if turn % 3 == 0:
            out.flush()
            os.fsync(out.fileno())
    os.rename(name + ".new", name)
    if turn % 5 == 0:
        os.unlink(name)
    turn += 1
    longest = max(longest, time.monotonic() - began)
    with open("/dev/shm/load-" + os.path.basename(top), "w") as out:
        out.write("%d %d" % (turn, longest * 1000))
"""
# Writes to each filesystem, and says how long it took in all.
PROBE = """
began=$(cut -d' ' -f1 /proc/uptime)
for fs in ext4 xfs; do echo alive >/srv/$fs/probe; sync -d /srv/$fs/probe; done
echo "$began $(cut -d' ' -f1 /proc/uptime)"
"""


class ConsistencyPair(Pair):
    hits = 0  # something died, or was stopped, while a filesystem was frozen

    def begin_control(self, source_more=None):
        disks = " ".join(f"/dev/disk/by-id/wwn-0x{replication.WWN_SOURCE + n + 1:x}" for n in range(2))
        self.source.poll(f"ls {disks}")
        self.source.run(PREPARE % {"disks": disks})
        super().begin_control(CONFIG)

    def busy(self):
        for fs, top in VOLUMES.items():
            self.source.spawn(f"exec python3 - {top}", stdin=LOAD)
            self.source.poll(f"test -s /dev/shm/load-{fs}")

    def rest(self):
        """The load ends, and what it wrote is on the disks, which nobody uses any more."""
        self.source.run("kill $(pgrep -f '^python3 - /srv')", check=False)
        self.source.poll("umount /srv/ext4 /srv/xfs 2>/dev/null; ! grep ' /srv/' /proc/mounts")
        return self.source.run("vgchange -q -an data")

    def longest_turn(self):
        return max(int(self.source.run(f"cut -d' ' -f2 /dev/shm/load-{fs}").output) / 1000
                   for fs in VOLUMES)

    def alive(self, tally, what):
        """Both filesystems can be written to, within the limit."""
        done = self.source.run(PROBE, 120, check=False)
        ok = done.status == 0
        took = 0.0
        if ok:
            began, ended = map(float, done.output.split()[-2:])
            took = ended - began
        tally.check(f"{what}: the filesystems are thawed within the limit", ok and took <= LIMIT + SLACK,
                    f"{took} s; {done.output[-300:]}")
        return took

    def notes(self):
        return self.source.run("cat /run/notes 2>/dev/null; rm -f /run/notes", check=False).output

    def layout(self):
        """Where the logical volumes' blocks are: {name: [(disk number, first sector, sectors)]}."""
        majors = {}
        for number in range(2):
            name = self.source.run("cat /sys/block/$(basename $(realpath /dev/disk/by-id/wwn-0x"
                                   f"{replication.WWN_SOURCE + number + 1:x}))/dev").output.strip()
            majors[name] = number
        tables = {}
        for fs in VOLUMES:
            lines = self.source.run(f"dmsetup table data-{fs}").output.splitlines()
            tables[fs] = []
            for line in lines:
                _, length, kind, device, first = line.split()
                assert kind == "linear", line
                tables[fs].append((majors[device], int(first), int(length)))
        return tables

    def check_clean(self, tally, what, tables):
        """The source's copy of the cut holds filesystems that need no recovery."""
        out = self.folders["source-out"]
        # Kernels name disks in the order in which they happen to find them: so are they numbered.
        with open(os.path.join(out, f"{self.protection_id}.json"), encoding="utf-8") as account:
            files = {disk["stable_id"]: os.path.basename(disk["file"]) for disk in json.load(account)["disks"]}
        for fs, segments in tables.items():
            image = os.path.join(out, fs + ".img")
            with open(image, "wb") as to:
                for disk, first, sectors in segments:
                    with open(os.path.join(out, files[self.source_id(disk)]), "rb") as source:
                        source.seek(first * 512)
                        to.write(source.read(sectors * 512))
            # XFS keeps counts of free blocks that are made anew by each mount after a freeze, and are not
            # exact before that: nothing else may be found, and after a mount nothing at all.
            here = f"/dev/shm/{fs}.img"
            command = {"ext4": f"dumpe2fs -h {here} 2>/dev/null | grep -q needs_recovery && echo needs "
                               f"recovery; e2fsck -fn {here}",
                       "xfs": f"xfs_repair -n -f {here} >/run/found 2>&1 || {{ grep '^sb_fdblocks' /run/found && "
                              f"! grep -E 'would|bad|corrupt|ERROR' /run/found; }} && "
                              f"mkdir -p /run/x && mount -o loop,nouuid {here} /run/x && umount /run/x && "
                              f"xfs_repair -n -f {here}"}[fs]
            done = self.source.run(f"cp /out/{fs}.img {here} && {{ {command}; }}; s=$?; rm -f {here}; exit $s",
                                   300, check=False)
            clean = done.status == 0 and "needs recovery" not in done.output and \
                "recovering journal" not in done.output
            tally.check(f"{what}: {fs} is clean", clean, done.output[-800:])
            os.unlink(image)


def begin(pair, tally):
    pair.busy()
    pair.protect(interval=2)
    pair.until("the first application-consistent point, which is made by itself",
               lambda: pair.source_status()["app"]["last_ns"] and not pair.source_status()["app"]["running"])
    tally.check("that one is listed", [p for p in points(pair) if p["kind"] == "app"])
    tally.say("protected; the first application-consistent point is there")


def points(pair):
    return pair.control.ctl("point", "list", "source")["points"]


def clean(times, pair, tally):
    tables = pair.layout()
    for turn in range(times):
        what = f"application-consistent point {turn + 1}"
        pair.notes()
        job = made(pair, "--name", f"app-{turn + 1}", "--export", "/out")
        tally.check(f"{what}: made", job["state"] == "done", job.get("error"))
        if job["state"] != "done":
            continue
        tally.check(f"{what}: scripts before and after", pair.notes().split("\n")[:2] ==
                    ["pre ", "post application"])
        listed = [p for p in points(pair) if p["epoch"] == job["value"]["epoch"]]
        tally.check(f"{what}: its kind", listed and listed[0]["kind"] == "app", listed)
        pair.check_clean(tally, what, tables)
    took = pair.longest_turn()
    tally.check("no writer stood still longer than the limit", took <= LIMIT + SLACK, took)
    tally.say(f"{times} points are clean; the longest that a writer stood still: {took:.2f} s")


def struck(how, whom, pair, tally):
    """Something dies, or stands still, at the moment of the freeze."""
    what = f"{'kill -9' if how == 'KILL' else 'stop'} of {whom}"
    before = pair.source_status()["closed_epoch"]
    pair.notes()
    assassin = at_freeze(pair, how, whom)
    ident = begin_point(pair)
    done = assassin.wait(400, check=False)
    tally.check(f"{what}: at the moment of the freeze", done.status == 0, done.output)
    pair.hits += "hit" in done.output
    if whom == "all":
        # Nobody is left: the next start of the daemon thaws.
        pair.start_daemon(pair.source)
    took = pair.alive(tally, what)
    if how == "STOP":
        pair.source.run("kill -CONT $(pidof ebbd) $(pgrep ebb-freeze)", check=False)
    dead = pair.source.run("pidof ebbd", check=False).status != 0
    if dead:
        pair.start_daemon(pair.source)
    pair.until(f"{what}: replication goes on",
               lambda: pair.source_status()["closed_epoch"] > before + 1, 400)
    end_point(pair, ident)
    # Twice, if the daemon died in the middle of it.
    pair.source.poll("test $(grep -c pre /run/notes) -le $(grep -c post /run/notes)", 120)
    tally.check(f"{what}: the script was called after", "post" in pair.notes())
    again = made(pair)
    tally.check(f"{what}: the next one is made", again["state"] == "done", again.get("error"))
    tally.say(f"{what}: writers went on after {took:.2f} s; {done.output.split()[-1]}")


def script(which, how, pair, tally):
    """Fails, or hangs and is killed."""
    what = f"a script that {how}, {which}"
    pair.notes()
    pair.source.run(f"touch /run/script-{which}-{how}")
    job = made(pair)
    pair.source.run(f"rm /run/script-{which}-{how}")
    code = {"pre": "E_APP_SCRIPT", "post": "E_APP_POST"}[which]
    tally.check(f"{what}: named", job["state"] == "failed" and job["error"]["code"] == code, job)
    kind = {"pre": "crash", "post": "app"}[which]
    listed = [p for p in points(pair) if p["epoch"] == job["value"]["epoch"]]
    tally.check(f"{what}: a point all the same", listed and listed[0]["kind"] == kind, listed)
    problems = str(pair.control.protection("source")["problems"])
    tally.check(f"{what}: in health", code in problems, problems)
    tally.check(f"{what}: called after", "post" in pair.notes())
    pair.alive(tally, what)
    again = made(pair)
    tally.check(f"{what}: the next one is made", again["state"] == "done", again.get("error"))
    problems = str(pair.control.protection("source")["problems"])
    tally.check(f"{what}: over", code not in problems, problems)


def somebody_else(pair, tally):
    """What another has frozen is named, and left to them."""
    what = "frozen by somebody else"
    pair.source.run("fsfreeze --freeze /srv/xfs")
    job = made(pair)
    tally.check(f"{what}: named", job["state"] == "failed" and
                job["error"]["code"] == "E_APP_FROZEN" and "/srv/xfs" in job["error"]["message"], job)
    still = pair.source.run("fsfreeze --unfreeze /srv/xfs", check=False)
    tally.check(f"{what}: not thawed by us", still.status == 0, still.output)
    pair.alive(tally, what)


def too_slow(pair, tally):
    """The daemon stands still after the freeze: the watchdog thaws, and the point is not called what it is
    not."""
    what = "a daemon that stands still"
    assassin = at_freeze(pair, "STOP", "ebbd")
    ident = begin_point(pair)
    assassin.wait(400)
    took = pair.alive(tally, what)
    pair.source.run("kill -CONT $(pidof ebbd)")
    job = end_point(pair, ident)
    named = job["state"] == "failed" and job["error"]["code"] in ("E_APP_FREEZE_TIMEOUT", "E_APP_FREEZER")
    # It may have been stopped when the cut was taken already.
    tally.check(f"{what}: not called application-consistent when it is not", named or
                (job["state"] == "done" and took < LIMIT), job)
    tally.say(f"{what}: writers went on after {took:.2f} s; {job.get('error', {}).get('code', 'done')}")


def some_were_frozen(pair, tally):
    tally.check("something died while a filesystem was frozen", pair.hits)


SHARE = [partial(clean, 1), partial(struck, "KILL", "ebbd"), partial(struck, "KILL", "all"), some_were_frozen]
EVENTS = [partial(clean, 3), partial(struck, "KILL", "ebbd"), partial(struck, "KILL", "watchdog"),
          partial(struck, "KILL", "guard"), partial(struck, "KILL", "both"),
          partial(struck, "KILL", "all"), too_slow, partial(struck, "STOP", "watchdog"),
          some_were_frozen,
          partial(script, "pre", "fails"), partial(script, "pre", "hangs"),
          partial(script, "post", "fails"), somebody_else, partial(clean, 1)]

if __name__ == "__main__":
    share = "--share" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--share"]
    sys.exit(test("consistency", SHARE if share else EVENTS, begin, ConsistencyPair))
