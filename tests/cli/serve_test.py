# SPDX-License-Identifier: Apache-2.0
"""Points that are served, test failovers on them, and the search for the last good one."""
import json
import os
import signal
import subprocess
import sys
import tempfile

from agents import Refusal, refused
from control import PATIENCE, die_with_parent
from failover_test import FailoverTest
from protect_test import PairTest


class ServeTest(PairTest):
    def setUp(self):
        super().setUp()
        self.protect()
        for _ in range(7):
            self.ctl("checkpoint", "shop", "--wait")

    def served(self):
        self.target.told()
        return {s["name"]: s["epoch"] for s in self.site.protection("shop").get("served") or []}

    def bisect(self, expression, *words, status=0):
        """ebbctl point bisect with a command whose exit status is `expression` of the epoch `e`."""
        code = f"import os, sys; e = int(os.environ['EBB_POINT']); sys.exit({expression})"
        return self.ctl("point", "bisect", "shop", *words, "--", sys.executable, "-c", code,
                        status=status)


class Served(ServeTest):
    def test_from_its_beginning_to_its_end(self):
        self.assertEqual(self.ctl("point", "serve", "shop", "--dry-run")["reasons"], [])
        done = self.run_ctl("point", "serve", "shop", "--point", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 2)
        self.assertTrue(done.stdout.startswith("nbd+unix:///shop/point/0?"), done.stdout)
        self.assertEqual(self.target.asked("target.serve")["point"], "3")
        self.assertEqual(self.served(), {"point": 3})
        self.assertIn("shop: serves epoch 3 as point to 0 clients", self.run_ctl().stdout)
        value = self.ctl("point", "serve", "shop", "--name", "newest")["value"]
        self.assertEqual((value["point"]["epoch"], len(value["exports"])), (8, 2))
        self.assertEqual(self.served(), {"point": 3, "newest": 8})
        # The same name again makes room for itself.
        self.ctl("point", "serve", "shop", "--point", "5")
        self.assertEqual(self.served(), {"point": 5, "newest": 8})
        self.assertEqual(self.run_ctl("point", "unserve", "shop", "--name", "newest").returncode, 0)
        self.assertEqual(self.served(), {"point": 5})
        for _ in range(2):
            self.assertEqual(self.run_ctl("point", "unserve", "shop").returncode, 0)
        self.assertEqual(self.served(), {})

    def test_what_stands_against_it(self):
        self.assertEqual(self.codes("point", "serve", "nobody"), ["E_MACHINE_NOT_FOUND"])
        self.assertEqual(self.codes("point", "serve", "shop", "--name", "a b"), ["E_INVALID"])
        for words in (("serve",), ("unserve",)):
            self.assertEqual(self.codes("point", *words, "shop", "--name", "test"),
                             ["E_NAME_TAKEN"])
        job = self.ctl("point", "serve", "shop", "--point", "99", status=4)
        self.assertEqual(job["error"]["code"], "E_NO_POINT")
        self.target.refusals["target.serve"] = "E_POINT_TOO_LARGE"
        done = self.run_ctl("point", "serve", "shop")
        self.assertEqual((done.returncode, done.stdout), (4, ""))
        self.assertIn("E_POINT_TOO_LARGE", done.stderr)

    def test_it_keeps_nobody_from_a_failover(self):
        self.target.held.add("target.serve")
        begun = self.site.begin("point", "serve", "shop")
        self.target.asked("target.serve")
        self.assertNotIn("E_JOB_RUNNING", self.codes("failover", "shop"))
        self.target.release()
        self.finish(begun)

    def test_what_was_given_up_is_told(self):
        ident = self.site.protection("shop")["id"]
        self.ctl("point", "serve", "shop")
        status = self.target._one
        with self.target.lock:
            def given_up(protection):
                out = status(protection)
                out["served"][0]["error"] = {"code": "E_POINT_GIVEN_UP", "message": "full",
                                             "remedy": "Serve it again"}
                return out
            self.target._one = given_up
        self.target.told()
        found = self.site.protection("shop")
        self.assertEqual((found["id"], found["health"]), (ident, "warning"))
        self.assertEqual([p["code"] for p in found["problems"]], ["E_POINT_GIVEN_UP"])


class Bisect(ServeTest):
    def test_every_place_of_the_first_bad_one(self):
        for first_bad in range(2, 9):
            found = self.bisect(f"e >= {first_bad}")
            self.assertEqual((found["last_good"]["epoch"], found["first_bad"]["epoch"]),
                             (first_bad - 1, first_bad))
            self.assertLessEqual(found["looked_at"], 4)
        self.assertEqual(self.served(), {})

    def test_all_are_good_or_bad(self):
        found = self.bisect("0")
        self.assertEqual((found["last_good"]["epoch"], found["first_bad"], found["looked_at"]),
                         (8, None, 1))
        self.assertEqual(self.bisect("1", status=1)["error"]["code"], "E_NO_GOOD_POINT")
        self.assertEqual(self.served(), {})

    def test_of_some_nobody_can_tell(self):
        found = self.bisect("125 if e in (4, 5) else int(e > 5)")
        self.assertEqual((found["last_good"]["epoch"], found["first_bad"]["epoch"]), (3, 6))
        self.assertEqual([p["epoch"] for p in found["skipped"]], [4, 5])
        self.assertEqual(self.bisect("125", status=1)["error"]["code"], "E_NO_GOOD_POINT")

    def test_what_the_command_sees(self):
        with tempfile.TemporaryDirectory() as folder:
            seen = os.path.join(folder, "seen")
            code = f"import json, os; json.dump(dict(os.environ), open({seen!r}, 'w'))"
            done = self.run_ctl("point", "bisect", "shop", "--", sys.executable, "-c", code)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("The last good point is epoch 8", done.stdout)
            with open(seen, encoding="utf-8") as file:
                env = json.load(file)
        self.assertEqual((env["EBB_MACHINE"], env["EBB_POINT"], env["EBB_DISKS"]),
                         ("shop", "8", "2"))
        self.assertEqual(env["EBB_NBD"].split(), [env["EBB_NBD_0"], env["EBB_NBD_1"]])
        self.assertTrue(env["EBB_CUT_TIME"].endswith("Z"))
        self.assertEqual(env["PATH"], os.environ["PATH"])

    def test_a_command_that_gives_no_verdict_ends_it(self):
        for expression in ("200", "os.kill(os.getpid(), 9)"):
            self.assertEqual(self.bisect(expression, status=1)["error"]["code"], "E_BISECT_ENDED")
            self.assertEqual(self.served(), {})
        self.assertEqual(self.codes("point", "bisect", "shop", status=2), ["E_USAGE"])
        self.assertEqual(self.served(), {})

    def test_a_command_that_cannot_be_run_is_no_verdict(self):
        with tempfile.NamedTemporaryFile() as plain:
            for command in (["/no/such/command"], [plain.name], ["sh", "-c", "/no/such/command"],
                            ["sh", "-c", plain.name]):
                self.assertEqual(self.codes("point", "bisect", "shop", "--", *command, status=2),
                                 ["E_BISECT_COMMAND"])
                self.assertEqual(self.served(), {})
        # Also of a later point.
        self.assertEqual(self.bisect("1 if e > 4 else 127", status=2)["error"]["code"],
                         "E_BISECT_COMMAND")
        self.assertEqual(self.served(), {})
        self.assertEqual(self.bisect("124 * (e > 4)")["last_good"]["epoch"], 4)

    def test_a_point_that_went_meanwhile_is_skipped(self):
        with self.target.lock:
            points = next(iter(self.target.points.values()))
        serve = self.target._serve

        def gone(ident, args):
            if args["point"] in ("4", "5"):  # thinned
                self.target.points[ident] = [p for p in points if p["epoch"] not in (4, 5)]
            return serve(ident, args)
        self.target._serve = gone
        found = self.bisect("e > 5")
        self.assertEqual((found["last_good"]["epoch"], found["first_bad"]["epoch"]), (3, 6))

    def test_a_point_that_is_too_large_is_skipped(self):
        serve = self.target._serve

        def too_large(ident, args):
            if int(args["point"]) in (3, 4):
                raise Refusal("E_POINT_TOO_LARGE")
            return serve(ident, args)
        self.target._serve = too_large
        found = self.bisect("e > 4")
        self.assertEqual((found["last_good"]["epoch"], found["first_bad"]["epoch"]), (2, 5))
        self.assertEqual([(p["epoch"], p["error"]["code"]) for p in found["skipped"]],
                         [(3, "E_POINT_TOO_LARGE"), (4, "E_POINT_TOO_LARGE")])
        self.assertEqual(self.served(), {})
        code = "import os, sys; sys.exit(int(os.environ['EBB_POINT']) > 4)"
        done = self.run_ctl("point", "bisect", "shop", "--", sys.executable, "-c", code)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"epoch 4, .*: cannot tell: E_POINT_TOO_LARGE: ")

    def lose(self, how, times=1):
        """Point 4 is lost so often while the command reads it, which therefore fails; what bisect
        then finds of machines that are bad from 6 on. `how`: what becomes of the serving."""
        serve, left = self.target._serve, [times]
        with tempfile.TemporaryDirectory() as folder:
            lost = os.path.join(folder, "lost")

            def losing(ident, args):
                value = serve(ident, args)
                if args["point"] == "4" and left[0]:
                    left[0] -= 1
                    with open(lost, "w", encoding="utf-8"):
                        how(ident, args["name"], value)
                elif os.path.exists(lost):
                    os.remove(lost)
                return value
            self.target._serve = losing
            try:
                code = f"int(os.environ['EBB_POINT']) > 5 or os.path.exists({lost!r})"
                done = self.run_ctl("point", "bisect", "shop", "--", sys.executable, "-c",
                                    f"import os, sys; sys.exit({code})")
                self.assertEqual(left, [0])
                self.assertEqual(self.served(), {})
                return done
            finally:
                self.target._serve = serve

    def give_up(self, _ident, _name, value):
        self.target.given_up[value["serving"]] = refused("E_POINT_GIVEN_UP", "the volume was full")

    def test_a_point_that_is_lost_under_the_command_is_looked_at_again(self):
        def restarts(ident, name, _value):
            del self.target.served[ident][name]

        def another(_ident, name, _value):
            self.target.serving[name] = "another"
        for how, why in ((self.give_up, "E_POINT_GIVEN_UP: the volume was full"),
                         (restarts, "E_POINT_NOT_SERVED: "), (another, "E_POINT_GIVEN_UP: ")):
            done = self.lose(how)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, f"epoch 4, .*: cannot tell: {why}.*; once more\n")
            self.assertRegex(done.stdout, r"epoch 4, .*: good\n")
            self.assertIn("The last good point is epoch 5", done.stdout)
            self.assertIn("The first bad point is epoch 6", done.stdout)

    def test_a_point_that_is_lost_again_is_skipped(self):
        done = self.lose(self.give_up, times=2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("E_POINT_GIVEN_UP"), 2, done.stdout)
        self.assertEqual(done.stdout.count("once more"), 1, done.stdout)
        self.assertIn("The last good point is epoch 5", done.stdout)

        def thinned(ident, name, value):
            self.give_up(ident, name, value)
            self.target.points[ident] = [p for p in self.target.points[ident] if p["epoch"] != 4]
        done = self.lose(thinned)
        self.assertRegex(done.stdout, r"epoch 4, .*: cannot tell: E_NO_POINT: ")
        self.assertIn("The last good point is epoch 5", done.stdout)

    def test_what_is_no_verdict_for_a_point_that_is_lost(self):
        """Neither do exit statuses end the search by which a command says that it was broken off."""
        serve, first = self.target._serve, []

        def losing(ident, args):
            value = serve(ident, args)
            if args["point"] == "8" and not first:
                first.append(value["serving"])
                self.give_up(ident, args["name"], value)
            return value
        self.target._serve = losing
        with tempfile.TemporaryDirectory() as folder:
            seen = os.path.join(folder, "seen")
            code = (f"import os, signal\nif not os.path.exists({seen!r}):\n"
                    f"    open({seen!r}, 'w').close()\n    os.kill(os.getpid(), signal.SIGBUS)")
            found = self.ctl("point", "bisect", "shop", "--", sys.executable, "-c", code)
        self.assertEqual((found["last_good"]["epoch"], found["looked_at"]), (8, 1))

    def test_whether_it_is_served_is_what_counts(self):
        """Where the target cannot say, nothing is taken for a verdict."""
        self.target.refusals["target.served"] = "E_UNSUPPORTED"
        self.assertEqual(self.bisect("1", status=1)["error"]["code"], "E_UNSUPPORTED")
        self.assertEqual(self.served(), {})

    def test_interrupted_it_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            code = f"import signal; open({fifo!r}, 'w').write('here'); signal.pause()"
            begun = subprocess.Popen(
                self.site.command("--json", "point", "bisect", "shop", "--", sys.executable, "-c",
                                  code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
            with open(fifo, encoding="utf-8") as there:
                there.read()
            self.assertEqual(len(self.served()), 1)
            begun.send_signal(signal.SIGTERM)
            out, err = begun.communicate(timeout=PATIENCE)
        self.assertEqual(begun.returncode, 1, out + err)
        self.assertEqual(json.loads(out)["error"]["code"], "E_BISECT_ENDED")
        self.assertEqual(self.served(), {})


class TestFailover(FailoverTest):
    """With a machine of QEMU's whose disks are overlays above what nbdkit serves."""

    def setUp(self):
        super().setUp()
        self.protect()
        self.servers = []
        for number in range(2):
            place = self.machines.path(f"nbd{number}")
            ready = self.machines.path(f"nbd{number}.pid")
            self.servers.append(subprocess.Popen(
                ["nbdkit", "-f", "-r", "-U", place, "-P", ready, "pattern", "size=1M"],
                preexec_fn=die_with_parent))
            self.addCleanup(self.servers[-1].kill)
            while not os.path.exists(ready):
                self.assertIsNone(self.servers[-1].poll())
        self.target.export = lambda i: f"nbd+unix:///?socket={self.machines.path(f'nbd{i}')}"

    def overlays(self):
        folder = self.machines.path("overlay")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def test_from_its_beginning_to_its_end(self):
        found = self.ctl("test-failover", "shop", "--dry-run")
        self.assertEqual((found["reasons"], found["point"]["epoch"]), ([], 1))
        job = self.ctl("test-failover", "shop", "--wait")
        self.assertEqual((job["state"], job["value"]["vm"]), ("done", "shop-test"))
        self.assertTrue(self.machines.runs("shop-test"))
        self.assertTrue(self.machines.runs("shop"))
        self.assertFalse(self.machines.runs("shop-home"))
        self.assertEqual(self.overlays(), ["test0.qcow2", "test1.qcow2"])
        self.assertEqual(self.state(), "protected")
        self.assertEqual(self.site.protection("shop")["test"]["point"]["epoch"], 1)
        self.assertIn("shop-test", self.run_ctl().stdout)
        for words in (("test-failover", "shop"), ("disable", "shop")):
            self.assertIn("E_TEST_RUNS", self.codes(*words))
        # A test keeps nobody from what it is a test of.
        self.assertEqual(self.ctl("failover", "shop", "--dry-run")["reasons"], [])
        for _ in range(2):
            self.assertEqual(self.ctl("test-failover", "shop", "--clean", "--wait")["state"], "done")
            self.assertFalse(self.machines.runs("shop-test"))
            self.assertEqual(self.overlays(), [])
            self.assertEqual(self.target.asked("target.unserve")["name"], "test")
            self.assertIsNone(self.site.protection("shop")["test"])
        self.assertEqual(self.ctl("disable", "shop", "--wait")["state"], "done")

    def test_what_fails_leaves_nothing(self):
        self.target.refusals["target.serve"] = "E_POINTS_SERVED"
        job = self.ctl("test-failover", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_POINTS_SERVED")
        del self.target.refusals["target.serve"]
        self.target.export = lambda i: "nbd+unix:///?socket=/nowhere"
        job = self.ctl("test-failover", "shop", "--wait", status=4)
        self.assertEqual(job["state"], "failed")
        self.assertEqual(self.overlays(), [])
        self.assertEqual(list(self.target.served.values()), [{}])
        self.assertIsNone(self.site.protection("shop")["test"])
        self.machines.start("shop-test")
        self.assertEqual(self.codes("test-failover", "shop"), ["E_TEST_RUNS"])

    def test_killed_in_the_middle_it_is_cleaned_up(self):
        self.target.held.add("target.serve")
        begun = self.begin_and_watch("test-failover", "shop")
        self.target.asked("target.serve")
        self.site.kill()
        self.site.start()
        out, err = begun.communicate(timeout=PATIENCE)
        self.assertEqual(begun.returncode, 4, out + err)
        self.assertIn("ebbctl test-failover shop --clean", err)
        self.target.release()
        for each in (self.source, self.target):
            each.told()
        self.assertIn("E_TEST_RUNS", self.codes("test-failover", "shop"))
        self.assertEqual(self.ctl("test-failover", "shop", "--clean", "--wait")["state"], "done")
        self.assertEqual(list(self.target.served.values()), [{}])
        self.assertEqual(self.ctl("test-failover", "shop", "--wait")["state"], "done")
        # The hypervisor's machine and its overlays outlive the controller.
        self.site.kill()
        self.site.start()
        self.target.told()
        self.assertEqual(self.ctl("test-failover", "shop", "--clean", "--wait")["state"], "done")
        self.assertEqual((self.machines.runs("shop-test"), self.overlays()), (False, []))

    def test_a_real_failover_goes_first(self):
        self.ctl("test-failover", "shop", "--wait")
        self.assertEqual(self.ctl("failover", "shop", "--wait")["state"], "done")
        self.assertEqual(self.codes("test-failover", "shop"), ["E_STATE", "E_TEST_RUNS"])
        self.assertEqual(self.ctl("test-failover", "shop", "--clean", "--wait")["state"], "done")
        self.assertEqual(self.state(), "commit-pending")
        self.assertTrue(self.machines.runs("shop-home"))


class Network(FailoverTest):
    def setUp(self):
        super().setUp()
        self.protect()

    def test_a_machine_that_could_reach_others_is_not_started(self):
        for machine in self.qemu["machines"]:
            if machine["name"] == "shop-test":
                machine["start"] += ["-netdev", "user,id=n0"]
        self.site.stop()
        with open(self.site.config, encoding="utf-8") as file:
            config = json.load(file)
        config["serve"]["qemu"] = self.qemu
        with open(self.site.config, "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.site.start()
        for each in (self.source, self.target):
            each.told()
        job = self.ctl("test-failover", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_TEST_NETWORK")
        self.assertFalse(self.machines.runs("shop-test"))
