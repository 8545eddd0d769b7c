#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The runner of `make check`: what fails, hangs, or tests nothing is never counted as passed."""
import contextlib
import io
import os
import sys
import tempfile
import unittest
from unittest import mock

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts"))
import check  # noqa: E402  (the path is set just above)
from check_steps import STEPS, Step  # noqa: E402


class CheckTest(unittest.TestCase):
    """Runs steps that are planted, with logs and cache of their own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        for patch in (mock.patch.object(check, "LOGS", self.folder),
                      mock.patch.dict(os.environ, EBB_CACHE=self.folder)):
            patch.start()
            self.addCleanup(patch.stop)

    def run_steps(self, *steps, jobs=2):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            scheduler = check.Scheduler(check.present(list(steps)), jobs)
            scheduler.all()
        return scheduler.runs, output.getvalue()

    def one(self, command, **more):
        runs, _ = self.run_steps(Step("one", "group", "planted", command, **more))
        return runs["one"]

    def counts(self, run):
        return run.state, run.passed, run.failed

    def test_success_counts_as_one(self):
        self.assertEqual(self.counts(self.one("true")), ("passed", 1, 0))

    def test_failure(self):
        self.assertEqual(self.counts(self.one("echo '3 passed, 0 failed'; exit 1"))[::2],
                         ("failed", 1))

    def test_absent_script(self):
        self.assertEqual(self.one("tests/absent.sh").state, "failed")

    def test_summary_is_believed_against_the_exit_code(self):
        self.assertEqual(self.counts(self.one("echo '3 passed, 2 failed'", tests=True)),
                         ("failed", 3, 2))

    def test_no_test_ran(self):
        for text in ("true", "echo '0 passed, 0 failed'"):
            run = self.one(text, tests=True)
            self.assertEqual((run.state, run.why), ("failed", "it ran no test"))

    def test_counts_of_frameworks(self):
        for text, passed, failed in (
                ("100% tests passed, 0 tests failed out of 46", 46, 0),
                ("[==========] 5 tests from 1 test suite ran.\n[  FAILED  ] 2 tests, listed below:",
                 3, 2)):
            self.assertEqual(check.count_tests(text), (passed, failed))

    def test_what_passed_in_an_earlier_run_is_told(self):
        runs, text = self.run_steps(Step("one", "group", "", "echo '7 passed, 0 failed; 5 of them in an earlier run'",
                                         tests=True))
        self.assertEqual((self.counts(runs["one"]), runs["one"].earlier), (("passed", 7, 0), 5))
        self.assertIn("7 passed, 5 of them in an earlier run", text)

    def test_hanging_step_is_killed_with_its_children(self):
        run = self.one(f"sleep 600 & echo $! >{self.folder}/child; wait", limit=1)
        self.assertEqual(run.state, "failed")
        self.assertIn("still running", run.why)
        with open(os.path.join(self.folder, "child"), encoding="utf-8") as file:
            child = int(file.read())
        # The signal is sent; a zombie has no command line, and nobody may be there to wait for it.
        while self.command_line(child):
            os.sched_yield()

    def command_line(self, process):
        try:
            with open(f"/proc/{process}/cmdline", encoding="utf-8") as file:
                return file.read()
        except (FileNotFoundError, ProcessLookupError):
            return ""

    def test_state_is_left_to_the_scheduler(self):
        # Whoever sees a step that is done while its cores are still taken waits for ever.
        run = check.Run(Step("one", "group", "planted", "true"))
        run.state = "running"
        self.assertEqual((run.execute(), run.state), ("passed", "running"))

    def test_many_short_steps(self):
        steps = [Step(f"s{i}", "g", "", "true", weight=1 + i % 2) for i in range(60)]
        runs, text = self.run_steps(*steps)
        self.assertEqual({run.state for run in runs.values()}, {"passed"})
        self.assertEqual(text.count("passed   s"), 60)

    def test_what_needs_a_failed_step_is_skipped_and_counts_as_failed(self):
        runs, _ = self.run_steps(Step("a", "g", "", "false"),
                                 Step("b", "g", "", "true", needs=("a",)),
                                 Step("c", "g", "", "true", needs=("b",)))
        self.assertEqual([self.counts(run)[::2] for run in runs.values()],
                         [("failed", 1), ("skipped", 1), ("skipped", 1)])

    def test_left_out_is_said(self):
        runs, text = self.run_steps(Step("a", "g", "", "true", when="kernels/absent"))
        self.assertEqual(len(runs), 0)
        self.assertIn("left out a", text)

    def test_heavier_than_the_machine(self):
        runs, _ = self.run_steps(Step("a", "g", "", "true", weight=8), jobs=1)
        self.assertEqual(runs["a"].state, "passed")

    def test_table(self):
        names = [step.name for step in STEPS]
        self.assertEqual(len(names), len(set(names)))
        for number, step in enumerate(STEPS):
            for need in step.needs:
                self.assertIn(need, names[:number], f"{step.name} needs {need}")


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    sys.exit(1 if bad else 0)
