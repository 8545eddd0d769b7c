# SPDX-License-Identifier: Apache-2.0
"""Application-consistent points, the age of points against the policy, and the log of events."""
from agents import refused
from control import PATIENCE
from protect_test import PairTest

SECOND = 1_000_000_000


class ConsistencyTest(PairTest):
    def setUp(self):
        super().setUp()
        self.protect()

    def status(self, **fields):
        """The source says so from now on."""
        with self.source.lock:
            for status in self.source.protections.values():
                status.update(fields)
        self.source.told()

    def problems(self):
        return {p["code"]: p["message"] for p in self.site.protection("shop")["problems"]}

    def until_event(self, code, text):
        """The controller looks by itself, each second."""
        for _ in range(10 * PATIENCE):
            events = self.ctl("events")["events"]
            if any(e["code"] == code and text in e["text"] for e in events):
                return events
            self.source.told()
        raise AssertionError(f"no event {code} {text}: {events}")


class Application(ConsistencyTest):
    def test_a_point_of_that_kind(self):
        job = self.ctl("checkpoint", "shop", "--app", "--name", "before-upgrade", "--wait")
        self.assertEqual((job["state"], job["value"]["kind"]), ("done", "app"))
        self.assertTrue(self.source.asked("source.checkpoint")["app"])
        self.ctl("checkpoint", "shop", "--wait")
        self.assertFalse(self.source.asked("source.checkpoint")["app"])
        lines = self.run_ctl("point", "list", "shop").stdout.splitlines()
        self.assertRegex(lines[2], r"^2 +app .* before-upgrade ")
        self.assertRegex(lines[3], r"^3 +crash ")
        protection = self.site.protection("shop")
        self.assertEqual(protection["newest_app_point"]["epoch"], 2)
        self.assertRegex(self.run_ctl().stdout, r"APP +POINTS\n.* +5 s +\d+ s +3\n")

    def test_what_failed_leaves_a_point_and_is_told(self):
        for code in ("E_APP_SCRIPT", "E_APP_SCRIPT_UNSAFE", "E_APP_HIDDEN", "E_APP_FREEZE",
                     "E_APP_FROZEN", "E_APP_FREEZE_TIMEOUT", "E_APP_THAWED", "E_APP_FREEZER"):
            with self.subTest(code):
                self.source.degraded = refused(code, "it did not come to rest")
                job = self.ctl("checkpoint", "shop", "--app", "--wait", status=4)
                self.assertEqual((job["state"], job["error"]["code"]), ("failed", code))
                self.assertIn("it did not come to rest; the point of epoch", job["error"]["message"])
                self.assertTrue(job["error"]["remedy"])
                self.assertEqual(job["value"]["kind"], "crash")
                points = self.ctl("point", "list", "shop")["points"]
                self.assertEqual((points[-1]["epoch"], points[-1]["kind"]),
                                 (job["value"]["epoch"], "crash"))
        self.source.degraded = None
        self.source.post = refused("E_APP_POST", "10-db post failed")
        job = self.ctl("checkpoint", "shop", "--app", "--wait", status=4)
        self.assertEqual((job["error"]["code"], job["value"]["kind"]), ("E_APP_POST", "app"))
        self.assertIn("is application-consistent", job["error"]["message"])

    def test_one_at_a_time(self):
        self.source.held.add("source.checkpoint")
        watching = self.begin_and_watch("checkpoint", "shop", "--app")
        self.assertEqual(self.codes("checkpoint", "shop", "--app"), ["E_JOB_RUNNING"])
        self.source.release()
        self.finish(watching)
        self.source.refusals["source.checkpoint"] = "E_BUSY"
        job = self.ctl("checkpoint", "shop", "--app", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_BUSY")

    def test_what_is_refused(self):
        self.assertEqual(self.codes("checkpoint", "nobody", "--app"), ["E_MACHINE_NOT_FOUND"])
        self.assertEqual(self.codes("interval", "shop", "5", "--app-interval", "30", status=2),
                         ["E_USAGE"])
        self.assertEqual(self.codes("interval", "shop", "5", "--rpo", "0", status=2), ["E_USAGE"])
        self.ctl("disable", "shop", "--wait")
        self.assertEqual(self.codes("checkpoint", "shop", "--app"), ["E_NOT_PROTECTED"])

    def test_how_often(self):
        asked = self.source.asked("source.protect")
        self.assertEqual(asked["app_interval_ms"], 3_600_000)
        done = self.ctl("interval", "shop", "5", "--app-interval", "1800", "--rpo", "60")
        self.assertEqual((done["app_interval_ms"], done["rpo_s"]), (1_800_000, 60))
        self.assertEqual(self.source.asked("source.interval")["app_interval_ms"], 1_800_000)
        self.ctl("interval", "shop", "10")
        self.assertNotIn("app_interval_ms", self.source.asked("source.interval"))
        protection = self.site.protection("shop")
        self.assertEqual((protection["interval_ms"], protection["app_interval_ms"],
                          protection["rpo_s"]), (10_000, 1_800_000, 60))

    def test_an_attempt_that_failed_is_a_warning_until_one_succeeds(self):
        self.status(app={"interval_ms": 3_600_000, "error": refused("E_APP_SCRIPT", "10-db failed")})
        self.assertEqual(self.problems(), {"E_APP_SCRIPT": "10-db failed"})
        self.assertEqual(self.site.protection("shop")["health"], "warning")
        self.until_event("E_APP_SCRIPT", "10-db failed")
        self.status(app={"interval_ms": 3_600_000})
        events = self.until_event("E_APP_SCRIPT", "is over")
        self.assertEqual([(e["severity"], e["machine"]) for e in events if
                          e["code"] == "E_APP_SCRIPT"], [("warning", "shop"), ("info", "shop")])

    def test_none_for_long(self):
        """By the source's clock, however wrong it is."""
        with self.source.lock:
            self.source.clock_ahead_ns = 2 * 3600 * SECOND + 60 * SECOND
        self.source.told()
        self.assertIn("there is no application-consistent", self.problems()["E_APP_OLD"])
        self.ctl("checkpoint", "shop", "--app", "--wait")
        self.target.told()
        self.assertNotIn("E_APP_OLD", self.problems())


class Age(ConsistencyTest):
    def ahead(self, seconds):
        """Time passes on the source."""
        with self.source.lock:
            self.source.clock_ahead_ns += seconds * SECOND
        self.source.told()

    def point(self):
        with self.source.lock:
            for ident in self.source.protections:
                self.source.point(ident)
        self.target.told()

    def test_against_the_policy_with_an_event_when_exceeded_and_when_over(self):
        self.ahead(200)
        protection = self.site.protection("shop")
        self.assertEqual((protection["health"], protection["rpo_clock"]), ("ok", "source"))
        self.assertGreaterEqual(protection["rpo_seconds"], 200)
        self.ahead(200)
        self.status(pace="link", effective_interval_ms=400_000, rate_bytes_per_s=2048)
        said = self.problems()["E_POINT_OLD"]
        self.assertIn("300 are allowed: what changes takes longer to send, at 2 KiB/s", said)
        self.assertRegex(self.run_ctl().stdout, r"6 min \(5 s; link\)")
        self.until_event("E_POINT_OLD", "s old")
        self.status(pace="kept", effective_interval_ms=5000)
        self.point()
        self.assertEqual(self.site.protection("shop")["health"], "ok")
        events = self.until_event("E_POINT_OLD", "is over")
        self.assertEqual([e["severity"] for e in events if e["code"] == "E_POINT_OLD"],
                         ["warning", "info"])
        self.assertIn("E_POINT_OLD", self.run_ctl("events").stdout)

    def test_an_interval_that_adapts_is_told(self):
        self.status(interval_ms=5000, pace="link", effective_interval_ms=12_000, epoch_ms=11_000,
                    epoch_bytes=22 << 20, rate_bytes_per_s=2 << 20)
        words = "points are 12 s apart, not the 5 s that are asked for: what changes takes longer " \
                "to send, at 2048 KiB/s; the newest took 11 s for 22528 KiB"
        self.assertIn(f"shop: {words}\n", self.run_ctl().stdout)
        protection = self.site.protection("shop")
        self.assertEqual((protection["health"], protection["interval_why"]), ("ok", words))
        events = self.until_event("E_INTERVAL", words)
        self.assertEqual([e["severity"] for e in events if e["code"] == "E_INTERVAL"], ["info"])
        self.status(pace="kept", effective_interval_ms=5000)
        self.assertNotIn("interval_why", self.site.protection("shop"))
        self.assertNotIn("apart", self.run_ctl().stdout)

    def test_the_policy_is_the_protections_own(self):
        self.ctl("interval", "shop", "5", "--rpo", "100")
        self.ahead(150)
        self.assertIn("100 are allowed", self.problems()["E_POINT_OLD"])
        self.ctl("interval", "shop", "5", "--rpo", "600")
        self.assertEqual(self.problems(), {})

    def test_a_clock_that_is_wrong_makes_no_point_old(self):
        """Both ends of the age are of one clock."""
        self.ahead(86_400)
        self.ctl("checkpoint", "shop", "--app", "--wait")
        self.target.told()
        protection = self.site.protection("shop")
        self.assertEqual(protection["health"], "ok")
        self.assertLess(protection["rpo_seconds"], 60)

    def test_events_outlive_the_controller(self):
        self.ahead(400)
        self.until_event("E_POINT_OLD", "s old")
        before = self.ctl("events")["events"]
        self.site.stop()
        self.site.start()
        self.source.told()
        self.target.told()
        self.point()
        events = self.until_event("E_POINT_OLD", "is over")
        self.assertEqual(events[:len(before)], before)
        self.assertEqual([e["code"] for e in events].count("E_POINT_OLD"), 2)
