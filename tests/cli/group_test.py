# SPDX-License-Identifier: Apache-2.0
"""Replication groups: points that several machines have in common."""
import os
import subprocess
import time
import uuid

from agents import Source, Target, refused
from control import PATIENCE, ControllerTest, die_with_parent
from failover_test import Machines

LED = ["ready", "close", "take", "open"]


class GroupTest(ControllerTest):
    """Two machines, each protected on a master target of its own."""

    machines = {"books": "cellar", "shop": "vault"}

    def setUp(self):
        super().setUp()
        self.sources, self.targets = {}, {}
        for machine, target in self.machines.items():
            self.targets[machine] = Target(self.site, target)
            self.sources[machine] = Source(self.site, machine)
            self.sources[machine].target = self.targets[machine]
            for agent in (self.targets[machine], self.sources[machine]):
                agent.start()
                self.addCleanup(agent.stop)
        self.books, self.shop = self.sources["books"], self.sources["shop"]
        for machine in self.machines:
            self.protect(machine)

    def protect(self, machine):
        begun = self.site.begin("protect", machine, "--target", self.machines[machine], "--wait",
                                "--app-interval", "0")
        self.sources[machine].finish_sync()
        self.finish(begun)

    def group(self, *more):
        """On demand only, unless `more` says otherwise."""
        return self.ctl("group", "set", "web", "--machine", "shop", "--machine", "books",
                        *(more or ("--interval", "0", "--app-interval", "0")))

    def checkpoint(self, *more, status=0):
        return self.ctl("checkpoint", "--group", "web", "--wait", *more, status=status)

    def points(self):
        return self.ctl("group", "points", "web")["points"]

    def there(self):
        return next(g for g in self.ctl()["groups"] if g["group"] == "web")

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)

    def led(self, step):
        """The step has come to the shop."""
        self.shop.until(lambda: any(kind == "source.cut" and args["step"] == step
                                    for kind, args in self.shop.commands))


class Groups(GroupTest):
    def test_from_its_beginning_to_its_end(self):
        self.assertEqual(self.ctl("group", "list")["groups"], [])
        self.assertIn("no replication group", self.run_ctl("group", "list").stdout)
        made = self.ctl("group", "set", "web", "--machine", "shop", "--machine", "books",
                        "--interval", "0", "--app-interval", "0", "--gate", "250", "--rpo", "60",
                        "--dry-run")
        self.assertEqual((made["reasons"], self.ctl()["groups"]), ([], []))
        made = self.group("--interval", "0", "--app-interval", "0", "--gate", "250", "--rpo", "60")
        self.assertEqual((made["machines"], made["gate_ms"]), (["books", "shop"], 250))
        # What is not given stays as it is.
        changed = self.ctl("group", "set", "web", "--gate", "300")
        self.assertEqual((changed["machines"], changed["gate_ms"], changed["rpo_s"]),
                         (["books", "shop"], 300, 60))
        self.assertRegex(self.run_ctl().stdout, r"web +books,shop +ok +- +- +on demand +- +300 ms")
        self.assertIn("no recovery point", self.run_ctl("group", "points", "web").stdout)
        self.assertEqual(self.ctl("group", "delete", "web", "--dry-run")["reasons"], [])
        self.assertEqual(self.run_ctl("group", "delete", "web").returncode, 0)
        self.assertNotIn("web", self.run_ctl().stdout)
        self.assertEqual(self.codes("group", "delete", "web"), ["E_GROUP_NOT_FOUND"])

    def test_defaults(self):
        made = self.ctl("group", "set", "web", "--machine", "shop", "--machine", "books")
        self.assertEqual([made[key] for key in ("interval_ms", "app_interval_ms", "gate_ms", "rpo_s")],
                         [300_000, 3_300_000, 500, 900])
        self.until(lambda: self.there().get("newest"), "no first common point")
        self.assertEqual(self.there()["newest"]["kind"], "app")

    def test_what_is_refused(self):
        self.site.join("late")
        self.group()
        self.assertEqual(self.codes("group", "set", "more", "--machine", "late", "--machine", "shop",
                                    "--machine", "nobody"),
                         ["E_GROUP_MEMBER", "E_GROUP_MEMBER", "E_MACHINE_NOT_FOUND"])
        found = self.ctl("group", "set", "shop", "--machine", "late", "--machine", "shop",
                         "--dry-run", status=1)
        self.assertEqual([r["code"] for r in found["reasons"]],
                         ["E_GROUP_NAME", "E_GROUP_MEMBER", "E_GROUP_MEMBER"])
        self.assertEqual(self.codes("group", "set", "controller", "--machine", "a", "--machine",
                                    "b")[0], "E_GROUP_NAME")
        self.assertEqual(self.codes("token", "create", "--machine", "web", "--site", "here"),
                         ["E_GROUP_NAME"])
        for words in (("set", "more"), ("set", "more", "--machine", "shop"),
                      ("set", "more", "--machine", "shop", "--machine", "shop"),
                      ("set", "web", "--gate", "9"), ("set", "web", "--gate", "10001"),
                      ("set", "*"), ("points", "*"), ("delete", "*")):
            with self.subTest(words):
                self.assertEqual(self.codes("group", *words), ["E_INVALID"])
        for words in (("group", "set", "web", "--interval", "0.5"),
                      ("group", "set", "web", "--app-interval", "10"),
                      ("group", "set", "web", "--rpo", "0"), ("group", "set"),
                      ("checkpoint", "shop", "--group", "web"),
                      ("failover", "shop", "--group", "web"),
                      ("checkpoint", "--group", "web", "--export", "/mnt"), ("checkpoint",)):
            with self.subTest(words):
                self.assertEqual(self.codes(*words, status=2), ["E_USAGE"])
        for words in (("group", "points", "more"), ("checkpoint", "--group", "more"),
                      ("failover", "--group", "more")):
            self.assertEqual(self.codes(*words), ["E_GROUP_NOT_FOUND"])
        self.assertEqual(self.codes("checkpoint", "--group", "web", "--name", "latest-common"),
                         ["E_INVALID"])

    def test_a_machine_that_is_not_protected_any_more(self):
        self.group()
        self.ctl("disable", "books", "--wait")
        self.until(lambda: self.there()["problems"], "no problem")
        self.assertEqual([p["code"] for p in self.there()["problems"]], ["E_GROUP_MEMBER"])
        self.assertIn("E_GROUP_MEMBER: books", self.run_ctl("group", "list").stdout)
        self.assertEqual(self.codes("checkpoint", "--group", "web"), ["E_GROUP_MEMBER"])
        self.assertEqual(self.codes("group", "points", "web"), ["E_NOT_PROTECTED"])
        self.until(lambda: any(e["machine"] == "web" and e["code"] == "E_GROUP_MEMBER"
                               for e in self.ctl("events")["events"]), "no event")
        # It stays, and can be changed.
        self.assertEqual(self.ctl("group", "set", "web", "--rpo", "60")["machines"],
                         ["books", "shop"])
        self.protect("books")
        self.assertEqual(self.there()["problems"], [])


class Cuts(GroupTest):
    def test_a_common_point(self):
        self.group()
        self.assertEqual(self.checkpoint("--dry-run")["reasons"], [])
        job = self.checkpoint("--name", "before-upgrade")
        self.assertEqual((job["kind"], job["machine"], job["state"]),
                         ("group-checkpoint", "web", "done"))
        for source in self.sources.values():
            self.assertEqual(source.steps(), LED)
            args = source.asked("source.checkpoint")
            self.assertEqual((args["common"]["cut"], args["common"]["gate_ms"], args["name"]),
                             (job["value"]["cut"], 500, ""))
        self.assertEqual(self.points(), [job["value"]])
        self.assertEqual((job["value"]["name"], job["value"]["kind"]), ("before-upgrade", "crash"))
        self.assertEqual(job["value"]["epochs"], {"books": 2, "shop": 2})
        self.assertLess(abs(job["value"]["time_ns"] - time.time_ns()), PATIENCE * 10**9)
        there = self.there()
        self.assertEqual((there["newest"], there["health"]), (job["value"], "ok"))
        self.assertRegex(self.run_ctl("group", "points", "web").stdout,
                         r"crash +before-upgrade +books 2, shop 2")
        # It is there after a restart, and goes when a target has given its point up.
        self.site.kill()
        self.site.start()
        for agent in (*self.sources.values(), *self.targets.values()):
            agent.told()
        self.assertEqual(self.there()["newest"], job["value"])
        ident = self.site.protection("books")["id"]
        with self.targets["books"].lock:
            self.targets["books"].points[ident] = [
                {"epoch": 9, "cut_time_ns": 5, "name": "", "kind": "crash"}]
        self.targets["books"].told()
        self.assertIsNone(self.there()["newest"])
        self.assertEqual(self.points(), [])

    def test_an_application_consistent_one(self):
        self.group()
        job = self.checkpoint("--app")
        self.assertEqual(job["value"]["kind"], "app")
        self.assertEqual(self.there()["newest_app"], job["value"])
        for source in self.sources.values():
            self.assertEqual(source.steps(), ["prepared", *LED])
        self.shop.degraded = refused("E_APP_SCRIPT", "a script failed")
        job = self.checkpoint("--app", status=4)
        self.assertEqual(job["error"]["code"], "E_COMMON_CUT")
        self.assertIn("shop: a script failed (E_APP_SCRIPT)", job["error"]["message"])
        # The point is there all the same.
        self.assertEqual([p["kind"] for p in self.points()], ["app", "crash"])
        self.shop.degraded, self.shop.post = None, refused("E_APP_SCRIPT", "a script failed after")
        self.assertEqual(self.checkpoint("--app", status=4)["error"]["code"], "E_APP_SCRIPT")
        self.assertEqual([p["kind"] for p in self.points()], ["app", "crash", "app"])

    def test_gates_that_open_by_themselves(self):
        self.group()
        self.books.expiring = 2
        job = self.checkpoint()
        self.assertEqual(job["state"], "done")
        self.assertIn("attempt 3", self.site.job(job["id"])["step"])
        self.assertEqual(len(self.points()), 1)
        self.books.expiring = 3
        job = self.checkpoint("--name", "never", status=4)
        self.assertEqual(job["error"]["code"], "E_COMMON_CUT")
        self.assertRegex(job["error"]["message"], "books .*open.* (E_STALE)|books .*E_STALE")
        self.assertEqual(len(self.points()), 1)
        # No point of an attempt that failed bears the name.
        self.assertNotIn("never", str(self.targets["shop"].points))

    def test_all_are_told_to_leave(self):
        self.group()
        self.books.refusals["source.cut/close"] = "E_BUSY"
        job = self.checkpoint(status=4)
        self.assertIn("books", job["error"]["message"])
        self.assertIn("E_BUSY", job["error"]["message"])
        # The shop is not asked to close when the refusal is there before it has been.
        self.assertRegex(" ".join(self.shop.steps()), r"^(ready (close )?leave ?){3}$")
        self.assertEqual(self.points(), [])
        # Their points are as good as any other of those machines.
        self.assertEqual(len(self.ctl("point", "list", "shop")["points"]), 4)

    def test_a_machine_that_does_not_answer_in_time(self):
        self.group("--interval", "0", "--app-interval", "0", "--gate", "10")
        self.books.held.add("source.cut/take")
        begun = self.begin_and_watch("checkpoint", "--group", "web")
        self.led("leave")
        self.assertEqual(self.shop.steps(), ["ready", "close", "take", "leave"])
        self.books.release()
        self.finish(begun)
        self.assertEqual(len(self.points()), 1)

    def test_a_point_that_is_not_of_that_moment_after_all(self):
        self.group()
        self.shop.alone = refused("E_STALE", "the cut was void", "")
        job = self.checkpoint(status=4)
        self.assertIn("shop is not of that moment: the cut was void", job["error"]["message"])
        self.assertEqual(self.points(), [])

    def test_a_checkpoint_that_is_not_begun(self):
        self.group()
        self.books.refusals["source.checkpoint"] = "E_BUSY"
        job = self.checkpoint(status=4)
        self.assertIn("books has not begun it", job["error"]["message"])
        self.assertNotIn("close", self.shop.steps())

    def test_a_mark_that_is_missing(self):
        self.group()
        self.targets["books"].refusals["target.common"] = "E_NO_SPACE"
        job = self.checkpoint(status=4)
        self.assertIn("cellar has not noted that the point of books", job["error"]["message"])
        marked = [p for points in self.targets["shop"].points.values() for p in points
                  if p.get("common")]
        self.assertEqual(len(marked), 3)
        self.assertEqual(self.points(), [])
        self.targets["books"].refusals.clear()
        self.assertEqual(self.points(), [])
        self.checkpoint()
        self.assertEqual(len(self.points()), 1)

    def test_a_name_that_is_not_given_everywhere(self):
        self.group()
        self.targets["books"].refusals["target.name"] = "E_NO_SPACE"
        job = self.checkpoint("--name", "x", status=4)
        self.assertIn("books has not got the name", job["error"]["message"])
        self.assertEqual([p["name"] for p in self.points()], [""])

    def test_the_controller_is_killed_between_two_marks(self):
        self.group()
        self.targets["books"].held.add("target.common")
        begun = self.begin_and_watch("checkpoint", "--group", "web")
        self.targets["books"].asked("target.common")
        self.targets["shop"].asked("target.common")
        self.site.kill()
        self.site.start()
        _, err = begun.communicate(timeout=PATIENCE)
        self.assertIn("E_INTERRUPTED", err)
        with self.targets["books"].lock:
            self.targets["books"].held.clear()
            self.targets["books"].waiting.clear()
        for agent in (*self.sources.values(), *self.targets.values()):
            agent.told()
        # One has a mark that the other has not: it is not offered.
        self.assertEqual(self.points(), [])
        self.assertIsNone(self.there()["newest"])
        self.checkpoint()
        self.assertEqual(len(self.points()), 1)

    def test_a_controller_that_ends_lets_them_go(self):
        self.group()
        self.books.held.add("source.cut/close")
        begun = self.begin_and_watch("checkpoint", "--group", "web")
        self.led("close")
        self.assertEqual(self.site.stop(), 0)
        self.led("leave")
        self.site.start()
        _, err = begun.communicate(timeout=PATIENCE)
        self.assertIn("E_INTERRUPTED", err)

    def test_a_cancellation(self):
        self.group()
        self.books.held.add("source.cut/ready")
        job = self.ctl("checkpoint", "--group", "web")
        self.led("ready")
        self.assertEqual(self.codes("checkpoint", "--group", "web"), ["E_JOB_RUNNING"])
        ended = self.ctl("cancel", str(job["id"]), "--wait", status=4)
        self.assertEqual(ended["state"], "cancelled")
        self.assertEqual(self.shop.steps(), ["ready", "leave"])

    def test_what_stands_against_it(self):
        self.group()
        self.books.held.add("source.checkpoint")
        job = self.ctl("checkpoint", "books")
        found = self.checkpoint("--dry-run", status=1)
        self.assertEqual([r["code"] for r in found["reasons"]], ["E_JOB_RUNNING"])
        self.books.release()
        self.ctl("job", "watch", str(job["id"]))
        self.site.kill()
        for agent in (*self.sources.values(), *self.targets.values()):
            agent.stop()
        self.site.start()
        self.assertEqual(self.codes("checkpoint", "--group", "web"),
                         ["E_AGENT_NOT_REGISTERED"] * 4)


class Regular(GroupTest):
    def test_they_come_by_themselves(self):
        self.group("--interval", "1", "--app-interval", "3300")
        self.until(lambda: len(self.points()) >= 3, "too few common points")
        self.assertEqual([p["kind"] for p in self.points()[:3]], ["app", "crash", "crash"])
        self.assertEqual(self.ctl()["jobs"][-1]["kind"], "protect")  # no jobs of theirs
        # The next one is due by the newest, over a restart too.
        self.ctl("group", "set", "web", "--interval", "86400")
        self.until(lambda: not self.shop.later and not self.books.later, "a cut does not end")
        self.site.kill()
        count = len(self.shop.steps())
        self.site.start()
        for agent in (*self.sources.values(), *self.targets.values()):
            agent.told()
        self.assertEqual(len(self.shop.steps()), count)
        self.ctl("group", "delete", "web")

    def test_failures_are_told_and_that_they_are_over(self):
        self.books.refusals["source.cut/ready"] = "E_BUSY"
        self.group("--interval", "1", "--app-interval", "0")
        self.until(lambda: self.there()["problems"], "no problem")
        problem = self.there()["problems"][0]
        self.assertEqual((problem["code"], problem["severity"]), ("E_COMMON_CUT", "warning"))
        self.assertRegex(problem["message"], "[0-9]+ common cuts of web have failed in a row: books")
        self.assertIn("web: E_COMMON_CUT", self.run_ctl().stdout)
        self.books.refusals.clear()
        self.until(lambda: not self.there()["problems"], "it is not over")

        def told():
            return [(e["severity"], e["text"]) for e in self.ctl("events")["events"]
                    if e["machine"] == "web" and e["code"] == "E_COMMON_CUT"]
        self.until(lambda: ("info", "is over") in told(), "no event")
        self.assertEqual([severity for severity, _ in told()], ["warning", "info"])

    def test_one_at_a_time(self):
        self.books.held.add("source.cut/ready")
        self.group("--interval", "1", "--app-interval", "0")
        self.led("ready")
        job = self.ctl("checkpoint", "--group", "web")  # waits for its turn
        self.assertEqual(len(self.shop.later), 1)
        self.books.release()
        self.assertEqual(self.ctl("job", "watch", str(job["id"]))["state"], "done")


class MachinesOfGroup(GroupTest):
    """With machines to start and end."""

    def setUp(self):
        self.vms = {m: Machines(m, t) for m, t in self.machines.items()}
        self.qemu = {"machines": []}
        for machine, vms in self.vms.items():
            self.addCleanup(vms.end)
            self.qemu["machines"] += vms.provider()["machines"]
            vms.start(machine)
            vms.start(self.machines[machine])
        super().setUp()
        for machine, source in self.sources.items():
            source.on_shutdown = lambda m=machine: self.vms[m].kill(m)
        self.group()

    def failover(self, *more, status=0):
        return self.ctl("failover", "--group", "web", *more, status=status)

    def went_to(self, done):
        return {job["machine"]: job["value"]["point"]["epoch"] for job in done["jobs"]}


class Failover(MachinesOfGroup):
    def test_to_the_newest_that_all_have(self):
        self.checkpoint("--name", "3")  # a name is not taken for a number
        self.checkpoint()
        self.ctl("checkpoint", "shop", "--wait")
        self.ctl("checkpoint", "shop", "--name", "3", "--wait")
        found = self.failover("--dry-run")
        self.assertEqual((found["reasons"], found["common"]["epochs"]),
                         ([], {"books": 3, "shop": 3}))
        self.assertIn("which all have", self.run_ctl("failover", "--group", "web",
                                                     "--dry-run").stdout)
        done = self.failover("--wait")
        self.assertEqual(self.went_to(done), {"books": 3, "shop": 3})
        self.assertEqual([j["group"] for j in done["jobs"]], ["web", "web"])
        for machine in self.machines:
            self.assertEqual(self.site.protection(machine)["state"], "commit-pending")
        self.assertEqual([p["code"] for p in self.there()["problems"]], ["E_GROUP_MEMBER"] * 2)
        self.assertEqual(self.codes("checkpoint", "--group", "web"), ["E_GROUP_MEMBER"] * 2)
        # All that stands against all of them.
        self.assertEqual(self.codes("failover", "--group", "web").count("E_STATE"), 2)

    def test_to_other_points(self):
        self.checkpoint("--app", "--name", "evening")
        self.checkpoint()
        for words in ("latest-app", "evening"):
            self.assertEqual(self.failover("--point", words, "--dry-run")["common"]["name"],
                             "evening")
        self.assertNotIn("common", self.failover("--point", "latest", "--dry-run"))
        self.ctl("checkpoint", "shop", "--wait")
        listed = self.failover("--point", "latest")["jobs"]
        for job in listed:
            self.ctl("job", "watch", str(job["id"]))
        epochs = {j["machine"]: self.site.job(j["id"])["value"]["point"]["epoch"] for j in listed}
        self.assertEqual(epochs, {"books": 3, "shop": 4})

    def test_nothing_is_begun_where_something_stands_against_one(self):
        self.assertEqual(self.codes("failover", "--group", "web"), ["E_NO_POINT"])
        self.checkpoint()
        self.assertEqual(self.codes("failover", "--group", "web", "--point", "2020-01-01 00:00:00Z"),
                         ["E_NO_POINT"])
        self.assertEqual(self.codes("failover", "--group", "web", "--point", "*"), ["E_INVALID"])
        with self.targets["books"].lock:
            self.targets["books"].disks = self.targets["books"].disks[1:]
        self.targets["books"].told()
        self.targets["shop"].refusals["target.points"] = "E_IO"
        self.assertEqual(sorted(self.codes("failover", "--group", "web")),
                         ["E_DISK_NOT_FOUND", "E_IO"])
        for machine in self.machines:
            self.assertTrue(self.vms[machine].runs(machine))
            self.assertEqual(self.site.protection(machine)["state"], "protected")

    def test_one_fails_on_its_way(self):
        self.checkpoint()
        self.checkpoint()
        self.targets["books"].refusals["target.failover"] = "E_CORRUPT"
        done = self.failover("--wait", status=4)
        self.assertEqual([(j["machine"], j["state"]) for j in done["jobs"]],
                         [("books", "failed"), ("shop", "done")])
        self.assertEqual(self.site.protection("shop")["state"], "commit-pending")
        # The other one goes there by itself.
        self.targets["books"].refusals.clear()
        alone = self.ctl("failover", "books", "--point", "3", "--wait")
        self.assertEqual(alone["value"]["point"]["epoch"], 3)

    def test_one_that_was_begun_goes_on_to_its_point_alone(self):
        self.checkpoint()
        self.targets["shop"].held.add("target.forget")
        begun = self.begin_and_watch("failover", "shop", "--point", "1")
        self.targets["shop"].asked("target.forget")
        self.site.kill()
        self.site.start()
        begun.communicate(timeout=PATIENCE)
        self.targets["shop"].release()
        for agent in (*self.sources.values(), *self.targets.values()):
            if agent is not self.shop:
                agent.told()
        self.assertEqual(self.codes("failover", "--group", "web"), ["E_STATE"])


class Moves(MachinesOfGroup):
    """What is done with all machines of a group besides."""

    def failed_over(self):
        """With two points that all have, on the newer one."""
        self.checkpoint("--name", "evening")
        self.ctl("checkpoint", "shop", "--wait")
        self.checkpoint()
        self.failover("--wait")

    def test_another_point(self):
        self.failed_over()
        found = self.ctl("change-point", "--group", "web", "--point", "evening", "--dry-run")
        self.assertEqual((found["reasons"], found["common"]["epochs"]), ([], {"books": 2, "shop": 2}))
        done = self.ctl("change-point", "--group", "web", "--point", "evening", "--wait")
        self.assertEqual(self.went_to(done), {"books": 2, "shop": 2})
        self.assertEqual([j["group"] for j in done["jobs"]], ["web", "web"])
        # And forth again; what is each machine's newest is nothing that all have.
        done = self.ctl("change-point", "--group", "web", "--point", "latest-common", "--wait")
        self.assertEqual(self.went_to(done), {"books": 3, "shop": 4})
        done = self.ctl("change-point", "--group", "web", "--point", "latest", "--wait")
        self.assertEqual(self.went_to(done), {"books": 3, "shop": 4})
        for machine in self.machines:
            self.assertTrue(self.vms[machine].runs(machine + "-home"))
            self.assertEqual(self.site.protection(machine)["state"], "commit-pending")

    def test_what_stands_against_one_stands_against_all(self):
        self.checkpoint()
        words = ("change-point", "--group", "web", "--point", "latest-common")
        self.assertEqual(self.codes(*words), ["E_STATE", "E_STATE"])
        self.assertEqual(self.codes("rollback", "--group", "web"), ["E_STATE", "E_STATE"])
        self.ctl("failover", "books", "--wait")
        self.assertEqual(self.codes(*words), ["E_STATE"])
        self.assertEqual(self.codes("rollback", "--group", "web"), ["E_STATE"])
        self.assertEqual(self.site.protection("books")["state"], "commit-pending")
        for command in ("change-point", "rollback", "test-failover"):
            more = ("--point", "1") if command == "change-point" else ()
            self.assertEqual(self.codes(command, "--group", "nobody", *more), ["E_GROUP_NOT_FOUND"])
            done = self.run_ctl(command, "shop", "--group", "web", *more)
            self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(self.run_ctl("change-point", "--group", "web").returncode, 2)

    def test_one_that_cannot_move(self):
        self.failed_over()
        self.targets["books"].refusals["target.failover"] = "E_CORRUPT"
        done = self.ctl("change-point", "--group", "web", "--point", "evening", "--wait", status=4)
        self.assertEqual([(j["machine"], j["state"]) for j in done["jobs"]],
                         [("books", "failed"), ("shop", "done")])
        self.targets["books"].refusals.clear()
        alone = self.ctl("change-point", "books", "--point", "2", "--wait")
        self.assertEqual(alone["value"]["point"]["epoch"], 2)

    def test_back_to_replication(self):
        self.failed_over()
        self.assertEqual(self.ctl("rollback", "--group", "web", "--dry-run")["reasons"], [])
        for agent in (*self.sources.values(), *self.targets.values()):
            agent.commands.clear()
        for machine, source in self.sources.items():
            self.vms[machine].start(machine)  # somebody else powers the sources on
            with source.lock:
                source.incarnation = str(uuid.uuid4())
                source.protections.clear()
            source.told()
        listed = self.ctl("rollback", "--group", "web")["jobs"]
        self.assertEqual([(j["kind"], j["group"]) for j in listed], [("rollback", "web")] * 2)
        for machine, source in self.sources.items():
            self.targets[machine].asked("target.resume")
            source.asked("source.protect")
            self.assertFalse(self.vms[machine].runs(machine + "-home"))
            source.finish_sync()
        for job in listed:
            self.assertEqual(self.ctl("job", "watch", str(job["id"]))["state"], "done")
        for machine in self.machines:
            self.assertEqual(self.site.protection(machine)["state"], "protected")

    def serve(self):
        for machine, target in self.targets.items():
            vms = self.vms[machine]
            for number in range(2):
                place, ready = vms.path(f"nbd{number}"), vms.path(f"nbd{number}.pid")
                server = subprocess.Popen(["nbdkit", "-f", "-r", "-U", place, "-P", ready, "pattern", "size=1M"],
                                          preexec_fn=die_with_parent)
                self.addCleanup(server.kill)
                self.until(lambda path=ready: os.path.exists(path), "nbdkit")
            target.export = lambda i, v=vms: f"nbd+unix:///?socket={v.path(f'nbd{i}')}"

    def test_a_test_of_all(self):
        self.serve()
        self.checkpoint("--name", "evening")
        self.checkpoint()
        found = self.ctl("test-failover", "--group", "web", "--dry-run")
        self.assertEqual((found["reasons"], found["common"]["epochs"]), ([], {"books": 3, "shop": 3}))
        done = self.ctl("test-failover", "--group", "web", "--point", "evening", "--wait")
        self.assertEqual(self.went_to(done), {"books/test": 2, "shop/test": 2})
        for machine in self.machines:
            self.assertTrue(self.vms[machine].runs(machine + "-test"))
            self.assertTrue(self.vms[machine].runs(machine))
            self.assertEqual(self.site.protection(machine)["state"], "protected")
        self.assertEqual(sorted(self.codes("test-failover", "--group", "web")), ["E_TEST_RUNS"] * 2)
        for _ in range(2):
            done = self.ctl("test-failover", "--group", "web", "--clean", "--wait")
            self.assertEqual([j["state"] for j in done["jobs"]], ["done", "done"])
            for machine in self.machines:
                self.assertFalse(self.vms[machine].runs(machine + "-test"))
                self.assertIsNone(self.site.protection(machine)["test"])
