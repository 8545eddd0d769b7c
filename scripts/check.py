#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the steps of `make check` (scripts/check_steps.py), in parallel where they are independent.

  scripts/check.py [--jobs N] [--list] [GROUP or STEP]...

Each step writes a log to build/logs/STEP.log; one line per step is printed when it ends, and the
end of the log where it failed. A step that counts tests prints `N passed, M failed` as its last
such line (or is ctest or GoogleTest); any other counts as one. A step that should have run tests
and ran none has failed. Where some passed in an earlier run with the same inputs it says how many
(see docs/testing.md). The last line printed is the sum.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "scripts"))
from check_steps import STEPS  # noqa: E402  (the path is set just above)

LOGS = os.path.join(TOP, "build", "logs")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed\b", re.M)
EARLIER = re.compile(r"^\d+ passed, \d+ failed; (\d+) of them in an earlier run$", re.M)
CTEST = re.compile(r"(\d+) tests? failed out of (\d+)")
GTEST_RAN = re.compile(r"\[==========\] (\d+) tests? from .* ran")
GTEST_FAILED = re.compile(r"\[  FAILED  \] (\d+) tests?, listed below")
TAIL_LINES = 60


def count_tests(text):
    """(passed, failed) as the log tells it, or None where it tells nothing."""
    if found := SUMMARY.findall(text):
        return int(found[-1][0]), int(found[-1][1])
    if found := CTEST.findall(text):
        failed, total = map(int, found[-1])
        return total - failed, failed
    if found := GTEST_RAN.findall(text):
        failed = sum(map(int, GTEST_FAILED.findall(text)))
        return sum(map(int, found)) - failed, failed
    return None


class Run:
    """One step being run, or done."""

    def __init__(self, step):
        self.step = step
        self.state = "waiting"  # waiting, running, passed, failed, skipped
        self.seconds = 0.0
        self.passed = 0
        self.failed = 0
        self.earlier = 0
        self.why = ""
        self.process = None
        self.log = os.path.join(LOGS, step.name + ".log")

    def execute(self):
        """Runs it to its end and says "passed" or "failed"; its state is the scheduler's affair."""
        began = time.monotonic()
        with open(self.log, "w", encoding="utf-8") as log:
            env = dict(os.environ, EBB_JOBS=str(max(1, self.step.weight)))
            self.process = subprocess.Popen(
                ["bash", "-c", self.step.command], cwd=TOP, env=env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = self.process.wait(timeout=self.step.limit)
            except subprocess.TimeoutExpired:
                self.kill()
                code = self.process.wait()
                self.why = f"still running after {self.step.limit} s"
        self.seconds = time.monotonic() - began
        return self.judge(code)

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def judge(self, code):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            text = log.read()
        counted = count_tests(text)
        self.earlier = int((EARLIER.findall(text) or [0])[-1])
        if counted is not None:
            self.passed, self.failed = counted
        elif code == 0 and not self.step.tests:
            self.passed = 1
        if code == 0 and self.failed == 0 and self.passed > 0:
            return "passed"
        if not self.why:
            self.why = f"exit {code}" if code else "it ran no test"
        self.failed = max(self.failed, 1)
        return "failed"


class Scheduler:
    """Starts steps in their order as soon as what they need has passed and cores are free."""

    def __init__(self, steps, jobs):
        self.runs = {step.name: Run(step) for step in steps}
        self.jobs = jobs
        self.free = jobs
        self.changed = threading.Condition()

    def ready(self, run):
        needed = [self.runs[n] for n in run.step.needs if n in self.runs]
        for other in needed:
            if other.state in ("failed", "skipped"):
                run.state, run.why, run.failed = "skipped", f"{other.step.name} failed", 1
                report(run)
                return False
        return all(other.state == "passed" for other in needed)

    def start(self, run):
        weight = min(run.step.weight, self.jobs)
        if weight > self.free:
            return False
        self.free -= weight
        run.state = "running"
        threading.Thread(target=self.work, args=(run, weight)).start()
        return True

    def work(self, run, weight):
        verdict = None
        try:
            verdict = run.execute()
        finally:
            # State and cores change together: all() must never see a step done whose cores are taken.
            with self.changed:
                if verdict is None:
                    verdict, run.failed, run.why = "failed", 1, "could not be run"
                run.state = verdict
                self.free += weight
                report(run)
                self.changed.notify_all()

    def all(self):
        with self.changed:
            while True:
                for run in self.runs.values():
                    # A heavy step that waits for cores holds back what stands behind it.
                    if run.state == "waiting" and self.ready(run) and not self.start(run):
                        break
                states = [run.state for run in self.runs.values()]
                if "running" not in states:
                    if "waiting" not in states:
                        return
                    continue
                self.changed.wait()


def report(run):
    counts = f"{run.passed} passed" + (f", {run.failed} failed" if run.failed else "")
    counts += f", {run.earlier} of them in an earlier run" if run.earlier else ""
    line = f"{run.state:9}{run.step.name:18}{run.seconds:7.1f} s   {counts}"
    print(line + (f"   ({run.why})" if run.why else ""), flush=True)
    if run.state != "failed":
        return
    with open(run.log, encoding="utf-8", errors="replace") as log:
        lines = log.read().splitlines()
    failures = [line for line in lines[:-TAIL_LINES] if re.search(r"\bFAILED\b|\bfailed\b", line)]
    print(f"  --- failures in and end of {os.path.relpath(run.log, TOP)} ---")
    for text in failures[:TAIL_LINES] + lines[-TAIL_LINES:]:
        print("  | " + text)
    sys.stdout.flush()


def select(names):
    """The steps asked for by name or group, with what they need, in the order of the table."""
    by_name = {step.name: step for step in STEPS}
    if not names:
        return [step for step in STEPS if step.group not in ("full", "debug", "kernels")]
    chosen = set()

    def add(name):
        if name not in chosen:
            chosen.add(name)
            for need in by_name[name].needs:
                add(need)

    for name in names:
        members = [s.name for s in STEPS if name in (s.name, s.group)]
        if not members:
            sys.exit(f"check.py: no step or group named {name}")
        for member in members:
            add(member)
    return [step for step in STEPS if step.name in chosen]


def present(steps):
    """Those that can be run; what the cache lacks is said to be left out."""
    left = []
    for step in steps:
        path = os.path.join(os.environ["EBB_CACHE"], step.when)
        if step.when and not os.path.exists(path):
            print(f"{'left out':9}{step.name:18}no {path}", flush=True)
            continue
        left.append(step)
    return left


def print_table(runs, wall):
    print("\n   seconds  step")
    for run in sorted(runs, key=lambda r: -r.seconds):
        print(f"{run.seconds:10.1f}  {run.step.name}")
    print(f"{wall:10.1f}  wall time\n")


def main():
    parser = argparse.ArgumentParser(description="Run the steps of make check.")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="cores to use (default: those of this machine)")
    parser.add_argument("--list", action="store_true", help="list the steps and exit")
    parser.add_argument("names", nargs="*", metavar="GROUP or STEP")
    args = parser.parse_args()
    steps = select(args.names)
    if args.list:
        for step in steps:
            print(f"{step.group:9}{step.name:18}{step.what}")
        return 0
    os.makedirs(LOGS, exist_ok=True)
    os.environ.setdefault("EBB_CACHE", os.path.join(TOP, ".cache"))
    began = time.monotonic()
    scheduler = Scheduler(present(steps), max(1, args.jobs))
    try:
        scheduler.all()
    except KeyboardInterrupt:
        for run in scheduler.runs.values():
            if run.state == "running" and run.process:
                run.kill()
        return 130
    runs = list(scheduler.runs.values())
    print_table(runs, time.monotonic() - began)
    failed = sum(run.failed for run in runs)
    earlier = sum(run.earlier for run in runs)
    print(f"{sum(run.passed for run in runs)} passed, {failed} failed" +
          (f"; {earlier} of them in an earlier run" if earlier else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
