# SPDX-License-Identifier: Apache-2.0
"""The controller is killed in the middle, and started again."""
import sqlite3

from agents import GIB
from protect_test import PairTest


class Killed(PairTest):
    def restart(self):
        self.site.kill()
        self.site.start()

    def test_protect_goes_on_and_whoever_watches_sees_its_end(self):
        begun = self.begin_and_watch("protect", "shop", "--target", "vault")
        self.source.asked("source.protect")
        self.source.sync(GIB)
        self.source.told()
        for _ in range(2):
            self.restart()
            self.source.told()
        self.source.finish_sync()
        out = self.finish(begun)
        self.assertTrue(out.strip().endswith(": done"), out)
        self.assertEqual(self.site.protection("shop")["state"], "protected")
        kinds = [kind for kind, _ in self.source.commands]
        self.assertEqual(kinds.count("source.protect"), 1)

    def test_protect_before_the_agents_had_answered(self):
        self.target.held.add("target.prepare")
        begun = self.begin_and_watch("protect", "shop", "--target", "vault")
        self.target.asked("target.prepare")
        self.restart()
        self.target.release()
        self.source.finish_sync()
        self.finish(begun)
        self.assertEqual(len(self.target.protections), 1)

    def test_a_checkpoint_is_said_to_be_interrupted(self):
        self.protect()
        self.source.held.add("source.checkpoint")
        begun = self.begin_and_watch("checkpoint", "shop")
        self.source.asked("source.checkpoint")
        self.restart()
        out, err = begun.communicate()
        self.assertEqual(begun.returncode, 4, out + err)
        self.assertIn("E_INTERRUPTED", err)
        self.source.release()
        self.source.told()
        self.target.told()
        self.assertEqual(self.ctl("checkpoint", "shop", "--wait")["state"], "done")

    def test_disable_is_run_again(self):
        self.protect()
        self.target.held.add("target.disable")
        begun = self.begin_and_watch("disable", "shop")
        self.target.asked("target.disable")
        self.restart()
        out, err = begun.communicate()
        self.assertEqual(begun.returncode, 4, out + err)
        self.assertIn("E_INTERRUPTED", err)
        self.target.release()
        for agent in (self.source, self.target):
            agent.told()
        self.assertEqual(self.ctl("disable", "shop", "--wait")["state"], "done")
        self.assertIsNone(self.site.protection("shop"))

    def test_a_resync_goes_on(self):
        self.protect()
        begun = self.begin_and_watch("resync", "shop", "--full")
        self.source.until(lambda: any(
            p["state"] == "initial-sync" for p in self.source.protections.values()))
        self.source.told()
        self.restart()
        self.source.finish_sync()
        self.finish(begun)

    def test_whatever_was_said_is_remembered(self):
        self.protect()
        for number in range(5):
            job = self.ctl("checkpoint", "shop", "--name", f"n{number}")
            self.restart()
            self.source.told()
            self.target.told()
            self.assertIn(self.site.job(job["id"])["state"], ("done", "failed"))
        self.assertEqual(self.site.protection("shop")["state"], "protected")
        database = sqlite3.connect(self.site.database)
        self.assertEqual(database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        database.close()

    def test_ending_by_a_signal_is_clean(self):
        begun = self.begin_and_watch("protect", "shop", "--target", "vault")
        self.source.asked("source.protect")
        self.assertEqual(self.site.stop(), 0)
        self.site.start()
        self.source.finish_sync()
        self.finish(begun)
