#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kmod/compat/probe.sh: exactly one form of a feature must compile, or the build ends and says why."""
import os
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROBE = os.path.join(TOP, "kmod/compat/probe.sh")
KERNEL = "int known(int);\nstruct disk { int live; };\nenum { FLAG };\n"


class Probe(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, *names):
        return os.path.join(self.folder.name, *names)

    def probe(self, **forms):
        """(status, what found.h would get, what was said)"""
        os.makedirs(self.path("probes/feature"), exist_ok=True)
        with open(self.path("kernel.h"), "w", encoding="utf-8") as file:
            file.write(KERNEL)
        for name, text in forms.items():
            with open(self.path("probes/feature", name + ".c"), "w", encoding="utf-8") as file:
                file.write(text)
        out = self.path("found", "feature.h")
        done = subprocess.run(["sh", PROBE, self.path("probes/feature"), out, "gcc", "-include",
                               self.path("kernel.h")], capture_output=True, text=True, check=False)
        found = ""
        if os.path.exists(out):
            with open(out, encoding="utf-8") as file:
                found = file.read()
        return done.returncode, found, done.stderr

    def test_the_one_that_compiles(self):
        status, found, _ = self.probe(new="int (*probe)(int) = known;\n",
                                      old="int (*probe)(int, int) = known;\n")
        self.assertEqual((status, found), (0, "#define EBB_HAVE_NEW 1\n"))

    def test_none_is_an_error_that_names_what_was_tried(self):
        status, found, said = self.probe(new="int (*probe)(char *) = known;\n",
                                         old="int probe(void) { return unheard_of(); }\n")
        self.assertNotEqual(status, 0)
        self.assertEqual(found, "")
        for part in ("feature is of no form that is known", "feature/new.c", "feature/old.c",
                     "unheard_of", "kmod/compat/probes/feature"):
            self.assertIn(part, said)

    def test_two_are_an_error(self):
        status, found, said = self.probe(new="int (*probe)(int) = known;\n", old="int probe;\n")
        self.assertNotEqual(status, 0)
        self.assertEqual(found, "")
        self.assertIn("several forms at once: new old", said)

    def test_absence_is_shown_by_compiling(self):
        for text, there in (("enum { known };\n", True), ("enum { unknown };\n", False),
                            ("enum { FLAG };\n", True),
                            ("struct probe { struct disk; int live; };\n", True),
                            ("struct probe { struct disk; int dead; };\n", False)):
            status, _, _ = self.probe(absent=text)
            self.assertEqual(status != 0, there, text)

    def test_an_old_result_does_not_stay(self):
        self.assertEqual(self.probe(new="int probe;\n")[0], 0)
        status, found, _ = self.probe(new="int probe = nothing;\n")
        self.assertNotEqual(status, 0)
        self.assertEqual(found, "")


if __name__ == "__main__":
    program = unittest.main(exit=False)
    failed = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
