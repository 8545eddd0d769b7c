# SPDX-License-Identifier: Apache-2.0
"""Points that get a name, and lose it."""
from protect_test import PairTest


class PinTest(PairTest):
    def setUp(self):
        super().setUp()
        self.protect()
        self.ctl("checkpoint", "shop", "--name", "before-upgrade", "--wait")
        self.ctl("checkpoint", "shop", "--wait")

    def names(self):
        return [p["name"] for p in self.ctl("point", "list", "shop")["points"]]

    def test_there_and_back(self):
        self.assertEqual(self.names(), ["", "before-upgrade", ""])
        self.assertEqual(self.ctl("point", "unpin", "shop", "before-upgrade", "--dry-run")["reasons"],
                         [])
        self.assertEqual(self.target.commands[-1][0], "target.points")
        job = self.ctl("point", "unpin", "shop", "before-upgrade")
        self.assertEqual((job["state"], job["value"]["point"]["epoch"]), ("done", 2))
        self.assertEqual(self.target.asked("target.name")["name"], "")
        self.assertEqual(self.names(), ["", "", ""])
        done = self.run_ctl("point", "pin", "shop", "1", "first")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.ctl("point", "pin", "shop", "--point", "latest", "--name", "newest")
        self.assertEqual(self.names(), ["first", "", "newest"])
        # Once more is no error.
        self.ctl("point", "pin", "shop", "1", "first")
        self.assertEqual(self.names(), ["first", "", "newest"])

    def test_what_stands_against_it(self):
        for words, code in ((("unpin", "shop", "1"), "E_POINT_NOT_NAMED"),
                            (("unpin", "shop", "9"), "E_NO_POINT"),
                            (("unpin", "nobody", "1"), "E_MACHINE_NOT_FOUND"),
                            (("unpin", "shop", ""), "E_INVALID"),
                            (("pin", "shop", "2", "other"), "E_POINT_NAMED"),
                            (("pin", "shop", "1", "before-upgrade"), "E_NAME_TAKEN"),
                            (("pin", "shop", "1", "a b"), "E_INVALID"),
                            (("pin", "shop", "1", "latest"), "E_INVALID"),
                            (("pin", "shop", "never", "name"), "E_NO_POINT")):
            self.assertEqual(self.codes("point", *words), [code], words)
        for words in (("unpin", "shop"), ("pin", "shop", "1"), ("pin", "shop")):
            done = self.run_ctl("point", *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("E_USAGE", done.stderr)
        self.target.refusals["target.name"] = "E_NO_SPACE"
        job = self.ctl("point", "unpin", "shop", "before-upgrade", status=4)
        self.assertEqual(job["error"]["code"], "E_NO_SPACE")
        self.assertEqual(self.names(), ["", "before-upgrade", ""])

    def test_it_keeps_nobody_from_anything(self):
        self.target.held.add("target.name")
        begun = self.site.begin("point", "pin", "shop", "1", "kept")
        self.target.asked("target.name")
        self.assertEqual(self.ctl("resync", "shop", "--full", "--dry-run")["reasons"], [])
        self.assertEqual(self.codes("point", "pin", "shop", "3", "also"), ["E_JOB_RUNNING"])
        self.target.release()
        self.finish(begun)
        self.assertEqual(self.names(), ["kept", "before-upgrade", ""])

    def test_the_controller_dies_in_the_middle(self):
        self.target.held.add("target.name")
        begun = self.site.begin("point", "unpin", "shop", "before-upgrade")
        self.target.asked("target.name")
        self.site.kill()
        self.finish(begun, status=3)
        self.target.release()
        self.site.start()
        for agent in (self.source, self.target):
            agent.told()
        job = self.ctl("jobs")["jobs"][-1]
        self.assertEqual((job["kind"], job["error"]["code"]), ("unpin-point", "E_INTERRUPTED"))
        self.assertIn("point list", job["error"]["remedy"])
