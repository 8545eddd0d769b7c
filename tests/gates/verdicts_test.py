#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Module tests that go on where a run stopped: what has another case, module, kernel or tool than when it passed runs again,
and so does what failed, what was skipped, and all that is in doubt."""
import contextlib
import io
import os
import re
import sys
import tempfile
import types
import unittest
from unittest import mock

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/kmod"))
import restarts  # noqa: E402  (the path is set just above)
import run  # noqa: E402
import verdicts  # noqa: E402

CASE = "tests/kmod/cases/{}.sh"
FILES = {
    "CMakeLists.txt": "project(ebb)\n",
    "cmake/EbbTargets.cmake": "# targets\n",
    "daemon/base/error.h": "// errors\n",
    "include/uapi/linux/ebb.h": "/* commands */\n",
    "kmod/hook.c": "int hook;\n",
    "scripts/build.sh": "ninja\n",
    "scripts/lab/vm.py": "# machines\n",
    "tests/CMakeLists.txt": "# tools\n",
    "tests/kmod/CMakeLists.txt": "# units\n",
    "tests/kmod/guest/lib.sh": "load() { :; }\n",
    "tests/kmod/guest/leaks.sh": "echo scan\n",
    "tests/kmod/guest/restart.sh": "load() { :; }\n",
    "tests/kmod/lib/stamp.cc": "// stamps\n",
    "tests/kmod/model/model.cc": "// model\n",
    "tests/kmod/modules/stall.c": "int stall;\n",
    "tests/kmod/races.py": "# races\n",
    "tests/kmod/run.py": "# runner\n",
    "tests/kmod/tools/stamper.cc": "// stamper\n",
    "tests/kmod/tools/modeltest.cc": "// modeltest\n",
    "udev/60-ebb.rules": "# rules\n",
    "docs/testing.md": "# Testing\n",
    CASE.format("resize"): "stamper --threads 2\n",
    CASE.format("swap"): "cp /ebb/udev/60-ebb.rules /etc; stamper\n",
    CASE.format("model"): "modeltest --seed 1\n",
}
KERNEL = {"vmlinuz": "a kernel", "release": "6.1.0\n", "complete": "", "cc": "gcc-12\n",
          "lib/modules/6.1.0/kernel/brd.ko": "brd"}
ALL = {"resize", "swap", "model"}


def write(folder, files):
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


class Planted(unittest.TestCase):
    """A tree, a cache with two kernels, a root filesystem of guests."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree, self.cache = os.path.join(folder.name, "tree"), os.path.join(folder.name, "cache")
        self.packages = "qemu-system-x86 7.2\n"
        write(self.tree, FILES)
        for label in ("6.1", "6.12", "debug", "kcsan"):
            write(os.path.join(self.cache, "kernels", label), dict(KERNEL, release=label))
        write(self.cache, {"rootfs/var/lib/dpkg/status": "Package: fio\n"})
        environment = {key: value for key, value in os.environ.items() if key != "EBB_FRESH"}
        for patch in (mock.patch.object(verdicts, "TOP", self.tree), mock.patch.object(verdicts, "tool", self.tool),
                      mock.patch.object(verdicts, "installed", lambda: self.packages),
                      mock.patch.dict(os.environ, dict(environment, EBB_CACHE=self.cache), clear=True)):
            patch.start()
            self.addCleanup(patch.stop)

    def tool(self, script, *words):
        return os.path.join(self.cache, "rootfs" if script == "rootfs.sh" else "kernels/" + words[1])

    def of(self, kernel="6.1"):
        return verdicts.Verdicts(kernel, lambda: verdicts.shared_inputs(kernel, ["tests/kmod/run.py"]),
                                 lambda name: verdicts.case_inputs(CASE.format(name)))

    def all_pass(self, kernel="6.1"):
        kept = self.of(kernel)
        for name in ALL:
            kept.earlier(name)
            self.assertTrue(kept.keep(name))

    def to_run(self, kernel="6.1"):
        kept = self.of(kernel)
        return {name for name in ALL if not kept.earlier(name)}

    def after(self, name, text="changed\n", folder=None):
        """What has to run when all had passed and then a file was changed."""
        self.all_pass()
        write(folder or self.tree, {name: text})
        return self.to_run()


class VerdictsTest(Planted):
    def test_nothing_has_passed_at_first(self):
        self.assertEqual(self.to_run(), ALL)

    def test_what_has_passed_is_told_with_its_date(self):
        self.all_pass()
        self.assertRegex(self.of().earlier("swap"), r"^20\d\d-\d\d-\d\d \d\d:\d\d$")
        self.assertEqual(self.to_run(), set())

    def test_what_every_test_depends_on(self):
        for name in ("kmod/hook.c", "include/uapi/linux/ebb.h", "tests/kmod/lib/stamp.cc", "tests/kmod/guest/lib.sh",
                     "tests/kmod/tools/stamper.cc", "tests/kmod/modules/stall.c", "tests/kmod/run.py",
                     "daemon/base/error.h", "scripts/lab/vm.py", "tests/CMakeLists.txt", "kmod/new.c"):
            self.assertEqual(self.after(name, f"changed: {name}\n"), ALL, name)

    def test_a_changed_case_alone(self):
        self.assertEqual(self.after(CASE.format("swap")), {"swap"})

    def test_a_file_that_a_case_names(self):
        self.assertEqual(self.after("udev/60-ebb.rules"), {"swap"})

    def test_the_model_where_it_is_used(self):
        for name in ("tests/kmod/model/model.cc", "tests/kmod/tools/modeltest.cc", "tests/kmod/model/new.cc"):
            self.assertEqual(self.after(name), {"model"}, name)

    def test_what_looks_for_leaks(self):
        self.all_pass("debug")
        self.assertEqual(self.after("tests/kmod/guest/leaks.sh"), set())
        self.assertEqual(self.to_run("debug"), ALL)

    def test_what_judges_races(self):
        self.all_pass("kcsan")
        self.assertEqual(self.after("tests/kmod/races.py"), set())
        self.assertEqual(self.to_run("kcsan"), ALL)

    def test_what_no_case_depends_on(self):
        for name in ("docs/testing.md", "tests/kmod/guest/restart.sh", "kmod/hook.o", "kmod/.hook.o.cmd", "tests/kmod/lib/__pycache__/x.py"):
            self.assertEqual(self.after(name), set(), name)

    def test_another_kernel(self):
        self.all_pass()
        self.assertEqual(self.to_run("6.12"), ALL)
        for name in ("vmlinuz", "release", "cc", "lib/modules/6.1.0/kernel/brd.ko"):
            self.assertEqual(self.after("kernels/6.1/" + name, f"changed: {name}\n", self.cache), ALL, name)

    def test_another_emulator(self):
        self.all_pass()
        self.packages = "qemu-system-x86 8.2\n"
        self.assertEqual(self.to_run(), ALL)

    def test_other_packages_in_guests(self):
        self.assertEqual(self.after("rootfs/var/lib/dpkg/status", "Package: dd\n", self.cache), ALL)

    def test_what_became_again_as_it_was(self):
        self.assertEqual(self.after("kmod/hook.c"), ALL)
        write(self.tree, {"kmod/hook.c": FILES["kmod/hook.c"]})
        self.assertEqual(self.to_run(), set())

    def test_a_file_that_ends_early_is_no_verdict(self):
        self.all_pass()
        folder = os.path.join(self.cache, "verdicts/6.1")
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "r+", encoding="utf-8") as file:
                file.truncate(len(file.read()) - 1)
        self.assertEqual(self.to_run(), ALL)

    def test_a_tree_that_changes_while_it_runs(self):
        kept = self.of()
        kept.earlier("swap")
        write(self.tree, {"kmod/hook.c": "changed\n"})
        self.assertFalse(kept.keep("swap"))
        self.assertEqual(self.to_run(), ALL)
        write(self.tree, {"kmod/hook.c": FILES["kmod/hook.c"]})
        self.assertEqual(self.to_run(), ALL)

    def test_all_anew(self):
        self.all_pass()
        with mock.patch.dict(os.environ, EBB_FRESH="1"):
            self.assertEqual(self.to_run(), ALL)
        self.assertEqual(self.to_run(), set())

    def test_an_input_that_is_gone_is_an_error(self):
        os.remove(os.path.join(self.tree, "tests/kmod/run.py"))
        self.assertRaises(OSError, self.of)


class Machine:
    """Says of each case what its name does; "leak" passes, and has lost something."""

    def __init__(self, _options, _number, needs):
        self.needs, self.passed = needs, []

    def run(self, case):
        if case.name in ("failed", "skipped"):
            return case.name, "SKIPPED: why"
        self.passed.append(case.name)
        return "passed", ""

    def leaks(self):
        return "failed" if "leak" in self.passed else "passed", ""

    def close(self):
        pass


class RunnerTest(unittest.TestCase):
    """What is kept of what the cases say."""

    def kept(self, kernel, *names):
        """Names of cases that were kept as passed, in one job."""
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(run, "Machine", Machine), \
                mock.patch.object(run, "TOP", folder), contextlib.redirect_stdout(io.StringIO()):
            seen = []
            store = types.SimpleNamespace(keep=lambda name: seen.append(name) or True)
            options = types.SimpleNamespace(kernel=kernel, tag="", verbose=False)
            cases = [types.SimpleNamespace(name=name, needs=0, own=False) for name in names]
            run.Runner(options, cases, store).serve(0)
        return seen

    def test_passes_alone(self):
        self.assertEqual(self.kept("6.1", "one", "failed", "skipped", "two"), ["one", "two"])

    def test_under_kmemleak_when_nothing_was_lost(self):
        self.assertEqual(self.kept("debug", "one", "two"), ["one", "two"])
        self.assertEqual(self.kept("debug", "one", "leak", "two"), [])
        many = [f"case{number}" for number in range(run.LEAKS_EVERY)]
        self.assertEqual(self.kept("debug", *many, "leak"), many)

    def test_nothing_is_kept_without_resume(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(run, "Machine", Machine), \
                mock.patch.object(run, "TOP", folder), contextlib.redirect_stdout(io.StringIO()):
            options = types.SimpleNamespace(kernel="6.1", tag="", verbose=False)
            runner = run.Runner(options, [types.SimpleNamespace(name="one", needs=0, own=False)])
            runner.serve(0)
            self.assertEqual(runner.counts["passed"], 1)
            self.assertEqual(os.listdir(folder), ["build"])


class StoriesTest(unittest.TestCase):
    """restarts.py has all stories of several boots in one file."""

    def changed(self, old, new):
        """Stories that have to run after a change of that file."""
        with open(os.path.join(TOP, "tests/kmod/restarts.py"), encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(text.count(old), 1)
        names = [story.__name__ for story in restarts.STORIES]
        before = {name: restarts.story_inputs(name) for name in names}
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(restarts, "TOP", folder):
            write(folder, {"tests/kmod/restarts.py": text.replace(old, new)})
            return {name for name in names if restarts.story_inputs(name) != before[name]}, set(names)

    def test_one_story(self):
        self.assertEqual(self.changed("def wide(m):\n", "def wide(m):\n    m.run('true')\n")[0], {"wide"})

    def test_what_they_share(self):
        changed, every = self.changed("REGION = 256", "REGION = 512")
        self.assertEqual(changed, every)
        changed, every = self.changed("def own_map_equal(number):\n", "def own_map_equal(number, more=0):\n")
        self.assertEqual(changed, every)

    def test_one_more_story(self):
        self.assertEqual(self.changed("STORIES = [crash, ", "STORIES = [crash, crash, ")[0], set())


class TreeTest(unittest.TestCase):
    """The lists of inputs fit the tree as it is."""

    def test_all_are_there(self):
        for path in (*verdicts.MODULE, *verdicts.FRAME, *verdicts.MODEL, *restarts.FILES, verdicts.LEAKS,
                     verdicts.RACES, verdicts.STORIES):
            self.assertTrue(os.path.exists(os.path.join(TOP, path)), path)

    def test_tools_include_nothing_else(self):
        listed = [os.path.join(TOP, path) for path in (*verdicts.MODULE, *verdicts.FRAME, *verdicts.MODEL)]
        model = {os.path.relpath(file, TOP) for path in verdicts.MODEL for file in verdicts.files_of(path)}
        for path in (*verdicts.FRAME, *verdicts.MODEL):
            for source in verdicts.files_of(path):
                if not source.endswith((".cc", ".h")):
                    continue
                with open(source, encoding="utf-8") as file:
                    names = re.findall(r'^#include "(.*)"', file.read(), re.M)
                for name in names:
                    places = [os.path.join(TOP, root, name) for root in ("tests/kmod", "include/uapi", "daemon")]
                    found = [place for place in places if os.path.exists(place)]
                    self.assertTrue(found and found[0].startswith(tuple(listed)), f"{source}: {name}")
                    if os.path.relpath(source, TOP) not in model:
                        self.assertFalse(name.startswith("model/"), f"{source}: {name}")


if __name__ == "__main__":
    program = unittest.main(exit=False)
    failed = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
