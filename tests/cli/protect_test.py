# SPDX-License-Identifier: Apache-2.0
"""Listings, protection from its beginning to its end, and what is refused on the way."""
import json
import os
import pty
import subprocess

from agents import GIB, Agent, Source, Target, disk, refused
from control import PATIENCE, ControllerTest


class PairTest(ControllerTest):
    """A machine and a master target that have joined."""

    def setUp(self):
        super().setUp()
        self.source, self.target = Source(self.site), Target(self.site)
        self.source.target = self.target
        for agent in (self.target, self.source):
            agent.start()
            self.addCleanup(agent.stop)

    def protect(self, *more):
        """Protected and in sync."""
        begun = self.site.begin("protect", "shop", "--target", "vault", "--wait", *more)
        self.source.finish_sync()
        self.finish(begun)


class Listings(ControllerTest):
    def test_nothing_is_there(self):
        self.assertIn("No machine has joined", self.run_ctl().stdout)
        self.assertIn("No machine has joined", self.run_ctl("machines").stdout)
        self.assertIn("no jobs", self.run_ctl("jobs").stdout)
        for words in ((), ("machines",), ("disks",), ("targets",), ("retention",), ("jobs",)):
            self.assertEqual(self.ctl(*words), {"machines": [], "protections": [], "groups": [],
                                                "jobs": []})

    def test_who_has_joined_and_what_they_have(self):
        self.site.join("late")
        source, target = Source(self.site), Target(self.site)
        target.disks[1].update(usable=False, pci="15ad:07c0", reasons=[
            refused("E_DISK_PVSCSI", "sdl hangs off a paravirtual SCSI controller")])
        target.volumes.append({"path": "/boot/efi", "device": "/dev/sda1", "fs": "vfat",
                               "size": GIB, "available": GIB, "usable": False, "reasons": [
                                   refused("E_RETENTION_FAT", "/boot/efi is a FAT volume")]})
        for agent in (source, target):
            agent.start()
            self.addCleanup(agent.stop)
        machines = self.run_ctl("machines").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in machines],
                         ["MACHINE", "late", "shop", "vault"])
        self.assertIn("not registered", machines[1])
        self.assertIn("loaded", machines[2])
        disks = self.run_ctl("disks").stdout
        self.assertIn("naa.5000c29000000001", disks)
        self.assertIn("E_DISK_PVSCSI: sdl hangs off", disks)
        self.assertIn("1.0 GiB", disks)
        self.assertRegex(self.run_ctl("targets").stdout,
                         r"vault +here +ok +127.0.0.1:9443 +3 +2 +0 +1\n")
        retention = self.run_ctl("retention").stdout
        self.assertRegex(retention, r"/mnt/retention +xfs +100.0 GiB +90.0 GiB +yes")
        self.assertIn("E_RETENTION_FAT: /boot/efi is a FAT volume", retention)
        self.assertEqual(len(self.ctl("machines")["machines"]), 3)


class Protection(PairTest):
    def test_from_its_beginning_to_its_end(self):
        found = self.ctl("protect", "shop", "--target", "vault", "--dry-run")
        self.assertEqual(found["reasons"], [])
        self.assertEqual([d["target_id"][-2:] for d in found["disks"]], ["11", "12"])
        self.assertIn("Nothing stands against it",
                      self.run_ctl("protect", "shop", "--target", "vault", "--dry-run").stdout)
        self.assertIsNone(self.site.protection("shop"))

        begun = self.site.begin("protect", "shop", "--target", "vault", "--wait", "--interval",
                                "2.5")
        asked = self.source.asked("source.protect")
        self.assertEqual((asked["interval_ms"], asked["full"], len(asked["disks"])),
                         (2500, True, 2))
        self.source.sync(GIB)
        self.source.told()
        job = next(j for j in self.ctl("jobs")["jobs"])
        self.assertEqual((job["state"], job["bytes_done"], job["rate_bytes_per_s"]),
                         ("running", GIB, 64 << 20))
        shown = self.run_ctl().stdout
        self.assertIn("initial-sync", shown)
        self.assertRegex(shown, r"job 1 \[#+\.+\] +5\d%  protect shop: initial sync, 64.0 MiB/s, "
                                r"16 s left")
        self.assertEqual(self.codes("protect", "shop", "--target", "vault"),
                         ["E_PROTECTED", "E_JOB_RUNNING", "E_DISK_NO_TARGET"])
        self.source.finish_sync()
        lines = self.finish(begun).splitlines()
        self.assertIn("[####################] 100%", lines[-1])
        self.assertTrue(lines[-1].endswith(": done"), lines)

        self.assertEqual(self.site.protection("shop")["state"], "protected")
        self.assertEqual(self.site.protection("shop")["health"], "ok")
        job = self.ctl("checkpoint", "shop", "--name", "before-upgrade", "--wait")
        self.assertEqual((job["state"], job["value"]["epoch"]), ("done", 2))
        points = self.run_ctl("point", "list", "shop").stdout.splitlines()
        self.assertRegex(points[2], r"^2 +crash +20\d\d-.* before-upgrade ")
        self.assertEqual(len(self.ctl("point", "list", "shop")["points"]), 2)
        self.assertRegex(self.run_ctl("retention").stdout, r"shop +vault +/mnt/retention +2 ")
        self.assertRegex(self.run_ctl("targets").stdout, r" 3 +1 +2 +0\n")

        self.assertEqual(self.ctl("interval", "shop", "60")["interval_ms"], 60000)
        self.assertEqual(self.source.asked("source.interval")["interval_ms"], 60000)

        resync = self.site.begin("resync", "shop", "--full", "--wait")
        self.source.finish_sync()
        self.finish(resync)
        self.assertIn("source.stop", [kind for kind, _ in self.source.commands])

        self.assertEqual(self.ctl("disable", "shop", "--dry-run")["reasons"], [])
        self.assertEqual(self.ctl("disable", "shop", "--wait")["state"], "done")
        self.assertIsNone(self.site.protection("shop"))
        self.assertEqual((self.source.protections, self.target.protections), ({}, {}))
        self.assertEqual([j["kind"] for j in self.ctl("jobs")["jobs"]],
                         ["protect", "checkpoint", "resync", "disable"])
        self.assertIn("shop", self.run_ctl("jobs").stdout)

    def test_a_resync_needs_a_point_of_its_own(self):
        """What source and target said of the time before is no end of it."""
        self.protect()
        self.source.at_once = True
        watching = self.begin_and_watch("resync", "shop", "--full")
        ident = self.source.asked("source.stop")["protection"]
        self.source.until(lambda: ident in self.source.protections)
        for _ in range(2):
            self.source.told()
            self.target.told()
        self.assertEqual(self.site.job(2)["state"], "running")
        with self.source.lock:
            self.source.point(ident)
        self.finish(watching)

    def test_what_is_wanted_of_the_disks(self):
        self.source.disks.append(disk(3, size=4 * GIB, trackable=True))
        self.target.disks.append(disk(14, size=8 * GIB, usable=True))
        self.source.told()
        self.target.told()
        plan = ("protect", "shop", "--target", "vault", "--dry-run")
        by_size = self.ctl(*plan)["disks"]
        self.assertEqual([d["target_id"][-2:] for d in by_size], ["11", "12", "14"])
        chosen = self.ctl(*plan, "--exclude", "sda", "--exclude", "NAA.5000C29000000003",
                          "--disk", "sdb=naa.5000c29000000013")["disks"]
        self.assertEqual([(d["source_id"][-1], d["target_id"][-2:]) for d in chosen],
                         [("2", "13")])
        self.assertEqual(self.codes(*plan, "--exclude", "sdz"), ["E_DISK_NOT_FOUND"])
        self.assertEqual(self.codes(*plan, "--disk", "sdz=naa.5000c29000000013"),
                         ["E_DISK_NOT_FOUND"])
        self.assertEqual(self.codes(*plan, "--exclude", "sda", "--exclude", "sdb", "--exclude",
                                    "sdc"), ["E_NO_DISKS"])
        # A word that cannot be an id is told as what it is, in a dry run too.
        self.assertEqual(self.codes(*plan, "--exclude", "a/b"), ["E_INVALID"])

    def test_the_targets_own_word_is_told_whole(self):
        self.target.reasons = [
            refused("E_RETENTION_NOT_MOUNTED", "/mnt/retention is not a mounted volume"),
            refused("E_DISK_TOO_SMALL", "sdk has 1 bytes"),
            refused("E_DISK_HOLDS_DATA", "sdl holds data that is not Ebb's: xfs file system",
                    "Choose an empty disk, or allow it to be overwritten (--overwrite)")]
        want = ["E_RETENTION_NOT_MOUNTED", "E_DISK_TOO_SMALL", "E_DISK_HOLDS_DATA"]
        self.assertEqual(self.codes("protect", "shop", "--target", "vault"), want)
        dry = self.ctl("protect", "shop", "--target", "vault", "--dry-run", status=1)
        self.assertEqual([r["code"] for r in dry["reasons"]], want)
        said = self.run_ctl("protect", "shop", "--target", "vault")
        self.assertEqual(said.returncode, 1)
        for code in want:
            self.assertIn(code, said.stderr)
        self.assertIn("allow it to be overwritten (--overwrite).", said.stderr)
        self.assertNotIn("target.prepare", [kind for kind, _ in self.target.commands])
        self.assertEqual(self.ctl("jobs")["jobs"], [])
        # What the target finds only when it is asked to begin ends the job, and leaves nothing.
        self.target.reasons = []
        self.target.refusals["target.prepare"] = "E_DISK_IN_USE"
        job = self.ctl("protect", "shop", "--target", "vault", "--wait", status=4)
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "E_DISK_IN_USE"))
        self.assertIsNone(self.site.protection("shop"))
        said = self.run_ctl("protect", "shop", "--target", "vault", "--wait")
        self.assertEqual(said.returncode, 4)
        self.assertIn("E_DISK_IN_USE", said.stderr)

    def test_all_that_stands_against_it_at_once(self):
        self.source.module = {"loaded": False, "error": refused(
            "E_MODULE_NOT_LOADED", "the module ebb is not loaded", "Run modprobe ebb")}
        self.source.disks[0].update(trackable=False, stable_id="", reasons=[
            refused("E_DISK_NO_ID", "sda reports no stable id")])
        self.source.disks[1]["size"] = 64 * GIB
        self.source.told()
        self.assertEqual(self.codes("protect", "shop", "--target", "vault"),
                         ["E_MODULE_NOT_LOADED", "E_DISK_NO_ID", "E_DISK_NO_TARGET"])
        self.site.join("late")
        protect = ("protect", "late", "--target")
        self.assertEqual(self.codes(*protect, "nobody"),
                         ["E_AGENT_NOT_REGISTERED", "E_MACHINE_NOT_FOUND"])
        self.assertEqual(self.codes("protect", "vault", "--target", "shop"),
                         ["E_NOT_A_SOURCE", "E_NOT_A_TARGET"])
        self.assertEqual(self.codes("reprotect", "nobody", "--target", "vault"),
                         ["E_MACHINE_NOT_FOUND"])

    def test_cancelling_takes_everything_back(self):
        begun = self.site.begin("--json", "protect", "shop", "--target", "vault", "--wait")
        self.source.asked("source.protect")
        self.source.told()
        self.assertEqual(self.codes("cancel", "9"), ["E_JOB_NOT_FOUND"])
        job = self.ctl("cancel", "1", "--wait", status=4)
        self.assertEqual(job["state"], "cancelled")
        self.assertEqual(json.loads(self.finish(begun, 4))["error"]["code"], "E_CANCELLED")
        self.assertIsNone(self.site.protection("shop"))
        self.assertEqual((self.source.protections, self.target.protections), ({}, {}))
        self.assertEqual(self.codes("cancel", "1"), ["E_JOB_ENDED"])
        self.assertIn("cancelled", self.run_ctl("jobs").stdout)

    def test_no_cancelling_where_there_is_no_way_back(self):
        self.protect()
        self.target.held.add("target.disable")
        begun = self.site.begin("disable", "shop", "--wait")
        self.target.asked("target.disable")
        running = next(j["id"] for j in self.ctl("jobs")["jobs"] if j["state"] == "running")
        self.assertEqual(self.codes("cancel", str(running)), ["E_NOT_CANCELLABLE"])
        self.target.release()
        self.finish(begun)

    def test_two_at_once(self):
        """One of them is begun; the other one says why not."""
        both = [self.site.begin("--json", "protect", "shop", "--target", "vault")
                for _ in range(2)]
        results = []
        for process in both:
            out, _ = process.communicate(timeout=PATIENCE)
            results.append((process.returncode, json.loads(out)))
        self.assertEqual(sorted(status for status, _ in results), [0, 1])
        lost = next(value for status, value in results if status)
        self.assertIn("E_JOB_RUNNING", [r["code"] for r in lost.get("reasons", [lost["error"]])])
        self.source.finish_sync()
        self.assertEqual(self.ctl("job", "watch", "1")["state"], "done")
        self.target.held.add("target.disable")
        disabling = self.site.begin("disable", "shop", "--wait")
        self.target.asked("target.disable")
        for words in (("checkpoint", "shop"), ("resync", "shop", "--full"), ("disable", "shop")):
            self.assertIn("E_JOB_RUNNING", self.codes(*words))
        self.target.release()
        self.finish(disabling)
        self.assertEqual(self.codes("checkpoint", "shop"), ["E_NOT_PROTECTED"])

    def test_what_is_not_protected(self):
        for words in (("checkpoint",), ("failover",), ("commit",), ("disable",),
                      ("resync", "--full"), ("interval", "--seconds", "5")):
            command = (words[0], "shop", *words[1:])
            with self.subTest(command):
                self.assertEqual(self.codes(*command), ["E_NOT_PROTECTED"])
                self.assertEqual(self.codes(words[0], "nobody", *words[1:]),
                                 ["E_MACHINE_NOT_FOUND"])
                self.assertEqual(self.codes(words[0], "no/name", *words[1:]), ["E_INVALID"])
        self.assertEqual(self.codes("point", "list", "shop"), ["E_NOT_PROTECTED"])
        self.assertEqual(self.codes("protect", "a b", "--target", "vault"), ["E_INVALID"])
        self.assertEqual(self.codes("protect", "shop", "--target", "vault", "--retention", "rel"),
                         ["E_INVALID"])
        self.assertEqual(self.codes("token", "create", "--machine", "x", "--site", "-y"),
                         ["E_INVALID"])
        self.assertEqual(self.codes("token", "create", "--machine", "controller", "--site", "y"),
                         ["E_INVALID"])
        self.protect()
        self.assertEqual(self.codes("checkpoint", "shop", "--name", "a b"), ["E_INVALID"])
        self.assertEqual(self.codes("checkpoint", "shop", "--export", "rel"), ["E_INVALID"])
        self.assertEqual(self.codes("commit", "shop", "--dry-run"), ["E_STATE", "E_NO_PROVIDER"])
        self.assertEqual(self.codes("failover", "shop"), ["E_NO_PROVIDER"])

    def test_health_says_what_is_wrong(self):
        self.protect()
        ident = self.site.protection("shop")["id"]
        with self.source.lock:
            self.source.protections[ident].update(resync_required=["SG_IO"])
        self.source.told()
        found = self.site.protection("shop")
        self.assertEqual((found["health"], found["problems"][0]["code"]),
                         ("warning", "E_RESYNC_REQUIRED"))
        with self.target.lock:
            self.target.protections[ident].update(state="no-space", error=refused(
                "E_NO_SPACE", "/mnt/retention is full"))
        self.target.told()
        found = self.site.protection("shop")
        self.assertEqual(found["health"], "critical")
        self.assertEqual([p["code"] for p in found["problems"]],
                         ["E_NO_SPACE", "E_RESYNC_REQUIRED"])
        shown = self.run_ctl().stdout
        self.assertIn("shop: E_NO_SPACE: /mnt/retention is full", shown)
        with self.source.lock:
            self.source.protections.clear()
        self.source.told()
        self.assertIn("E_NOT_REPLICATING",
                      [p["code"] for p in self.site.protection("shop")["problems"]])

    def test_an_agent_that_fails_is_quoted(self):
        self.protect()
        self.source.refusals["source.checkpoint"] = "E_STALE"
        job = self.ctl("checkpoint", "shop", "--wait", status=4)
        self.assertEqual(job["error"], {"code": "E_STALE", "message": "as the test wants it",
                                        "remedy": "none is needed"})
        self.source.refusals["source.interval"] = "E_IO"
        self.assertEqual(self.codes("interval", "shop", "9"), ["E_IO"])
        self.assertNotEqual(self.site.protection("shop")["interval_ms"], 9000)

    def test_on_a_terminal_one_line_is_redrawn(self):
        ours, theirs = pty.openpty()
        begun = self.site.begin("protect", "shop", "--target", "vault")
        self.finish(begun)
        watching = subprocess.Popen(self.site.command("job", "watch", "1"), stdout=theirs,
                                    stdin=subprocess.DEVNULL)
        os.close(theirs)
        self.source.asked("source.protect")
        self.source.sync(GIB)
        self.source.told()
        self.source.finish_sync()
        text = b""
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:
                break
            text += data
        os.close(ours)
        self.assertEqual(watching.wait(PATIENCE), 0)
        self.assertIn(b"\r\x1b[K[", text)
        self.assertEqual(text.count(b"\n"), 1, text)
        self.assertIn(b"100%", text)


class Quiet(Agent):
    roles = ("source",)

    def status(self):
        return {}

    def run(self, kind, args):
        return {}


class Roles(ControllerTest):
    def test_a_source_that_says_nothing_of_itself(self):
        agent = Quiet(self.site, "mute").start()
        self.addCleanup(agent.stop)
        self.assertEqual(self.codes("protect", "mute", "--target", "mute"),
                         ["E_NOT_A_SOURCE", "E_NOT_A_TARGET"])
