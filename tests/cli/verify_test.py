# SPDX-License-Identifier: Apache-2.0
"""Source and replica are compared: what is asked, what is said, and what keeps it."""
import base64
import json
import os
import subprocess
import time

from control import PATIENCE
from protect_test import PairTest

BYTES = 4096


class Verify(PairTest):
    def begin(self, *words):
        return self.site.begin("--json", *words)

    def ended(self, process, status=0):
        """The job that a command waited for."""
        return json.loads(self.finish(process, status).strip().splitlines()[-1])

    def test_what_is_equal(self):
        self.protect()
        begun = self.begin("verify", "shop", "--rate", "7", "--wait")
        args = self.source.asked("source.verify")
        self.assertEqual((args["repair"], args["mib_per_s"]), (False, 7))
        self.source.verified()
        job = self.ended(begun)
        self.assertEqual((job["kind"], job["value"]["equal_bytes"]), ("verify", 2 << 30))
        found = self.site.protection("shop")
        self.assertEqual((found["health"], found["verified"]["last_epoch"]), ("ok", 2))
        self.assertNotIn("differences", found["verified"])

    def test_what_differs(self):
        self.protect()
        begun = self.begin("verify", "shop", "--repair", "--wait")
        self.assertTrue(self.source.asked("source.verify")["repair"])
        where = {"kind": "differs", "disk": 1, "stable_id": "naa.5000c29000000002",
                 "offset": 8192, "length": BYTES}
        self.source.verified(different_bytes=BYTES, differences=[where])
        job = self.ended(begun, status=4)
        self.assertEqual((job["error"]["code"], job["value"]["differences"]),
                         ("E_REPLICA_DIFFERS", [where]))
        found = self.site.protection("shop")
        self.assertEqual((found["health"], found["problems"][0]["code"]),
                         ("critical", "E_REPLICA_DIFFERS"))
        # Compared again, and well; or gone over as a whole.
        begun = self.begin("verify", "shop", "--wait")
        self.source.until(lambda: [k for k, _ in self.source.commands].count("source.verify") == 2)
        self.source.verified(repaired_bytes=BYTES)
        self.ended(begun)
        self.assertEqual(self.site.protection("shop")["health"], "ok")

    def test_a_resync_forgets_what_differed(self):
        self.protect()
        begun = self.begin("verify", "shop", "--wait")
        self.source.verified(different_bytes=BYTES)
        self.ended(begun, status=4)
        resync = self.begin("resync", "shop", "--checksum", "--wait")
        self.source.until(lambda: any(
            p["state"] == "initial-sync" for p in self.source.protections.values()))
        self.assertEqual(self.source.asked("source.protect")["compare"], True)
        self.source.finish_sync()
        self.ended(resync)
        self.assertEqual(self.site.protection("shop")["health"], "ok")

    def test_it_keeps_nobody_from_anything(self):
        self.protect()
        begun = self.begin("verify", "shop", "--wait")
        self.source.asked("source.verify")
        self.assertEqual(self.codes("verify", "shop"), ["E_JOB_RUNNING"])
        self.assertEqual(self.ctl("checkpoint", "shop", "--wait")["state"], "done")
        self.assertEqual(self.ctl("resync", "shop", "--full", "--dry-run")["reasons"], [])
        self.source.verified()
        self.ended(begun)

    def test_what_stands_against_it(self):
        self.assertEqual(self.codes("verify", "shop"), ["E_NOT_PROTECTED"])
        self.assertEqual(self.codes("verify", "nobody"), ["E_MACHINE_NOT_FOUND"])
        begun = self.begin("protect", "shop", "--target", "vault", "--wait")
        self.source.asked("source.protect")
        self.assertEqual(self.codes("verify", "shop"), ["E_STATE"])
        self.source.finish_sync()
        self.ended(begun)
        self.assertEqual(self.codes("verify", "shop", "--rate", "1048577"), ["E_INVALID"])
        self.assertEqual(self.ctl("verify", "shop", "--dry-run")["reasons"], [])
        self.source.refusals["source.verify"] = "E_VERSION"
        job = self.ctl("verify", "shop", "--wait", status=4)
        self.assertEqual(job["error"]["code"], "E_VERSION")

    def test_an_error_of_the_source(self):
        self.protect()
        begun = self.begin("verify", "shop", "--wait")
        args = self.source.asked("source.verify")
        with self.source.lock:
            self.source.protections[args["protection"]]["verify"]["error"] = {
                "code": "E_CANCELLED", "message": "replication was stopped", "remedy": ""}
        self.assertEqual(self.ended(begun, status=4)["error"]["code"], "E_CANCELLED")

    def test_a_source_that_was_restarted_begins_anew(self):
        self.protect()
        begun = self.begin("verify", "shop", "--wait")
        first = self.source.asked("source.verify")
        with self.source.lock:
            del self.source.protections[first["protection"]]["verify"]
        self.source.until(lambda: [k for k, _ in self.source.commands].count("source.verify") == 2)
        self.assertEqual(self.source.asked("source.verify")["run"], first["run"])
        self.source.verified()
        self.ended(begun)

    def test_it_outlives_the_controller(self):
        self.protect()
        self.ctl("verify", "shop")
        self.source.asked("source.verify")
        self.site.kill()
        self.site.start()
        self.source.told()
        self.source.verified()
        job = self.ctl("job", "watch", str(self.ctl("jobs")["jobs"][-1]["id"]))
        self.assertEqual(job["state"], "done")


class VerifyPoint(PairTest):
    def setUp(self):
        super().setUp()
        self.protect()
        self.ctl("checkpoint", "shop", "--name", "before-upgrade", "--wait")
        self.ctl("checkpoint", "shop", "--wait")

    def test_a_point_without_the_source(self):
        self.source.stop()
        job = self.ctl("verify", "shop", "--at", "before-upgrade", "--wait")
        args = self.target.asked("target.certify")
        self.assertEqual((args["epoch"], args["whole"]), (2, True))
        self.assertEqual((job["kind"], job["value"]["journal_bytes"]), ("verify-point", 4096))
        self.assertIn("8192 of 2147483648 bytes at this point were read", job["step"])

    def test_what_differs(self):
        self.target.different = 4096
        job = self.ctl("verify", "shop", "--at", "1", "--wait", status=4)
        self.assertEqual((job["error"]["code"], job["value"]["different_bytes"]),
                         ("E_REPLICA_DIFFERS", 4096))
        # It is not said of the newest.
        found = self.site.protection("shop")
        self.assertEqual((found["health"], [p["code"] for p in found["problems"]]),
                         ("critical", ["E_POINT_DIFFERS"]))
        self.assertEqual([p["epoch"] for p in found["damaged_points"]], [1])
        # Another one is well: that is no news of this one.
        self.target.different = 0
        self.ctl("verify", "shop", "--at", "2", "--wait")
        self.assertEqual(self.site.protection("shop")["health"], "critical")
        self.ctl("verify", "shop", "--at", "1", "--wait")
        self.assertEqual(self.site.protection("shop")["health"], "ok")

    def test_what_stands_against_it(self):
        self.assertEqual(self.codes("verify", "shop", "--at", "never"), ["E_NO_POINT"])
        self.assertEqual(self.codes("verify", "shop", "--at", "a b"), ["E_INVALID"])
        self.assertEqual(self.codes("verify", "nobody", "--at", "1"), ["E_MACHINE_NOT_FOUND"])
        for more in (("--repair",), ("--rate", "7")):
            self.assertEqual(self.codes("verify", "shop", "--at", "1", *more, status=2), ["E_USAGE"])
        self.assertEqual(self.ctl("verify", "shop", "--at", "1", "--dry-run")["reasons"], [])
        self.target.held.add("target.certify")
        self.ctl("verify", "shop", "--at", "1")
        self.target.asked("target.certify")
        self.assertEqual(self.codes("verify", "shop", "--at", "2"), ["E_JOB_RUNNING"])
        self.assertEqual(self.ctl("checkpoint", "shop", "--wait")["state"], "done")
        self.target.release()


class Findings(PairTest):
    """What verifications found is health's, until it is over."""

    def setUp(self):
        super().setUp()
        self.protect()

    def verify(self, code=None):
        self.target.refusals.pop("target.verify", None)
        if code:
            self.target.refusals["target.verify"] = code
        job = self.ctl("retention", "verify", "shop", "--wait", status=4 if code else 0)
        if code:
            self.assertEqual(job["error"]["code"], code)

    def found(self):
        """Health, and the codes of what is wrong."""
        protection = self.site.protection("shop")
        return protection["health"], [p["code"] for p in protection["problems"]]

    def events(self, code, count):
        """So many of them; the controller looks by itself, each second."""
        for _ in range(10 * PATIENCE):
            events = [(e["severity"], e["text"]) for e in self.ctl("events")["events"]
                      if e["code"] == code]
            if len(events) >= count:
                return events
            self.source.told()
        raise AssertionError(f"{count} events {code}: {events}")

    def restart(self):
        self.site.kill()
        self.site.start()
        self.source.told()
        self.target.told()

    def test_a_journal_that_is_whole(self):
        self.assertNotIn("verified:", self.run_ctl().stdout)
        before = int(time.time())
        self.verify()
        self.restart()
        kept = self.site.protection("shop")["retention_verified"]
        self.assertEqual((kept["outcome"], kept["points"], kept["damage"]), ("whole", 1, None))
        self.assertGreaterEqual(kept["time"], before)
        self.assertEqual(self.found(), ("ok", []))
        self.assertRegex(self.run_ctl().stdout, r"shop: verified: journal \d+ s ago \(whole\)\n")

    def test_damage_is_critical_until_it_is_not_found_again(self):
        self.verify("E_CORRUPT")
        self.assertEqual(self.found(), ("critical", ["E_RETENTION_DAMAGED"]))
        self.assertEqual(self.events("E_RETENTION_DAMAGED", 1)[0][0], "critical")
        self.restart()
        self.assertEqual(self.found(), ("critical", ["E_RETENTION_DAMAGED"]))
        shown = self.run_ctl().stdout
        self.assertRegex(shown, r"journal \d+ s ago \(damaged: E_CORRUPT\)")
        self.assertIn("shop: E_RETENTION_DAMAGED: ", shown)
        # What is said of something else is no news of it.
        self.verify("E_BUSY")
        self.assertEqual(self.found(), ("critical", ["E_RETENTION_DAMAGED"]))
        self.verify("E_NO_SPACE")
        self.assertEqual(self.found(),
                         ("critical", ["E_RETENTION_DAMAGED", "E_RETENTION_UNREAD"]))
        self.verify()
        self.assertEqual(self.found(), ("ok", []))
        self.assertEqual(self.events("E_RETENTION_DAMAGED", 2)[1], ("info", "is over"))

    def test_damage_is_over_when_what_was_there_is_given_up(self):
        self.verify("E_CORRUPT")
        self.ctl("checkpoint", "shop", "--wait")
        self.target.told()
        self.assertEqual(self.found()[0], "critical")
        with self.target.lock:
            for points in self.target.points.values():
                del points[0]
        self.target.told()
        self.assertEqual(self.found(), ("ok", []))

    def test_one_that_ended_early(self):
        self.verify("E_NO_SPACE")
        self.assertEqual(self.found(), ("warning", ["E_RETENTION_UNREAD"]))
        self.assertRegex(self.run_ctl().stdout, r"journal \d+ s ago \(ended early: E_NO_SPACE\)")
        # A certificate reads all of the journal, too.
        self.ctl("point", "certify", "shop", "--out", os.path.join(self.site.folder, "shop.cert"))
        self.assertEqual(self.found(), ("ok", []))
        self.assertRegex(self.run_ctl().stdout,
                         r"journal \d+ s ago \(whole\), point 1 \d+ s ago \(equal\)")

    def test_a_point_that_is_merged_with_others_differs_no_more(self):
        self.ctl("checkpoint", "shop", "--wait")
        self.ctl("checkpoint", "shop", "--wait")
        self.target.different = 512
        self.ctl("verify", "shop", "--at", "2", "--wait", status=4)
        self.restart()
        self.assertEqual(self.found(), ("critical", ["E_POINT_DIFFERS"]))
        self.assertRegex(self.run_ctl().stdout, r"point 2 \d+ s ago \(512 B differ\)")
        with self.target.lock:
            for points in self.target.points.values():
                del points[1]
        self.verify()
        self.assertEqual(self.found(), ("ok", []))

    def test_the_replica_in_words(self):
        self.ctl("verify", "shop")
        self.source.verified(different_bytes=BYTES)
        self.ctl("job", "watch", "2", status=4)
        self.restart()
        self.assertEqual(self.found(), ("critical", ["E_REPLICA_DIFFERS"]))
        self.assertRegex(self.run_ctl().stdout, r"verified: replica \d+ s ago \(4096 B differ\)")


class Certify(PairTest):
    def path(self, name):
        return os.path.join(self.site.folder, name)

    def test_a_statement_that_openssl_believes(self):
        self.protect()
        self.ctl("checkpoint", "shop", "--name", "before-upgrade", "--wait")
        out = self.path("shop.cert")
        made = self.ctl("point", "certify", "shop", "--point", "before-upgrade", "--out", out)
        with open(out, encoding="utf-8") as file:
            self.assertEqual(json.load(file), made)
        said = json.loads(made["statement"])
        self.assertEqual((said["machine"], said["point"]["epoch"], said["found"]["equal_bytes"]),
                         ("shop", 2, 8192))
        self.assertIsNone(said["verified"])
        self.assertFalse(self.target.asked("target.certify")["whole"])
        self.assertIn("4096 from its journal", said["claims"][1])
        self.assertIn("have not been compared", said["claims"][-1])
        self.assertEqual(self.ctl("point", "certify", "--check", out), said)
        self.assertIn("The signature is good.", self.run_ctl("point", "certify", "--check", out).stdout)
        with open(self.path("statement"), "w", encoding="utf-8") as file:
            file.write(made["statement"])
        with open(self.path("signature"), "wb") as file:
            file.write(base64.b64decode(made["signature"]))
        with open(self.path("key.pem"), "wb") as file:
            file.write(subprocess.run(["openssl", "x509", "-in", self.path("controller/ca.pem"), "-pubkey",
                                       "-noout"], capture_output=True, check=True).stdout)
        subprocess.run(["openssl", "dgst", "-sha256", "-verify", self.path("key.pem"), "-signature",
                        self.path("signature"), self.path("statement")], check=True,
                       stdout=subprocess.DEVNULL)

    def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(self):
        self.protect()
        out = self.path("shop.cert")
        before = self.ctl("point", "certify", "shop", "--out", out)
        full = subprocess.run(["env", "--ignore-signal=XFSZ", "prlimit", "--fsize=100"] +
                              self.site.command("--json", "point", "certify", "shop", "--out", out),
                              capture_output=True, text=True, check=False)
        self.assertEqual((full.returncode, json.loads(full.stdout)["error"]["code"]), (1, "E_IO"), full)
        with open(out, encoding="utf-8") as file:
            self.assertEqual(json.load(file), before)
        self.assertEqual([name for name in os.listdir(self.site.folder) if name.startswith("shop.cert")],
                         ["shop.cert"])
        self.assertEqual(self.codes("point", "certify", "shop", "--out", "/dev/full"), ["E_IO"])

    def test_the_points_before_it_too(self):
        self.protect()
        made = self.ctl("point", "certify", "shop", "--whole", "--out", self.path("shop.cert"))
        self.assertTrue(self.target.asked("target.certify")["whole"])
        said = json.loads(made["statement"])
        self.assertIn("the retained points before it", said["claims"][1])
        self.assertIn("The disks have 2147483648 bytes", said["claims"][2])
        self.assertIn("not compared: 0 bytes", said["claims"][3])

    def test_what_was_changed_is_found_out(self):
        self.protect()
        out = self.path("shop.cert")
        made = self.ctl("point", "certify", "shop", "--out", out)
        for key, value in (("statement", made["statement"].replace("8192", "8193")),
                           ("signature", made["signature"][:-8] + "AAAAAAAA"),
                           ("signature", "no base64"), ("signature", ""),
                           ("authority", "of somebody else")):
            with open(out, "w", encoding="utf-8") as file:
                json.dump(dict(made, **{key: value}), file)
            self.assertEqual(self.codes("point", "certify", "--check", out), ["E_POINT_CERTIFICATE"])
        for text in ("", "{", "[]"):
            with open(out, "w", encoding="utf-8") as file:
                file.write(text)
            self.assertEqual(self.codes("point", "certify", "--check", out), ["E_POINT_CERTIFICATE"])
        self.assertEqual(self.codes("point", "certify", "--check", self.path("none")),
                         ["E_POINT_CERTIFICATE"])

    def test_what_differs_is_not_certified(self):
        self.protect()
        self.target.different = 4096
        out = self.path("shop.cert")
        job = self.ctl("point", "certify", "shop", "--out", out, status=4)
        self.assertEqual(job["error"]["code"], "E_REPLICA_DIFFERS")
        self.assertFalse(os.path.exists(out))

    def test_what_the_last_verification_found_is_in_it(self):
        self.protect()
        self.ctl("verify", "shop")
        self.source.verified()
        self.ctl("job", "watch", "2")
        made = self.ctl("point", "certify", "shop", "--out", self.path("shop.cert"))
        said = json.loads(made["statement"])
        self.assertEqual(said["verified"]["equal_bytes"], 2 << 30)
        self.assertIn("SHA-256 of both", said["claims"][-1])

    def test_what_stands_against_it(self):
        out = self.path("shop.cert")
        self.assertEqual(self.codes("point", "certify", "shop", status=2), ["E_USAGE"])
        self.assertEqual(self.codes("point", "certify", "--out", out, status=2), ["E_USAGE"])
        self.assertEqual(self.codes("point", "certify", "shop", "--out", out), ["E_NOT_PROTECTED"])
        self.protect()
        self.assertEqual(self.codes("point", "certify", "shop", "--out", out, "--point", "never"),
                         ["E_NO_POINT"])
        self.assertEqual(self.ctl("point", "certify", "shop", "--dry-run", "--out", out)["reasons"], [])
        self.target.refusals["target.certify"] = "E_CORRUPT"
        job = self.ctl("point", "certify", "shop", "--out", out, status=4)
        self.assertEqual(job["error"]["code"], "E_CORRUPT")
        self.target.refusals.clear()
        self.assertEqual(self.codes("point", "certify", "shop", "--out", "/nowhere/at/all"), ["E_IO"])
