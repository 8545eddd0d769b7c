# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md has every code that the sources have, and no other."""
import glob
import os
import re
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read(name):
    with open(name, encoding="utf-8") as file:
        return file.read()


class Errors(unittest.TestCase):
    def test_each_is_documented(self):
        sources = [name for folder in ("daemon", "ctl", "attach")
                   for kind in ("h", "cc")
                   for name in glob.glob(f"{TOP}/{folder}/**/*.{kind}", recursive=True)]
        used = {code for name in sources for code in re.findall(r'"(E_[A-Z_]+)"', read(name))}
        text = read(os.path.join(TOP, "docs/operations.md"))
        cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| E_")]
        listed = [code for cell in cells for code in re.findall(r"E_[A-Z_]+", cell)]
        self.assertGreater(len(used), 60)
        self.assertEqual(sorted(used - set(listed)), [], "not in docs/operations.md")
        self.assertEqual(sorted(set(listed) - used), [], "in docs/operations.md alone")
        self.assertEqual(len(listed), len(set(listed)), "one is there twice")
