# SPDX-License-Identifier: Apache-2.0
"""Back to replication after a failover, by the QEMU provider."""
import os
import select
import uuid

from control import PATIENCE
from failover_test import FailoverTest


class RollbackTest(FailoverTest):
    source_can_start = True

    def setUp(self):
        super().setUp()
        self.protect()
        self.ctl("checkpoint", "shop", "--name", "before-upgrade", "--wait")

    def provider(self):
        found = super().provider()
        if self.source_can_start:
            found["machines"][0]["start"] = self.machines.command("shop", "-S")
        return found

    def boot_source(self):
        """Its agent, as it is after a boot."""
        with self.source.lock:
            self.source.incarnation = str(uuid.uuid4())
            self.source.protections.clear()

    def roll_back(self):
        """The source is up again, and has been told what to do; the command that waits."""
        for agent in (self.source, self.target):
            agent.commands.clear()
        begun = self.site.begin("rollback", "shop", "--wait")
        self.target.asked("target.resume")
        self.boot_source()
        self.source.asked("source.protect")
        return begun

    def home_is_gone(self):
        self.assertFalse(self.machines.runs("shop-home"))
        self.assertFalse(os.path.exists(self.machines.path("delta/home0.qcow2")))


class Rollback(RollbackTest):
    def test_back_and_over_again(self):
        self.ctl("failover", "shop", "--point", "1", "--wait")
        self.assertFalse(self.machines.runs("shop"))
        self.assertEqual(self.ctl("rollback", "shop", "--dry-run")["reasons"], [])
        begun = self.roll_back()
        self.home_is_gone()
        self.assertTrue(self.machines.runs("shop"))
        asked = self.source.asked("source.protect")
        self.assertEqual((asked["session"], asked["full"], asked["compare"]), (2, True, True))
        self.assertEqual(self.state(), "initial-sync")
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.state(), "protected")
        self.assertEqual(self.site.protection("shop")["health"], "ok")
        self.assertEqual(len(self.ctl("point", "list", "shop")["points"]), 3)
        # What replicates now is fenced by the next one.
        self.assertEqual(self.ctl("failover", "shop", "--wait")["value"]["point"]["epoch"], 3)
        self.assertEqual(self.target.asked("target.failover")["session"], 3)
        self.assertTrue(self.machines.runs("shop-home"))
        self.assertEqual(self.ctl("commit", "shop", "--wait")["state"], "done")
        self.assertEqual(self.codes("rollback", "shop"), ["E_STATE"])

    def test_there_is_nothing_to_roll_back(self):
        self.assertEqual(self.codes("rollback", "shop"), ["E_STATE"])
        self.assertEqual(self.codes("rollback", "nobody"), ["E_MACHINE_NOT_FOUND"])
        self.assertTrue(self.machines.runs("shop"))
        self.assertEqual(self.state(), "protected")

    def test_only_what_the_source_lacks_is_mended_by_powering_it_on(self):
        self.machines.kill("shop")
        with open(self.machines.path("shop.pid"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))  # something runs, and nobody can tell what
        self.addCleanup(os.unlink, self.machines.path("shop.pid"))
        found = self.ctl("rollback", "shop", status=1)
        self.assertEqual(found["error"]["code"], "E_STATE")
        self.assertNotIn("power the source on", found["error"]["remedy"])

    def test_a_source_that_runs_goes_on(self):
        self.ctl("failover", "shop", "--source-unreachable", "--wait")
        self.target.commands.clear()
        first = self.machines.pid("shop")
        begun = self.site.begin("rollback", "shop", "--wait")
        self.target.asked("target.prepare")
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual((self.machines.pid("shop"), self.state()), (first, "protected"))

    def test_a_source_that_nobody_knows_of(self):
        self.ctl("failover", "shop", "--wait")
        self.source.stop()
        with open(self.machines.path("shop.pid"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))  # something runs, and nobody can tell what
        self.site.kill()
        self.site.start()
        self.target.told()
        self.assertEqual(self.codes("rollback", "shop"), ["E_AGENT_NOT_REGISTERED"])
        self.assertTrue(self.machines.runs("shop-home"))
        os.unlink(self.machines.path("shop.pid"))

    def test_the_target_fails_in_the_middle(self):
        self.ctl("failover", "shop", "--point", "1", "--wait")
        self.target.refusals["target.resume"] = "E_IO"
        job = self.ctl("rollback", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_IO")
        found = self.site.protection("shop")
        self.assertEqual((found["state"], found["health"]), ("rolling-back", "warning"))
        self.assertIn("ebbctl rollback shop", self.run_ctl().stdout)
        self.home_is_gone()
        for words in (("commit", "shop"), ("checkpoint", "shop"),
                      ("change-point", "shop", "--point", "latest")):
            self.assertIn("E_STATE", self.codes(*words))
        # Over again instead, and to the newest: the target may still be at the other one.
        self.ctl("failover", "shop", "--wait")
        self.assertEqual(self.target.asked("target.failover")["point"], "2")
        self.assertEqual(self.state(), "commit-pending")
        del self.target.refusals["target.resume"]
        begun = self.roll_back()
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.state(), "protected")

    def test_a_failover_that_has_not_ended(self):
        self.target.refusals["target.forget"] = "E_IO"
        self.ctl("failover", "shop", "--wait", status=4)
        self.assertEqual(self.state(), "failing-over")
        begun = self.roll_back()
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.state(), "protected")

    def test_the_controller_is_killed_in_the_middle(self):
        self.ctl("failover", "shop", "--wait")
        self.target.held.add("target.resume")
        begun = self.begin_and_watch("rollback", "shop")
        self.target.asked("target.resume")
        self.site.kill()
        self.site.start()
        self.target.release()
        self.source.told()
        # It is not asked for twice: the job goes on.
        self.assertEqual(self.codes("failover", "shop")[-1:], ["E_JOB_RUNNING"])
        self.boot_source()
        self.source.asked("source.protect")
        for _ in range(2):
            self.site.kill()
            self.site.start()
            self.source.told()
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.state(), "protected")
        self.assertTrue(self.machines.runs("shop"))


class SourceThatCannotBeStarted(RollbackTest):
    source_can_start = False

    def test_it_is_waited_for(self):
        self.ctl("failover", "shop", "--wait")
        begun = self.site.begin("rollback", "shop", "--wait")
        seen = b""
        while b"power it on" not in seen:
            ready, _, _ = select.select([begun.stdout], [], [], PATIENCE)
            self.assertTrue(ready)
            seen += os.read(begun.stdout.fileno(), 4096)
        self.machines.start("shop")
        self.boot_source()
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(self.state(), "protected")
