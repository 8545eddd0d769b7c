# SPDX-License-Identifier: Apache-2.0
"""Failover and commit by the QEMU provider: real QEMU processes with disks, and nothing in them."""
import json
import os
import select
import signal
import subprocess
import tempfile

from agents import disk
from control import PATIENCE, Site, die_with_parent
from protect_test import PairTest

MIB = 1 << 20


class Machines:
    """shop in the cloud, the master target vault with two replicas, and shop-home, which is off."""

    def __init__(self, machine="shop", target="vault"):
        self.machine, self.target = machine, target
        self.folder = tempfile.mkdtemp(prefix="ebb-vm-", dir="/tmp")
        self.replicas = [self.path(f"replica{n}.raw") for n in range(2)]
        for name in self.replicas:
            with open(name, "wb") as out:
                out.truncate(MIB)

    def path(self, name):
        return os.path.join(self.folder, name)

    def command(self, name, *more):
        return ["qemu-system-x86_64", "-name", name, "-nodefaults", "-display", "none", "-machine",
                "pc", "-accel", "tcg", "-m", "16", "-daemonize", "-pidfile", self.path(name + ".pid"),
                "-qmp", f"unix:{self.path(name)}.qmp,server=on,wait=off",
                "-device", "lsi53c895a,id=lsi0", *more]

    @staticmethod
    def _disk(node, driver, name):
        return ["-blockdev", json.dumps({"driver": driver, "node-name": node,
                                         "file": {"driver": "file", "filename": name}}),
                "-device", f"scsi-hd,id=dev-{node},drive={node},bus=lsi0.0,share-rw=on"]

    def start(self, name):
        more = ["-S"]
        if name == self.target:
            for number, image in enumerate(self.replicas):
                more += self._disk(f"replica{number}", "raw", image)
        subprocess.run(self.command(name, *more), check=True, preexec_fn=die_with_parent)

    def pid(self, name):
        with open(self.path(name + ".pid"), encoding="ascii") as file:
            return int(file.read())

    def runs(self, name):
        try:
            with open(f"/proc/{self.pid(name)}/stat", encoding="ascii") as file:
                return ") Z " not in file.read()  # ended, and nobody has asked
        except (OSError, ValueError):
            return False

    def kill(self, name):
        """Returns when nothing of it is left."""
        try:
            watch = os.pidfd_open(self.pid(name))
        except (OSError, ValueError):
            return
        signal.pidfd_send_signal(watch, signal.SIGKILL)
        select.select([watch], [], [], PATIENCE)
        os.close(watch)

    def provider(self):
        def one(name, **more):
            return {"name": name, "qmp": self.path(name + ".qmp"),
                    "pid_file": self.path(name + ".pid"), **more}

        def disks(prefix, **more):
            return [{"stable_id": disk(11 + n)["stable_id"], "node": f"{prefix}{n}", "file": image,
                     "format": "raw", **more} for n, image in enumerate(self.replicas)]

        plug = {"driver": "scsi-hd", "bus": "lsi0.0", "share-rw": True}
        home, test = self.machine + "-home", self.machine + "-test"
        delta = self.path("delta")
        start = self.command(home)
        for number in range(2):
            start += self._disk(f"home{number}", "qcow2", f"{delta}/home{number}.qcow2")
        begin = self.command(test)
        for number in range(2):
            begin += self._disk(f"test{number}", "qcow2", f"{self.path('overlay')}/test{number}.qcow2")
        return {"machines": [one(self.machine),
                             one(self.target, disks=disks("replica", device=plug)),
                             one(home, start=start, delta_folder=delta, disks=disks("home")),
                             one(test, start=begin, delta_folder=self.path("overlay"),
                                 disks=disks("test"))]}

    def end(self):
        for name in (self.machine, self.target, self.machine + "-home", self.machine + "-test"):
            self.kill(name)
        subprocess.run(["rm", "-rf", self.folder], check=True)


class FailoverTest(PairTest):
    def setUp(self):
        self.machines = Machines()
        self.addCleanup(self.machines.end)
        self.qemu = self.provider()
        self.machines.start("shop")
        self.machines.start("vault")
        super().setUp()
        self.source.on_shutdown = lambda: self.machines.kill("shop")

    def provider(self):
        return self.machines.provider()

    def state(self):
        return self.site.protection("shop")["state"]


class Points(FailoverTest):
    def setUp(self):
        super().setUp()
        self.protect()
        for name in ("before-upgrade", "after-upgrade"):
            self.ctl("checkpoint", "shop", "--name", name, "--wait")

    def test_failover_to_a_point_with_a_name(self):
        found = self.ctl("failover", "shop", "--point", "before-upgrade", "--dry-run")
        self.assertEqual((found["reasons"], found["point"]["epoch"]), ([], 2))
        job = self.ctl("failover", "shop", "--point", "before-upgrade", "--wait")
        self.assertEqual((job["state"], job["value"]["point"]["epoch"]), ("done", 2))
        self.assertEqual(self.target.asked("target.failover")["point"], "2")
        self.assertEqual(self.state(), "commit-pending")

    def test_failover_to_the_newest_that_is_application_consistent(self):
        self.ctl("checkpoint", "shop", "--app", "--wait")
        self.ctl("checkpoint", "shop", "--wait")
        found = self.ctl("failover", "shop", "--point", "latest-app", "--dry-run")
        self.assertEqual((found["reasons"], found["point"]["epoch"], found["point"]["kind"]),
                         ([], 4, "app"))
        job = self.ctl("failover", "shop", "--point", "latest-app", "--wait")
        self.assertEqual((job["state"], job["value"]["point"]["epoch"]), ("done", 4))

    def test_a_point_that_is_not_there_changes_nothing(self):
        for words in ("nonsense", "99", "2001-01-01 00:00:00Z", "latest-app"):
            self.assertEqual(self.codes("failover", "shop", "--point", words), ["E_NO_POINT"])
        for words in ("two words", "2026-11-21 09:30:00", "-x"):
            self.assertEqual(self.codes("failover", "shop", "--point=" + words), ["E_INVALID"])
        self.assertTrue(self.machines.runs("shop"))
        self.assertEqual(self.state(), "protected")

    def test_another_point_before_the_commit(self):
        self.assertEqual(self.codes("change-point", "shop", "--point", "latest"), ["E_STATE"])
        self.assertEqual(self.codes("change-point", "shop", status=2), ["E_USAGE"])
        self.ctl("failover", "shop", "--wait")
        first = self.machines.pid("shop-home")
        self.assertEqual(self.codes("change-point", "shop", "--point", "never"), ["E_NO_POINT"])
        found = self.ctl("change-point", "shop", "--point", "2", "--dry-run")
        self.assertEqual((found["reasons"], found["point"]["name"]), ([], "before-upgrade"))
        self.assertEqual(self.machines.pid("shop-home"), first)
        job = self.ctl("change-point", "shop", "--point", "before-upgrade", "--wait")
        self.assertEqual((job["state"], job["value"]["point"]["epoch"]), ("done", 2))
        self.assertEqual(self.state(), "commit-pending")
        self.assertTrue(self.machines.runs("shop-home"))
        self.assertNotEqual(self.machines.pid("shop-home"), first)
        self.assertEqual(self.target.asked("target.failover")["session"], 2)
        self.assertEqual(self.ctl("commit", "shop", "--wait")["state"], "done")

    def test_a_change_that_failed_goes_on_with_the_next(self):
        self.ctl("failover", "shop", "--wait")
        self.target.refusals["target.failover"] = "E_NO_SPACE"
        job = self.ctl("change-point", "shop", "--point", "2", "--wait", status=4)
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "E_NO_SPACE"))
        self.assertEqual(self.state(), "failing-over")
        self.assertFalse(self.machines.runs("shop-home"))
        del self.target.refusals["target.failover"]
        job = self.ctl("change-point", "shop", "--point", "latest", "--wait")
        self.assertEqual((job["state"], job["value"]["point"]["epoch"]), ("done", 3))
        self.assertEqual(self.state(), "commit-pending")

    def test_the_journal_is_verified_while_all_goes_on(self):
        job = self.ctl("retention", "verify", "shop", "--wait")
        self.assertEqual((job["state"], job["value"]["points"]), ("done", 3))
        self.assertIn("nothing is missing", job["step"])
        self.target.refusals["target.verify"] = "E_CORRUPT"
        job = self.ctl("retention", "verify", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_CORRUPT")

    def test_ages_are_drawn(self):
        lines = self.run_ctl("point", "list", "shop").stdout.splitlines()
        self.assertTrue(any(line.startswith("AGE ") and "*" in line for line in lines), lines)


class Failover(FailoverTest):
    def test_one_machine_comes_home(self):
        self.protect()
        found = self.ctl("failover", "shop", "--dry-run")
        self.assertEqual((found["reasons"], found["point"]["epoch"], found["rollback_bytes"]),
                         ([], 1, 4096))
        self.assertIn("The point would be epoch 1",
                      self.run_ctl("failover", "shop", "--dry-run").stdout)
        self.assertTrue(self.machines.runs("shop"))
        job = self.ctl("failover", "shop", "--wait")
        self.assertEqual((job["state"], job["value"]["point"]["epoch"]), ("done", 1))
        self.assertTrue(job["source_off"].startswith("proved: the hypervisor"), job["source_off"])
        self.assertEqual(self.state(), "commit-pending")
        self.assertEqual([self.machines.runs(n) for n in ("shop", "shop-home")], [False, True])
        self.assertEqual(self.target.asked("target.failover")["session"], 2)
        self.assertEqual(len(self.target.asked("target.forget")["disks"]), 2)
        for words in (("failover", "shop"), ("checkpoint", "shop"), ("resync", "shop", "--full")):
            self.assertIn("E_STATE", self.codes(*words))

        self.assertEqual(self.ctl("commit", "shop", "--dry-run")["reasons"], [])
        self.assertTrue(os.path.exists(self.machines.path("delta/home0.qcow2")))
        self.assertEqual(self.ctl("commit", "shop", "--wait")["state"], "done")
        self.assertEqual(self.state(), "failed-back")
        self.assertFalse(os.path.exists(self.machines.path("delta/home0.qcow2")))
        self.assertTrue(self.machines.runs("shop-home"))
        self.assertEqual(self.target.protections, {})
        self.assertEqual(self.ctl("point", "list", "shop")["points"], [])
        for words in (("failover", "shop"), ("commit", "shop"),
                      ("protect", "shop", "--target", "vault")):
            self.assertIn("E_STATE", self.codes(*words))

        begun = self.site.begin("reprotect", "shop", "--target", "vault", "--wait")
        self.source.until(lambda: len(self.source.protections) == 1 and any(
            p["state"] == "initial-sync" for p in self.source.protections.values()))
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.state(), "protected")
        self.assertEqual(len(self.ctl()["protections"]), 1)

    def test_a_source_that_does_not_obey_is_forced(self):
        self.protect()
        self.source.refusals["source.shutdown"] = "E_IO"
        job = self.ctl("failover", "shop", "--wait")
        self.assertIn("forced", job["source_off"])
        self.assertFalse(self.machines.runs("shop"))
        # Nothing runs at home any more: there is nothing to merge.
        self.machines.kill("shop-home")
        self.assertEqual(self.codes("commit", "shop"), ["E_HOME_NOT_RUNNING"])

    def test_a_source_that_is_gone(self):
        self.protect("--cloud-vm", "elsewhere")
        self.assertEqual(self.codes("failover", "shop"), ["E_MACHINE_UNKNOWN"])
        self.source.stop()
        job = self.ctl("failover", "shop", "--source-unreachable", "--wait")
        self.assertIn("unreachable", job["source_off"])
        self.assertEqual(self.state(), "commit-pending")

    def test_what_stands_against_it(self):
        begun = self.site.begin("protect", "shop", "--target", "vault", "--wait", "--target-vm",
                                "nowhere")
        self.source.asked("source.protect")
        self.target.told()
        self.machines.start("shop-home")
        self.assertEqual(self.codes("failover", "shop"), [
            "E_NO_POINT", "E_JOB_RUNNING", "E_HOME_RUNS", "E_MACHINE_UNKNOWN"])
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.codes("failover", "shop", "--dry-run"),
                         ["E_HOME_RUNS", "E_MACHINE_UNKNOWN"])
        self.machines.kill("shop-home")
        with open(self.machines.path("shop-home.pid"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))  # something runs, and nobody can tell what
        self.assertEqual(self.codes("failover", "shop"), ["E_POWER_UNKNOWN", "E_MACHINE_UNKNOWN"])
        os.unlink(self.machines.path("shop-home.pid"))
        self.assertEqual(self.state(), "protected")
        self.assertTrue(self.machines.runs("shop"))

    def test_a_replica_that_cannot_be_used(self):
        """It is refused while the source runs, not found out when it does not any more."""
        self.protect()
        ident = self.site.protection("shop")["id"]
        disks = list(self.target.disks)
        with self.target.lock:
            self.target.disks = disks[1:]
        self.target.told()
        self.assertEqual(self.codes("failover", "shop"), ["E_DISK_NOT_FOUND"])
        with self.target.lock:
            self.target.disks = disks
            self.target.protections[ident].update(state="error", error={
                "code": "E_IO", "message": "a replica cannot be read", "remedy": ""})
        self.target.told()
        self.assertEqual(self.codes("failover", "shop"), ["E_IO"])
        # A full volume pauses replication; the newest point is as good as ever.
        with self.target.lock:
            self.target.protections[ident].update(state="no-space", error={
                "code": "E_NO_SPACE", "message": "the volume is full", "remedy": ""})
        self.target.told()
        self.assertEqual(self.ctl("failover", "shop", "--dry-run")["reasons"], [])
        with self.target.lock:
            kept = self.target.protections.pop(ident)
        self.target.told()
        self.assertEqual(self.codes("failover", "shop"), ["E_NOT_REPLICATING"])
        with self.target.lock:
            self.target.protections[ident] = kept
        self.target.told()
        # What the status does not tell, the target itself does.
        self.target.refusals["target.points"] = "E_BUSY"
        job = self.ctl("failover", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_BUSY")
        self.assertTrue(self.machines.runs("shop"))
        self.assertNotIn("source.shutdown", [kind for kind, _ in self.source.commands])
        self.assertEqual(self.state(), "protected")

    def test_the_target_fails_in_the_middle(self):
        self.protect()
        self.target.refusals["target.failover"] = "E_CORRUPT"
        job = self.ctl("failover", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_CORRUPT")
        self.assertEqual(self.state(), "protected")
        self.target.refusals.clear()
        self.assertEqual(self.ctl("failover", "shop", "--wait")["state"], "done")


class Killed(FailoverTest):
    def interrupted(self, agent, kind, *words):
        """The controller is killed while an agent works on this command."""
        agent.held.add(kind)
        begun = self.begin_and_watch(*words)
        agent.asked(kind)
        self.site.kill()
        self.site.start()
        out, err = begun.communicate(timeout=PATIENCE)
        self.assertEqual(begun.returncode, 4, out + err)
        self.assertIn("E_INTERRUPTED", err)
        agent.release()
        for each in (self.source, self.target):
            each.told()

    def test_before_the_target_has_rolled_back(self):
        self.protect()
        self.interrupted(self.target, "target.failover", "failover", "shop")
        self.assertEqual(self.state(), "protected")
        self.assertEqual(self.ctl("failover", "shop", "--wait")["state"], "done")
        self.assertEqual(self.state(), "commit-pending")

    def test_after_the_target_has_rolled_back(self):
        self.protect()
        self.interrupted(self.target, "target.forget", "failover", "shop")
        found = self.site.protection("shop")
        self.assertEqual((found["state"], found["health"]), ("failing-over", "warning"))
        self.assertIn("ebbctl failover shop", self.run_ctl().stdout)
        self.assertIn("E_STATE", self.codes("checkpoint", "shop"))
        self.assertEqual(self.ctl("failover", "shop", "--wait")["state"], "done")
        self.assertEqual([k for k, _ in self.target.commands].count("target.failover"), 1)
        self.assertTrue(self.machines.runs("shop-home"))

    def test_in_the_middle_of_a_change_of_the_point(self):
        self.protect()
        self.ctl("checkpoint", "shop", "--name", "before-upgrade", "--wait")
        self.ctl("checkpoint", "shop", "--wait")
        self.ctl("failover", "shop", "--wait")
        self.target.commands.clear()
        self.interrupted(self.target, "target.failover", "change-point", "shop", "--point", "2")
        self.assertEqual(self.state(), "failing-over")
        # The disks may be anywhere: it goes on to the point that was wanted.
        self.assertEqual(self.ctl("failover", "shop", "--wait")["value"]["point"]["epoch"], 2)
        self.assertEqual(self.state(), "commit-pending")
        self.assertTrue(self.machines.runs("shop-home"))

    def test_in_the_middle_of_a_commit(self):
        self.protect()
        self.ctl("failover", "shop", "--wait")
        self.interrupted(self.target, "target.commit", "commit", "shop")
        self.assertEqual(self.state(), "commit-pending")
        self.assertTrue(self.machines.runs("shop-home"))
        self.assertEqual(self.ctl("commit", "shop", "--wait")["state"], "done")
        self.assertEqual(self.state(), "failed-back")


class BadProvider(FailoverTest):
    def test_what_is_wrong_is_said_at_the_start(self):
        for qemu in ({}, {"machines": 1}, {"machines": [{"name": "x"}]},
                     {"machines": [{"name": "x", "qmp": 5}]}):
            with self.subTest(qemu):
                site = Site(qemu)
                self.addCleanup(site.end)
                with self.assertRaisesRegex(AssertionError, "E_INVALID"):
                    site.start()
