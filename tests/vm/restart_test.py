#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""restart_test.py [--share] [BUILD_DIR]: the source restarts, in order and by power cuts, and goes on
by deltas; whatever happened behind the module's back is found, named and made good. `--share`: what
`make check` does. EBB_RESTART_ONLY=NAME,... chooses; EBB_RESTART_INITRAMFS=dracut boots by another one."""
import os
import re
import subprocess
import sys

from app_points import at_freeze, begin_point, end_point, made
from replication import SIZE, WWN_SOURCE, test
from restart import MIB, RestartPair

GRUBENV = "/boot/grub/grubenv"
WWN_HOME = WWN_SOURCE + 0x2000


def begin(pair, tally):
    pair.protect()
    tally.say("protected; initial sync is done")
    tally.check("the initramfs is known to attach what is protected",
                "E_INITRAMFS_OLD" not in pair.health(), pair.health())
    pair.compare(tally, "initial sync")
    # Regions of the initial sync go cold after further confirmations.
    settle(pair)


def settle(pair):
    """Confirmations until little is hot."""
    for turn in range(3):
        pair.control.job("checkpoint", "source", "--name", f"settle-{turn}")


def expect_attached(pair, tally, what, word):
    log = pair.attach_log()
    tally.check(f"{what}: both disks are attached in the initramfs, {word}", log.count(word) == 2, log)


def goes_on(pair, tally, what, limit):
    """The daemon starts; a cut closes after at most so many bytes; all is equal, nothing was named."""
    sent = pair.sent_bytes()
    pair.start_daemon(pair.source)
    pair.until("the source goes on", lambda: pair.source_status()["state"] == "replicating")
    pair.checkpoint(what + " after")
    sent = pair.sent_bytes() - sent
    tally.check(f"{what}: only deltas have travelled", sent < limit, f"{sent} bytes")
    tally.check(f"{what}: no reason for a resync", not pair.source_status()["resync_required"],
                pair.source_status())
    tally.say(f"{what}: {sent} bytes sent")
    pair.compare(tally, what)


def clean_reboot(pair, tally):
    """Writes after the daemon has stopped and before it starts again."""
    pair.stop_daemon()
    pair.write(0, 0, 2)
    pair.write(1, 10, 3)
    lost = pair.reboot()
    tally.say(f"clean reboot: {lost} sectors lost")
    expect_attached(pair, tally, "clean reboot", "map sealed")
    pair.write(0, 0, 1)
    pair.write(1, 40, 1)
    goes_on(pair, tally, "clean reboot", 20 * MIB)


def power_cut(pair, tally, seed=7):
    """In the middle of fio's writes, with the daemon at work."""
    settle(pair)
    pair.source.spawn(f"fio --name=cut --filename={pair.dev(1)} --rw=randwrite --bs=4k --direct=1 --size=4m "
                      "--offset=20m --time_based --runtime=600 --fsync=16 --rate_iops=200 --refill_buffers >/dev/null")
    done = pair.source_status()["cuts_closed"]
    pair.until("cuts under fio", lambda: pair.source_status()["cuts_closed"] >= done + 2)
    pair.source_disks[1].arm("flush", 3, pair.source.process.pid)
    pair.source.process.wait(300)
    lost = pair.cut(seed)
    tally.say(f"power cut: {lost} sectors lost")
    expect_attached(pair, tally, "power cut", "map in use at a crash")
    # The system's regions and those of fio, not both disks.
    goes_on(pair, tally, "power cut", 60 * MIB)


def gap(pair, tally, what, reason):
    """The daemon starts, names the reason with its remedy, and all is equal again."""
    pair.start_daemon(pair.source)
    words = []

    def named():
        words.append(pair.health())
        return any(why.endswith(reason) for why in pair.source_status()["resync_required"])

    try:
        pair.until(f"{reason} is named", named, 600)
    except TimeoutError as error:
        tally.check(f"{what}: {reason} is named", False, str(error))
    pair.checkpoint(what + " gap")
    words.append(pair.health())
    tally.check(f"{what}: ebbctl names {reason}, with a remedy",
                any(f"({reason})" in text for text in words), words[-1])
    pair.compare(tally, what)
    settle(pair)
    tally.say(f"{what}: {reason}, and equal again")


def edit(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def boot_without_module(pair, tally):
    """Another kernel command line: the module is not loaded, and the daemon runs all the same."""
    pair.stop_daemon()
    append = pair.source.append
    pair.source.append += " module_blacklist=ebb"
    pair.reboot()
    pair.start_daemon(pair.source)
    pair.write(1, 50, 1)
    pair.stop_daemon()
    pair.source.append = append
    pair.reboot()
    gap(pair, tally, "boot without the module", "boot-without-module")


def grub_environment(pair, tally):
    """Changed by the boot loader, on the medium."""
    pair.stop_daemon()
    place = int(pair.source.run(f"sync; filefrag -b4096 -v {GRUBENV} | awk '$1 == \"0:\" {{print $4 + 0}}'")
                .output)
    start = int(pair.source.run("cat /sys/class/block/sd?1/start").output) * 512
    pair.reboot(lambda: edit(pair.source_images[0], start + place * 4096 + 24, b"next_entry=1\n"))
    gap(pair, tally, "grub's environment", "map-stale")


def keep(pair, name, *numbers):
    for number in numbers:
        copy = f"{pair.source_images[number]}.{name}"
        subprocess.run(["cp", "--sparse=always", pair.source_images[number], copy], check=True)


def put_back(pair, name, *numbers):
    for number in numbers:
        copy = f"{pair.source_images[number]}.{name}"
        subprocess.run(["cp", "--sparse=always", copy, pair.source_images[number]], check=True)
        os.unlink(copy)


def older_machine(pair, tally):
    """A snapshot of the whole machine, disks and map, is restored."""
    pair.stop_daemon()
    pair.reboot(lambda: keep(pair, "older", 0, 1))
    pair.start_daemon(pair.source)
    pair.write(1, 30, 2)
    pair.write(0, 0, 1)
    for turn in range(2):
        pair.control.job("checkpoint", "source", "--name", f"newer-{turn}")
    pair.stop_daemon()
    pair.reboot(lambda: put_back(pair, "older", 0, 1))
    gap(pair, tally, "older machine", "map-out-of-step")


def older_disk(pair, tally):
    """A snapshot of the data disk alone: its partition table has changed since."""
    pair.stop_daemon()
    pair.reboot(lambda: keep(pair, "older", 1))
    pair.source.run(f"printf 'label: gpt\\n' | sfdisk -q --force {pair.dev(1)}; sync")
    pair.start_daemon(pair.source)
    settle(pair)
    pair.stop_daemon()
    pair.reboot(lambda: put_back(pair, "older", 1))
    gap(pair, tally, "older disk", "map-stale")


def older_map(pair, tally):
    """A snapshot of the map partition alone."""
    pair.stop_daemon()
    (first, length), *rest = pair.areas()
    end = max(start + size for start, size in [(first, length), *rest])
    kept = {}

    def read():
        with open(pair.source_images[0], "rb") as file:
            file.seek(first)
            kept["map"] = file.read(end - first)

    pair.reboot(read)
    pair.start_daemon(pair.source)
    pair.write(1, 5, 2)
    settle(pair)
    pair.stop_daemon()
    pair.reboot(lambda: edit(pair.source_images[0], first, kept["map"]))
    gap(pair, tally, "older map", "map-out-of-step")


def lost_map(pair, tally):
    """The map areas are overwritten."""
    pair.stop_daemon()
    areas = pair.areas()

    def destroy():
        for start, length in areas:
            edit(pair.source_images[0], start, os.urandom(length))

    pair.reboot(destroy)
    gap(pair, tally, "lost map", "map-lost")


def lost_directory(pair, tally):
    """So nothing is attached in the initramfs."""
    pair.stop_daemon()
    start = min(start for start, _ in pair.areas()) - MIB

    def destroy():
        for copy in (0, MIB // 2):
            edit(pair.source_images[0], start + copy + 300, os.urandom(64))

    pair.reboot(destroy)
    gap(pair, tally, "lost directory", "not-attached-at-boot")


def swapped_disk(pair, tally):
    """Another disk in the place of the data disk, with its id: written elsewhere."""
    pair.stop_daemon()
    pair.reboot(lambda: edit(pair.source_images[1], 0, os.urandom(SIZE // 4)))
    gap(pair, tally, "swapped disk", "map-stale")


def crash_kernel(pair, tally):
    """A crash kernel has written a dump, and booted the machine again."""
    pair.stop_daemon()
    pair.source.run("mkdir -p /var/crash/202611211200 && echo core >/var/crash/202611211200/dump.1 && sync")
    pair.reboot()
    gap(pair, tally, "crash kernel", "kdump")


def replica_with_map(pair, tally):
    """The replicas become disks of a machine of their own, with other ids; and then the map of their source
    is put where that machine has its own."""
    what = "replica with its source's map"
    pair.stop_daemon()
    areas = pair.areas()
    kept = []

    def recover():
        with open(pair.source_images[0], "rb") as file:
            for start, length in areas:
                file.seek(start)
                kept.append(file.read(length))
        for number, size in enumerate(pair.sizes):
            subprocess.run(["cp", "--sparse=always", pair.disks[number].image,
                            pair.source_images[number]], check=True)
            os.truncate(pair.source_images[number], size)
        pair.give_ids(WWN_HOME)

    pair.reboot(recover)
    log = pair.attach_log()
    tally.check(f"{what}: nothing is attached by the ids of its source",
                log.count("E_DISK_NOT_FOUND") >= 2 and "attached" not in log, log)
    pair.start_daemon(pair.source)
    pair.until("the protection of the source's disks is in error",
               lambda: "E_DISK_NOT_FOUND" in pair.health())
    # It is protected in its own right, and at first its initramfs knows nothing of that.
    pair.control.job("disable", "source")
    pair.control.ctl("protect", "source", "--target", "target", "--interval", "2", "--overwrite",
                     *pair.pairs())
    pair.until_protected()
    tally.check(f"{what}: ebbctl says that the initramfs is old", "E_INITRAMFS_OLD" in pair.health(),
                pair.health())
    pair.compare(tally, f"{what}, protected")
    pair.new_initramfs()
    pair.until("the initramfs is not old any more", lambda: "E_INITRAMFS_OLD" not in pair.health())
    settle(pair)
    pair.stop_daemon()
    pair.reboot()
    expect_attached(pair, tally, what, "map sealed")
    goes_on(pair, tally, what, 20 * MIB)
    tally.check(f"{what}: the areas are where the source had its own", pair.areas() == areas,
                f"{pair.areas()}, {areas}")
    pair.stop_daemon()
    pair.reboot(lambda: [edit(pair.source_images[0], start, data)
                         for (start, _), data in zip(areas, kept)])
    expect_attached(pair, tally, what, "map-foreign")
    gap(pair, tally, what, "map-foreign")


def rescued(pair, script):
    """Another system, without Ebb, boots with the source's data disk, as a rescue medium would."""
    other = pair.lab.vm("rescue", mem=512, udev=True, modprobe=["dm_mod", "ext4", "xfs"], timeout=1800)
    other.disk(pair.source_images[1], "virtio-scsi")
    other.start()
    other.run(f"set -e; vgchange -q -ay data; {script}; sync; vgchange -q -an data", 300)
    other.halt()


def witnesses(pair):
    """How many blocks of all disks bear witness."""
    tool = pair.inside(pair.build) + "/tests/kmod/ebbtest"
    return sum(map(int, re.findall(r'"witnesses":(\d+)', pair.source.run(f"{tool} list").output)))


def volumes(pair, tally):
    """The data disk is a physical volume: what mounts a file system of it does not write to that."""
    what = "volumes"
    before = witnesses(pair)
    pair.source.run(f"set -e; modprobe dm_mod; wipefs -qa {pair.dev(1)}; pvcreate -q -y -ff {pair.dev(1)}; "
                    "vgcreate -q data $(realpath " + pair.dev(1) + "); "
                    "lvcreate -q -y -Wn -Zn -L20m -n files data; mkfs.ext4 -q /dev/data/files; "
                    "lvcreate -q -y -Wn -Zn -L32m -n orders data; "
                    "mkfs.xfs -q -K --unsupported /dev/data/orders; "
                    "mkdir -p /mnt/files && mount /dev/data/files /mnt/files")
    # Of each volume the first, second and seventeenth block.
    pair.until("the volumes bear witness", lambda: witnesses(pair) >= before + 6)
    settle(pair)
    pair.stop_daemon()
    pair.source.run("dd if=/dev/urandom of=/mnt/files/own bs=1M count=2 status=none; sync")
    pair.reboot()
    expect_attached(pair, tally, what, "map sealed")
    use = "modprobe dm_mod; vgchange -q -ay data && mount /dev/data/files /mnt/files"
    pair.source.run(use)
    goes_on(pair, tally, what, 20 * MIB)
    for volume in ("files", "orders"):
        settle(pair)
        pair.stop_daemon()
        pair.source.run("umount /mnt/files; vgchange -q -an data")
        pair.reboot(lambda: rescued(pair, f"mount /dev/data/{volume} /mnt; head -c 1M /dev/urandom >/mnt/theirs; "
                                          "umount /mnt"))
        pair.source.run(use)
        gap(pair, tally, f"{what}: {volume} was written to elsewhere", "map-stale")


def frozen_root(pair, tally):
    """What is frozen has the daemon's own state on it, its log, and all tools."""
    what = "frozen root"
    # As systemd has /run: in memory.
    pair.source.run("mkdir -p /run/ebb; mountpoint -q /run/ebb || mount -t tmpfs tmpfs /run/ebb; "
                    f"wipefs -qa {pair.dev(1)}; mkfs.ext4 -q -F {pair.dev(1)}; mkdir -p /mnt/data; "
                    f"mount {pair.dev(1)} /mnt/data")
    job = made(pair)
    tally.check(f"{what}: an application-consistent point", job["state"] == "done", job.get("error"))
    before = pair.source_status()["closed_epoch"]
    assassin = at_freeze(pair, "KILL", "all")
    # Freezing one takes as long as writing that out, and the other is frozen meanwhile.
    pair.source.run("for top in /srv /mnt/data; do dd if=/dev/urandom of=$top/dirty bs=1M count=12; done")
    ident = begin_point(pair)
    done = assassin.wait(400, check=False)
    tally.check(f"{what}: all die while it is", "hit" in done.output, done.output)
    # Nobody is left; as the unit's ExecStopPost does.
    pair.source.run("/usr/sbin/ebb-freeze --thaw", 120)
    pair.source.run("for top in /srv /mnt/data; do echo alive >$top/alive && sync -f $top/alive; done", 120)
    pair.start_daemon(pair.source)
    pair.until(f"{what}: replication goes on",
               lambda: pair.source_status()["closed_epoch"] > before + 1, 400)
    end_point(pair, ident)
    again = made(pair)
    tally.check(f"{what}: the next one is made", again["state"] == "done", again.get("error"))
    pair.source.run("umount /mnt/data")
    pair.compare(tally, what)


SHARE = [clean_reboot, power_cut]
GAPS = [boot_without_module, grub_environment, older_machine, older_disk, older_map, lost_map,
        lost_directory, swapped_disk, crash_kernel, replica_with_map, frozen_root,
        volumes]


def end(_pair, tally):
    tally.say("end")


if __name__ == "__main__":
    events = SHARE + GAPS
    if "--share" in sys.argv:
        sys.argv.remove("--share")
        events = SHARE
    only = os.environ.get("EBB_RESTART_ONLY")
    if only:
        events = [event for event in events if event.__name__ in only.split(",")]
    sys.exit(test("restart", events, begin=begin, make=RestartPair, end=end))
