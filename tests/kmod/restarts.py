#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the durable map over several boots of a machine whose disks lose what was not flushed.

    tests/kmod/restarts.py [--kernel 6.1] [--only NAME]... [--check] [--ko PATH] [--tag TAG]
                           [--resume]

Each story boots the machine, attaches disks with map areas, lets something happen to it (an
orderly reboot, a power cut at chance or at a chosen write), and demands of the next attach what
include/uapi/linux/ebb.h and docs/map-format.md say: the replica, brought up to date by what was
recovered alone, must equal the disk byte by byte; or the gap must have its name.

No kernel of a story may have complained in any boot. Under `debug` the module is unloaded at a
story's end, and kmemleak looks for what the last boot has lost; a machine that loses its power, or
halts, cannot be asked.

--resume tells only those that have not passed with the same module, tools and lab (verdicts.py).
"""
import argparse
import ast
import json
import os
import random
import struct
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
sys.path.insert(0, os.path.join(TOP, "tests/vm/lib"))
import console  # noqa: E402
import verdicts  # noqa: E402
from powercut import PowerCutDisk  # noqa: E402
from vm import GuestError, Lab, LabError, tool  # noqa: E402

REASONS = {"NEW": 0, "UNTRACKED_WRITE": 1, "RESIZED": 6, "MAP_LOST": 8, "MAP_FOREIGN": 9,
           "MAP_STALE": 10, "MAP_FAILED": 11, "DETACHED": 12, "HIBERNATED": 13}
CLEAN, CRASH = 1, 2
MIB = 1 << 20
REGION = 256  # blocks
NOT_WRITTEN = "the write-intent log could not be written"
NOT_SEALED = "the exact map was not written"
# What all stories run on beside what every test of the module does.
FILES = ("tests/kmod/guest/restart.sh", "tests/vm/lib/powercut.py", "tests/vm/lib/powercut.c")
# Of data1: one for data, one for its own map.
PARTITIONS = "2048,100000\n102048,16384\n"
LEAKS = "bash /ebb/tests/kmod/guest/leaks.sh "


class Failure(Exception):
    """What a story found wrong."""


class Machine:
    """A machine with two disks to track, one for maps, and a folder of the host for replicas."""

    def __init__(self, lab, options):
        self.options = options
        self.slow = options.kernel == "debug"
        self.patience = 4 if self.slow else 1
        self.out = os.path.join(lab.folder, "out")
        os.makedirs(self.out)
        self.vm = lab.vm("m", kernel=options.kernel, mem=3072 if self.slow else 768, smp=2, out=self.out,
                         timeout=3000 * self.patience)
        self.prefix = (f"export KO=/ebb/{options.ko} SLOW={int(self.slow)}; "
                       ". /ebb/tests/kmod/guest/restart.sh; ")
        self.disks, self.images = {}, {}
        for name, size in (("data0", 64), ("data1", 64), ("map0", 16), ("wide0", 512)):
            self.images[name] = lab.image(name + ".raw", f"{size}M")
            if name == "data1":
                subprocess.run(["sfdisk", "-q", self.images[name]], input=PARTITIONS, text=True,
                               check=True)
            self.disks[name] = PowerCutDisk(self.images[name], lab.sockets)
            self.vm.disk("nbd:" + self.disks[name].socket, "virtio", serial=name)
        self.seed = options.seed
        self.start()

    def start(self):
        """The next boot. kmemleak does not scan when it likes: what it says is asked for at the end."""
        self.vm.start()
        if self.slow:
            self.vm.run(LEAKS + "begin", 900)

    def halt(self):
        self.vm.halt(600 * self.patience)

    def end(self):
        """After a story: the module lets go of what it tracks, and has lost nothing in this boot."""
        if self.slow:
            self.run("unload")
            begun = time.monotonic()
            self.vm.run(LEAKS + "end", 1800)
            print(f"    nothing lost, looked for {time.monotonic() - begun:.0f} s")

    def run(self, command, timeout=900):
        """A command in the guest, with the words of guest/restart.sh; what it prints."""
        try:
            return self.vm.run(f"exec bash -c '{self.prefix}{command}'", timeout * self.patience).output
        except GuestError as error:
            raise Failure(f"{command}\n{error}") from None

    def lose(self, how="tear"):
        """What the disks' caches held is lost, in part."""
        for disk in self.disks.values():
            self.seed += 1
            disk.cut(how, self.seed)

    def power_cut(self, how="tear"):
        self.vm.power_cut()
        self.lose(how)
        self.start()

    def reboot(self, how="tear"):
        """An orderly one; what is still in the caches after it is lost all the same."""
        self.halt()
        self.lose(how)
        self.start()

    def disk(self, number=1):
        """What the module says of a disk."""
        return json.loads(self.run(f"ebbtest get {number}"))["disk"]

    def demand(self, number=1, **wanted):
        disk = self.disk(number)
        for key, want in wanted.items():
            if isinstance(want, list):
                want = sum(1 << REASONS[name] for name in want)
            if disk[key] != want:
                raise Failure(f"disk {number}: {key} is {disk[key]}, should be {want}: {disk}")
        return disk

    def throttle(self, name, requests):
        """A disk takes so many requests a second until the machine starts again."""
        disk = next(d for d in self.vm.disks if d.serial == name)
        self.vm.qmp.execute("block_set_io_throttle", _literal=True,
                            id=f"/machine/peripheral/dev-{disk.node}/virtio-backend", bps=0, bps_rd=0,
                            bps_wr=0, iops=requests, iops_rd=0, iops_wr=0)

    def said(self, words):
        """How often the kernels of this story have said it."""
        return console.read(self.vm.console).count(words)

    def edit(self, name, offset, data):
        """Changes a disk's image behind everybody's back; the machine must be off."""
        with open(self.images[name], "r+b") as file:
            file.seek(offset)
            file.write(data)

    def newer_superblock(self):
        """The slot of map0's superblock that was written last: they are written past the cache."""
        with open(self.images["map0"], "rb") as file:
            head = file.read(8192)
        first, second = (struct.unpack_from("<Q", head, at + 8)[0] for at in (0, 4096))
        return int(second > first)

    def replicate_first(self, more=""):
        """Brings everything over, until all is confirmed and cold."""
        self.run(f"ebbtest mark-all 1; replicate --initial --cuts 1 {more}")
        self.run('wait_for 300 all_cold || fail "regions do not go cold"')

    def catch_up(self):
        """The replica gets what was recovered, and equals the disk then."""
        return json.loads(self.run("replicate --cuts 1 --compare").splitlines()[-1])["blocks"]


# ---- the stories ----

def crash(m):
    """Power fails at chance under writers and a replicator: hot regions travel, nothing is lost."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    rng = random.Random(m.seed)
    for turn in range(4):
        first = rng.randrange(0, 12000)
        # Cuts close whether or not the writer has begun.
        m.run(f"writing data0 {first}+1500; replicating --interval 200; wait_for 300 closed {turn + 1}; "
              "wait_for 300 hot || fail \"nothing is written\"")
        time.sleep(rng.random())
        m.power_cut()
        m.run("load; attach data0 d0 map0 0")
        disk = m.demand(recovery=CRASH, resync_reasons=[], log_state=1)
        if disk["recovered_blocks"] != disk["hot_regions"] * REGION:
            raise Failure(f"not whole regions: {disk}")
        # The writer's regions, and those of the turn before that had not gone cold.
        if not 1 <= disk["hot_regions"] <= 20:
            raise Failure(f"{disk['hot_regions']} regions were hot")
        if disk["suspect_blocks"] != disk["recovered_blocks"]:
            raise Failure(f"recovered, and not suspect: {disk}")
        m.catch_up()
        m.run('wait_for 300 all_cold || fail "regions do not go cold"')


def crash_armed(m):
    """Power fails at chosen writes and flushes of the map device and of the disk."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    for turn, (disk, kind, count) in enumerate([("map0", "write", 1), ("map0", "write", 2),
                                                ("data0", "write", 1), ("data0", "write", 9),
                                                ("map0", "write", 5), ("data0", "flush", 1)]):
        m.disks[disk].arm(kind, count, m.vm.process.pid)
        try:
            m.run(f"replicating --interval 300; for i in $(seq 0 40); do write $(dev data0) "
                  f"$(((i * 7 + {turn}) % 60 * 256)) 3; sync -d $(dev data0); sleep 0.1; done")
        except Failure:
            pass
        m.vm.process.wait(600)
        m.vm.power_cut()
        m.lose()
        m.start()
        m.run("load; attach data0 d0 map0 0")
        m.demand(recovery=CRASH, resync_reasons=[])
        m.catch_up()
        m.run('wait_for 300 all_cold || fail "regions do not go cold"')


def clean(m):
    """An orderly reboot: exactly the dirty blocks; cookie, boots and witnesses stay."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    m.run("write $(dev data0) 1000 7; write $(dev data0) 9000 300; sync; "
          "ebbtest confirm 1 cookie-of-7; ebbtest witness 1 0 64 80000 8")
    before = m.demand(dirty_blocks=307, witnesses=9)
    m.reboot()
    m.run("load; attach data0 d0 map0 0")
    after = m.demand(recovery=CLEAN, resync_reasons=[], dirty_blocks=307, recovered_blocks=307,
                     suspect_blocks=0, witnesses=9, map_uuid=before["map_uuid"],
                     cookie=before["cookie"])
    if not after["boots"].startswith(before["boots"]) or len(after["boots"]) != 64:
        raise Failure(f"boots: {before['boots']}, {after['boots']}")
    if m.catch_up() != 307:
        raise Failure("more than what was dirty has travelled")
    # Twice: a seal follows a seal, with nothing dirty.
    m.run("ebbtest confirm 1")
    m.reboot()
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=CLEAN, resync_reasons=[], dirty_blocks=0)
    m.run("write $(dev data0) 5000 2")
    # A power cut after a seal that was used: all of the region, and not what the seal said.
    m.power_cut("drop")
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=CRASH, resync_reasons=[], recovered_blocks=REGION, hot_regions=1)
    m.catch_up()


def clean_unflushed(m):
    """An orderly reboot: what was confirmed out of hot regions is on the disk when the seal says cold."""
    m.run("load log_cool_s=3600; attach data0 d0 map0 0 create; ebbtest mark-all 1; "
          "replicate --initial --cuts 1 >/dev/null; ebbtest confirm 1; "
          "for i in 1 2 3 4; do write $(dev data0) $((i * 1000)) 40; done; "
          "replicate --cuts 1 >/dev/null; ebbtest confirm 1; [ $(get 1 hot_regions) = 64 ] || fail cold")
    m.demand(dirty_blocks=0, unconfirmed_blocks=0)
    m.reboot("drop")
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=CLEAN, resync_reasons=[], dirty_blocks=0)
    if m.catch_up():
        raise Failure("something has travelled")


def wide(m):
    """A map of several fine blocks: whole, and with holes between blocks that are far apart."""
    m.run("load; attach wide0 d0 map0 0 create; ebbtest mark-all 1")
    m.reboot()
    m.run("load; attach wide0 d0 map0 0")
    m.demand(recovery=CLEAN, resync_reasons=[], recovered_blocks=131072, dirty_blocks=131072)
    m.run("replicate --initial --cuts 1 >/dev/null; wait_for 300 all_cold || fail cold")
    # The blocks of a fine block begin at multiples of 31,680.
    places = [0, 31679, 31680 * 2, 31680 * 2 + 2112, 31680 * 3 + 500, 131071]
    m.run("; ".join(f"write $(dev wide0) {place} 1" for place in places))
    m.demand(dirty_blocks=len(places))
    m.reboot()
    m.run("load; attach wide0 d0 map0 0")
    m.demand(recovery=CLEAN, resync_reasons=[], recovered_blocks=len(places))


def cooled(m):
    """What went cold is on the disk: power cuts take back nothing that was confirmed away."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    for turn in range(3):
        # Written and confirmed, and not flushed by anybody but the log.
        m.run(f"for i in 1 2 3 4; do write $(dev data0) $((i * 1000 + {turn} * 50)) 40; done; "
              "replicate --cuts 1 >/dev/null; wait_for 300 all_cold || fail cold")
        m.power_cut("drop")
        m.run("load; attach data0 d0 map0 0")
        m.demand(recovery=CRASH, resync_reasons=[], recovered_blocks=0)
        m.catch_up()
    # Hot, idle, written, sent and confirmed between two looks: not cold yet, since not flushed.
    m.run("echo 3600 >/sys/module/ebb/parameters/log_cool_s; write $(dev data0) 5000 40; "
          "replicate --cuts 1 >/dev/null; look() { echo 0 >/sys/module/ebb/parameters/log_cool_s; "
          "ebbtest confirm 1; echo 3600 >/sys/module/ebb/parameters/log_cool_s; sleep 2; }; look; "
          "[ $(get 1 hot_regions) = 1 ] || fail early; write $(dev data0) 5000 40; "
          "replicate --cuts 1 >/dev/null; look; [ $(get 1 hot_regions) = 1 ] || fail \"cold, and written since\"")
    m.power_cut("drop")
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=CRASH, resync_reasons=[], hot_regions=1)
    m.catch_up()


def clean_in_an_epoch(m):
    """An orderly reboot in the middle of an epoch: nothing of it is dropped."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    # 100 blocks unconfirmed, 10 released in a pass, 5 left in it, 3 written since.
    m.run("write $(dev data0) 0 100; printf \"pass-begin live 1\\nsleep 300\\nrelease 4 1 0 800\\n"
          "end 4\\n\" | ebbtest script; write $(dev data0) 4000 15; "
          "mkfifo /dev/shm/in; (exec 3>/dev/shm/in; printf \"pass-begin live 1\\nsleep 300\\n"
          "release 5 1 32000 80\\n\" >&3; sleep 600) >/dev/null 2>&1 & ebbtest script </dev/shm/in >/dev/shm/s.out 2>&1 & "
          "released() { [ $(grep -c ok /dev/shm/s.out) = 3 ]; }; wait_for 300 released || fail release; "
          "write $(dev data0) 9000 3; sync; "
          "[ $(get 1 dirty_blocks)/$(get 1 unconfirmed_blocks) = 3/100 ] || fail state")
    m.reboot()
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=CLEAN, resync_reasons=[], dirty_blocks=118)
    m.catch_up()


def writes_after_seal(m):
    """Writers go on while the machine goes down, after the map was sealed."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    logged = 0
    for turn in range(3):
        m.run(f"writing data0 {1000 + turn * 3000}+2500")
        time.sleep(1)
        m.reboot()
        m.run("load; attach data0 d0 map0 0")
        disk = m.demand(recovery=CLEAN, resync_reasons=[])
        logged += disk["suspect_blocks"]
        m.catch_up()
    print(f"    {logged} blocks by writes after the seal")
    # Newer kernels shut a virtio disk down like others: the map's is the first.
    if not logged and not m.said(NOT_WRITTEN):
        raise Failure("no write came after the seal")


def map_gone_after_seal(m):
    """Writers go on after the seal, and the map device takes nothing any more, as one that has been shut
    down before the disk: nobody is told of a write that the next boot cannot know of."""
    m.run("load log_cool_s=3600; attach data0 d0 map0 0 create; ebbtest mark-all 1; "
          "replicate --initial --cuts 1 >/dev/null; ebbtest confirm 1; [ $(get 1 hot_regions) = 64 ] || fail cold")
    for turn in range(8):
        m.run(f"writing data0 {1000 + turn % 4 * 3000}+2500; "
              "begun() { [ $(get 1 dirty_blocks) -ge 8 ]; }; wait_for 300 begun || fail \"nothing is written\"")
        # Superblocks and log: all is hot, so the seal's superblock is the next write there.
        m.disks["map0"].refuse(0, 4 * 4096, after=1)
        m.reboot()
        m.disks["map0"].refuse(0, 0)
        m.run("load log_cool_s=3600; attach data0 d0 map0 0")
        m.demand(recovery=CLEAN, resync_reasons=[], suspect_blocks=0)
        m.catch_up()
        # By chance none comes between the seal and the end.
        if m.said(NOT_WRITTEN) >= 2:
            break
        m.run("ebbtest mark-all 1; replicate --cuts 1 >/dev/null; ebbtest confirm 1; "
              "[ $(get 1 hot_regions)/$(get 1 dirty_blocks) = 64/0 ] || fail cold")
    else:
        raise Failure("no write came after the seal")


def writes_in_seal(m):
    """Each write goes to a hot region that nobody writes to again, while the map is sealed: that takes
    long, so some come meanwhile, and no later write has their regions logged."""
    m.run("load log_cool_s=3600 log_deadline_ms=60000; attach data0 d0 map0 0 create; ebbtest mark-all 1; "
          "replicate --initial --cuts 1 >/dev/null; ebbtest confirm 1; [ $(get 1 hot_regions) = 64 ] || fail cold")
    for turn in range(2):
        m.run(f"walk() {{ local i; for ((i = {turn}; ; i++)); do write $(dev data0) "
              f"$((i * {REGION} % 16384 + i / 64)) 1; done; }}; walk >/dev/null 2>&1 & "
              "begun() { [ $(get 1 dirty_blocks) -ge 8 ]; }; wait_for 300 begun || fail \"nothing is written\"")
        m.throttle("map0", 1)
        m.reboot()
        m.run("load log_cool_s=3600 log_deadline_ms=60000; attach data0 d0 map0 0")
        m.demand(recovery=CLEAN, resync_reasons=[])
        m.catch_up()
        # All are hot again.
        m.run("ebbtest mark-all 1; replicate --cuts 1 >/dev/null; ebbtest confirm 1")
        m.demand(hot_regions=64, dirty_blocks=0)


def late_in_seal(m):
    """Both the map's device and the disk are so slow that writes to cold regions wait too long for the seal,
    and power fails then: none of them went on that is in no map."""
    m.run("load; attach wide0 d0 map0 0 create; ebbtest mark-all 1; replicate --initial --cuts 1 >/dev/null; "
          "wait_for 300 all_cold || fail cold; echo 3600 >/sys/module/ebb/parameters/log_cool_s; "
          "ebbtest witness 1 $(for ((i = 0; i < 60; i++)); do echo $((i * 4104)) 8; done); " +
          "; ".join(f"write $(dev wide0) {31680 * part + 7} 1" for part in range(4)))
    disk = m.run("dev wide0").strip()
    m.throttle("map0", 1)
    m.throttle("wide0", 4)
    said = m.said(NOT_SEALED) + m.said(NOT_WRITTEN)
    # Each to a region of its own; those that come once the seal has begun wait.
    m.vm.guest.spawn("exec bash -c '(for ((i = 1; i < 64; i++)); do sleep 0.1; dd if=/dev/urandom "
                     f"of={disk} bs=4k count=1 seek=$((i * {REGION} + 100)) oflag=direct conv=notrunc & done) "
                     "2>/dev/null & exec busybox halt -f'")
    end = time.monotonic() + 600 * m.patience
    while m.said(NOT_SEALED) + m.said(NOT_WRITTEN) == said:
        if m.said("System halted") or time.monotonic() > end:
            raise Failure("the seal was not late")
        time.sleep(0.05)
    m.throttle("wide0", 0)
    time.sleep(3)  # so that what goes on now lands; the more of it, the surer is what follows
    m.power_cut()
    m.run("load; attach wide0 d0 map0 0")
    disk = m.demand(recovery=CRASH, resync_reasons=[])
    print(f"    {disk['hot_regions']} regions were hot")
    m.catch_up()


def corrupt(m):
    """A map lost, or corrupted in any part, is never taken for one."""
    # Zeros everywhere; a bit of a superblock, of a log block's newer slot, of the fine map.
    places = [("all", 0, b"\0" * 65536), ("superblock", 900, b"\xff"), ("other superblock", 5000, b"\xff"),
              ("log block", 8192 + 700, b"\xff"), ("its other slot", 12288 + 3000, b"\xff"),
              ("fine map", 16384 + 600, b"\xff"), ("magic", 0, b"x")]
    m.run("load; attach data0 d0 map0 0 create")
    for what, offset, data in places:
        m.replicate_first()
        m.run("write $(dev data0) 4711 100; sync")
        m.halt()
        m.lose()
        m.disks["map0"].close()
        m.edit("map0", offset, data)
        m.disks["map0"].open()
        m.start()
        m.run("load; attach data0 d0 map0 0")
        m.demand(recovery=0, resync_reasons=["MAP_LOST"])
        print(f"    {what}: lost")


def failed(m):
    """The log cannot be written any more: what of its area still can says so before writers go on."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    if m.newer_superblock():
        m.run("ebbtest confirm 1 cookie")
    # Both slots of the log block, and that of the superblock that is written next.
    m.disks["map0"].refuse(4096, 3 * 4096)
    m.run("write $(dev data0) 5000 1")
    m.power_cut("drop")
    m.disks["map0"].refuse(0, 0)
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=0, resync_reasons=["MAP_FAILED"])


def without_log(m):
    """A disk of `checksum` has no map: after any restart all of it is a gap, with a name."""
    m.run("load; ebbtest attach $(dev data0) d0 1 >/dev/null; ebbtest mark-all 1; replicate --initial --cuts 1")
    m.demand(resync_reasons=[], dirty_blocks=0)
    for restart in (m.reboot, m.power_cut):
        restart()
        m.run("load; ebbtest attach $(dev data0) d0 1 >/dev/null")
        m.demand(log_state=0, resync_reasons=["NEW"])
        m.run("ebbtest mark-all 1")
        m.demand(resync_reasons=[], dirty_blocks=16384)


def foreign(m):
    """The map of another disk, or of this one when it had another size."""
    m.run("load; attach data0 d0 map0 0 create; ebbtest mark-all 1")
    m.reboot()
    m.run("load; attach data1 d1 map0 0")
    m.demand(recovery=0, resync_reasons=["MAP_FOREIGN"])
    m.run("ebbtest mark-all 1; write $(dev data1) 77 1")
    m.power_cut()
    m.run("load; attach data0 d0 map0 0")
    m.demand(recovery=0, resync_reasons=["MAP_FOREIGN"])
    # Its name, on a disk of another size.
    m.run("ebbtest mark-all 1")
    m.reboot()
    m.run("load; attach wide0 d0 map0 0")
    m.demand(recovery=0, resync_reasons=["MAP_FOREIGN"])


def stale(m):
    """A disk that was written without the module, or is an older copy, after a clean stop and a crash."""
    m.run("load; attach data0 d0 map0 0 create")
    m.replicate_first()
    for turn, stop in enumerate((m.reboot, m.power_cut, m.power_cut)):
        # Witnesses are known at once in cold regions, and by cooling in others.
        m.run("ebbtest witness 1 0 8 65536 16; write $(dev data0) 8192 1; sync; "
              "replicate --cuts 1 >/dev/null; wait_for 300 all_cold || fail cold; "
              "[ $(get 1 resync_reasons) = 0 ] || fail reasons")
        if turn == 2:
            stop()
            m.run("load; attach data0 d0 map0 0")
            m.demand(recovery=CRASH, resync_reasons=[])
            continue
        # Behind the module's back: by a kernel without it.
        stop()
        m.run("write $(dev data0) 8193 1; sync")
        m.halt()
        m.start()
        m.run("load; attach data0 d0 map0 0")
        m.demand(recovery=0, resync_reasons=["MAP_STALE"])
        m.replicate_first()


def stale_dirty(m):
    """The same where the witness was written last of all, as by a file system that is unmounted: it is
    dirty in the sealed map."""
    m.run("load; attach data0 d0 map0 0 create")
    for turn in range(3):
        m.replicate_first()
        m.run("ebbtest witness 1 0 8 65536 16; write $(dev data0) 8192 1; write $(dev data0) 0 1; sync")
        m.demand(dirty_blocks=2, resync_reasons=[])
        m.reboot()
        if turn == 0:
            m.run("load; attach data0 d0 map0 0")
            m.demand(recovery=CLEAN, resync_reasons=[], dirty_blocks=2)
            m.catch_up()
            # Read before the power went: what the log says since counts as it did.
            m.run("write $(dev data0) 8192 1; sync")
            m.power_cut()
            m.run("load; attach data0 d0 map0 0")
            m.demand(recovery=CRASH, resync_reasons=[])
            continue
        m.run("write $(dev data0) 8192 1; sync")
        m.halt()
        m.start()
        m.run("load; attach data0 d0 map0 0")
        m.demand(recovery=0, resync_reasons=["MAP_STALE"])


def late(m):
    """The disk was written to in this boot before it was attached."""
    m.run("load; attach data0 d0 map0 0 create; ebbtest mark-all 1")
    m.reboot()
    m.run("write $(dev data0) 100 1; load; attach data0 d0 map0 0")
    m.demand(recovery=0, resync_reasons=["UNTRACKED_WRITE"])
    # Reading alone does no harm.
    m.run("ebbtest mark-all 1")
    m.reboot()
    m.run("dd if=$(dev data0) of=/dev/null bs=1M count=8 2>/dev/null; load; attach data0 d0 map0 0")
    m.demand(recovery=CLEAN, resync_reasons=[])


def reasons_stay(m):
    """A reason that was there before a restart is there after it, until everything is marked."""
    m.run("load; attach data0 d0 map0 0 create")
    for stop in (m.power_cut, m.reboot):
        stop()
        m.run("load; attach data0 d0 map0 0")
        m.demand(resync_reasons=["NEW"])
    m.run("ebbtest mark-all 1 compare")
    m.demand(resync_reasons=[], suspect_blocks=16384)
    m.power_cut()
    m.run("load; attach data0 d0 map0 0")
    m.demand(resync_reasons=[], dirty_blocks=16384, suspect_blocks=16384, recovery=CRASH)
    m.reboot()
    m.run("load; attach data0 d0 map0 0")
    m.demand(resync_reasons=[], dirty_blocks=16384, suspect_blocks=16384, recovery=CLEAN)


def detached(m):
    """Detaching and unloading are declared gaps, in the same boot and in the next."""
    m.run("load; attach data0 d0 map0 0 create; ebbtest mark-all 1; ebbtest detach 1; rmmod ebb; "
          "load; attach data0 d0 map0 0")
    m.demand(resync_reasons=["DETACHED"])
    m.run("ebbtest mark-all 1; ebbtest detach 1; write $(dev data0) 3 1")
    m.power_cut()
    m.run("load; attach data0 d0 map0 0")
    m.demand(resync_reasons=["DETACHED"])


def own_map_equal(number):
    """The replica of data1 is it, and has nothing where the map is."""
    return (f"cmp -n $((102048 * 512)) /out/replica{number}.img $(dev data1) || fail differs; "
            f"cmp -n $((4096 * 512)) -i $((102048 * 512)):0 /out/replica{number}.img /dev/zero || "
            "fail \"not void\"")


def same_disk(m):
    """The map on a partition of the tracked disk: not tracked, zeros in the replica."""
    m.run("load; attach data1 d0 data1-2 0 create")
    m.replicate_first()
    m.run("write $(dev data1-1) 6000 5; sync")
    for turn in range(2):
        m.run(f"writing data1-1 {turn * 4000}+1500; replicating --interval 200; wait_for 300 closed 2; "
              "wait_for 300 hot || fail \"nothing is written\"")
        m.power_cut()
        m.run("load; attach data1 d0 data1-2 0")
        disk = m.demand(recovery=CRASH, resync_reasons=[], untracked_requests=0)
        if not 1 <= disk["hot_regions"] <= 20:
            raise Failure(f"{disk['hot_regions']} regions were hot")
        m.run(f"replicate --cuts 1; {own_map_equal(1)}; wait_for 300 all_cold || fail cold")
    m.reboot()
    m.run("load; attach data1 d0 data1-2 0")
    m.demand(recovery=CLEAN, resync_reasons=[], dirty_blocks=0)


def two_disks(m):
    """Two disks with their maps on one device, in one group."""
    m.run("load; attach data0 d0 map0 0 create; attach data1 d1 map0 8192 create; "
          "! ebbtest attach $(dev data1) d1 1 $(dev map0) 2048 4096 create 2>/dev/null")
    m.run("ebbtest mark-all 1; ebbtest mark-all 2; IDS=\"1 2\" replicate --initial --cuts 1; "
          "cold() { all_cold 1 && all_cold 2; }; wait_for 300 cold || fail cold")
    m.run("IDS=\"1 2\" replicating --interval 200; writing data0 100+800; writing data1 9000+900; "
          "wait_for 300 closed 3")
    m.power_cut()
    m.run("load; attach data1 d1 map0 8192; attach data0 d0 map0 0")
    m.demand(1, stable_id="d1", recovery=CRASH, resync_reasons=[])
    m.demand(2, stable_id="d0", recovery=CRASH, resync_reasons=[])
    os.rename(f"{m.out}/replica1.img", f"{m.out}/swap")
    os.rename(f"{m.out}/replica2.img", f"{m.out}/replica1.img")
    os.rename(f"{m.out}/swap", f"{m.out}/replica2.img")
    m.run("IDS=\"1 2\" replicate --cuts 1 --compare")


def share(m):
    """The main things in one machine: power cuts, an orderly reboot, a boot without the module; the map
    of one disk on a device of its own, that of the other on itself."""
    attach = "load; attach data0 d0 map0 0; attach data1 d1 data1-2 0"
    catch_up = ("IDS=\"1 2\" replicate --cuts 1; cmp /out/replica1.img $(dev data0) || fail differs; "
                f"{own_map_equal(2)}; cold() {{ all_cold 1 && all_cold 2; }}; wait_for 300 cold || fail cold")
    m.run("load; attach data0 d0 map0 0 create; attach data1 d1 data1-2 0 create; ebbtest mark-all 1; "
          f"ebbtest mark-all 2; IDS=\"1 2\" replicate --initial --cuts 1; {catch_up}")
    rng = random.Random(m.seed)
    for turn in range(2):
        # Cuts close whether or not the writers have begun.
        m.run(f"IDS=\"1 2\" replicating --interval 200; writing data0 {rng.randrange(12000)}+1500; "
              f"writing data1-1 {rng.randrange(10000)}+1500; wait_for 300 closed {turn + 2}; "
              "wait_for 300 hot 1 && wait_for 300 hot 2 || fail \"nothing is written\"")
        time.sleep(rng.random())
        m.power_cut()
        m.run(attach)
        for number in (1, 2):
            disk = m.demand(number, recovery=CRASH, resync_reasons=[], untracked_requests=0)
            if disk["recovered_blocks"] != disk["hot_regions"] * REGION or not 1 <= disk["hot_regions"] <= 20:
                raise Failure(f"not some whole regions: {disk}")
        m.run(catch_up)
    m.run("write $(dev data0) 1000 7; write $(dev data0) 9000 300; write $(dev data1-1) 6000 5; sync; "
          "ebbtest confirm 1 cookie-of-7; ebbtest witness 1 0 8 65536 16")
    before = m.demand(1, dirty_blocks=307, witnesses=3)
    m.reboot()
    m.run(attach)
    m.demand(1, recovery=CLEAN, resync_reasons=[], dirty_blocks=307, suspect_blocks=0, witnesses=3,
             map_uuid=before["map_uuid"], cookie=before["cookie"])
    m.demand(2, recovery=CLEAN, resync_reasons=[], dirty_blocks=5)
    m.run(f"{catch_up}; write $(dev data0) 5000 2")
    # After a seal that was used: all of the region, and not what the seal said.
    m.power_cut("drop")
    m.run(attach)
    m.demand(1, recovery=CRASH, resync_reasons=[], recovered_blocks=REGION, hot_regions=1)
    m.demand(2, recovery=CRASH, resync_reasons=[], recovered_blocks=0)
    m.run(f"{catch_up}; write $(dev data0) 8192 1; sync; {catch_up}; [ $(get 1 resync_reasons) = 0 ] || fail reasons")
    m.power_cut()
    # Behind the module's back: by a kernel without it.
    m.run("write $(dev data0) 8193 1; sync")
    m.halt()
    m.start()
    m.run(attach)
    m.demand(1, recovery=0, resync_reasons=["MAP_STALE"])
    m.demand(2, recovery=CRASH, resync_reasons=[])


STORIES = [crash, crash_armed, cooled, clean, clean_unflushed, wide, clean_in_an_epoch, writes_after_seal,
           map_gone_after_seal, writes_in_seal, late_in_seal, corrupt, failed, without_log, foreign, stale, stale_dirty, late,
           reasons_stay, detached, same_disk, two_disks, share]
CHECK = [crash, clean, stale, same_disk]


def tell(story, options):
    """True if it went as it should."""
    begun = time.monotonic()
    words = ""
    try:
        with Lab(f"restarts-{options.kernel}-{options.tag}{story.__name__}") as lab:
            machine = Machine(lab, options)
            story(machine)
            machine.end()
    except (Failure, LabError, GuestError, OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    print(f"{options.kernel} {story.__name__:20} {'failed' if words else 'passed'} "
          f"{time.monotonic() - begun:6.1f} s", flush=True)
    if words:
        # The first say what is wrong, the last what the machine did before.
        lines = words.splitlines()
        print("    " + "\n    ".join(lines[:8] + lines[8:][-32:]), flush=True)
    return not words


def story_inputs(name):
    """What one story depends on beside FILES: this file without the other stories."""
    with open(os.path.join(TOP, "tests/kmod/restarts.py"), encoding="utf-8") as file:
        text = file.read()
    stories = {story.__name__ for story in STORIES}
    lines, nodes = text.splitlines(), ast.parse(text).body
    own = next(node for node in nodes if getattr(node, "name", "") == name)
    left_out = stories - {name} - {word.id for word in ast.walk(own) if isinstance(word, ast.Name)}
    left_out |= {"STORIES", "CHECK"}
    kept = []
    for node in nodes:
        names = {getattr(node, "name", "")} | {getattr(t, "id", "") for t in getattr(node, "targets", ())}
        if not names & left_out:
            kept += lines[node.lineno - 1:node.end_lineno]
    return {"test": verdicts.hash_of("\n".join(kept))}


def passed_before(options, stories):
    """(the verdicts that are kept, {name of a story: when it passed})"""
    if not options.resume:
        return None, {}
    kept = verdicts.Verdicts(options.kernel, lambda: verdicts.shared_inputs(options.kernel, FILES), story_inputs)
    dates = {story.__name__: kept.earlier(story.__name__) for story in stories}
    return kept, {name: date for name, date in dates.items() if date}


def build(options):
    if options.resume:
        verdicts.build_tools()
    if not options.ko:
        out = f"build/kmod/{options.kernel}"
        tool("kmod.sh", options.kernel, os.path.join(TOP, "kmod"), os.path.join(TOP, out))
        options.ko = out + "/ebb.ko"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kernel", default="6.1")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--check", action="store_true", help="the share of make check alone")
    parser.add_argument("--ko", help="a module built already (path in the tree)")
    parser.add_argument("--tag", default="", help="keeps folders of runs apart")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="not those that have passed with the same inputs")
    options = parser.parse_args()
    if options.resume and (options.ko or options.seed != 1):
        parser.error("--resume is for the module of the tree and the first seed")
    stories = [s for s in (CHECK if options.check else STORIES)
               if not options.only or s.__name__ in options.only]
    kept, earlier = passed_before(options, stories)
    for name, date in earlier.items():
        print(verdicts.told(options.kernel, name, 20, date), flush=True)
    stories = [story for story in stories if story.__name__ not in earlier]
    if stories:
        build(options)
    passed = len(earlier)
    for story in stories:
        if tell(story, options):
            passed += 1
            if kept and not kept.keep(story.__name__):
                print("    the tree has changed since it began; not kept as passed", flush=True)
    wrong = len(stories) + len(earlier) - passed
    print(verdicts.summary(passed, wrong, len(earlier)))
    return 0 if passed and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
