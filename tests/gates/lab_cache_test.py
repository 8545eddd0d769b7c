#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lab's cache: a kernel that was built somewhere is known by its label afterwards (kernel.sh add), and what is killed
while it makes something leaves nothing mounted there."""
import os
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNEL = os.path.join(TOP, "scripts/lab/kernel.sh")
FILES = {
    "arch/x86/boot/bzImage": "a kernel\n",
    "Module.symvers": "",
    "include/config/kernel.release": "9.9.9\n",
    "Makefile": "modules_install:\n\tmkdir -p $(INSTALL_MOD_PATH)/lib/modules/9.9.9\n"
                "\ttouch $(INSTALL_MOD_PATH)/lib/modules/9.9.9/modules.order "
                "$(INSTALL_MOD_PATH)/lib/modules/9.9.9/modules.builtin\n",
}
NEWER = 'CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"\nCONFIG_BLOCK=y\n'
OLDER = "#\n# Compiler: gcc-11 (Debian 11.3.0-1) 11.3.0\n#\nCONFIG_BLOCK=y\n"


class KernelAdd(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = os.path.join(folder.name, "tree")
        self.cache = os.path.join(folder.name, "cache")
        os.makedirs(os.path.join(self.cache, "kernels"))
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name, text):
        path = os.path.join(self.tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def kernel(self, *words):
        """(exit status, what was printed, what was complained of)"""
        done = subprocess.run([KERNEL, *words], capture_output=True, text=True, check=False,
                              env=dict(os.environ, EBB_CACHE=self.cache))
        return done.returncode, done.stdout.strip(), done.stderr

    def test_it_is_known_by_its_label(self):
        self.write(".config", NEWER)
        status, _, said = self.kernel("add", "own", self.tree)
        self.assertEqual(status, 0, said)
        # As whoever builds a module or boots a guest asks.
        for words, answer in ((("fetch", "own"), ""), (("release", "own"), "9.9.9"),
                              (("cc", "own"), "gcc-12"),
                              (("path", "own"), os.path.join(self.cache, "kernels/own"))):
            self.assertEqual(self.kernel(*words)[:2], (0, answer), words)

    def test_older_kernels_name_their_compiler_in_a_comment(self):
        self.write(".config", OLDER)
        self.assertEqual(self.kernel("add", "own", self.tree)[0], 0)
        self.assertEqual(self.kernel("cc", "own")[1], "gcc-11")

    def test_one_that_names_no_compiler_is_refused(self):
        self.write(".config", "CONFIG_BLOCK=y\n")
        status, _, said = self.kernel("add", "own", self.tree)
        self.assertNotEqual(status, 0)
        self.assertIn("which compiler", said)

    def test_one_that_was_not_built_is_refused(self):
        self.write(".config", NEWER)
        os.remove(os.path.join(self.tree, "arch/x86/boot/bzImage"))
        status, _, said = self.kernel("add", "own", self.tree)
        self.assertNotEqual(status, 0)
        self.assertIn("bzImage", said)

    def test_labels_that_are_taken_or_not_known(self):
        self.write(".config", NEWER)
        self.assertNotEqual(self.kernel("add", "sid", self.tree)[0], 0)
        self.assertNotEqual(self.kernel("add", "Not/One", self.tree)[0], 0)
        self.assertNotEqual(self.kernel("fetch", "own")[0], 0)


class OwnMounts(unittest.TestCase):
    """A later `rm -rf` of what was half made would come to this machine's devices."""

    def test_nothing_stays_mounted(self):
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "null")
            with open(place, "w", encoding="ascii"):
                pass
            words = 'mount --bind /dev/null "$0" && mountpoint "$0" && kill -9 $$'
            done = subprocess.run(
                ["bash", "-c", '. "$0/scripts/lab/common.sh"; in_own_mounts bash -c "$1" "$2"', TOP, words, place],
                stdout=subprocess.PIPE, text=True, check=False, env=dict(os.environ, EBB_CACHE=folder))
            self.assertIn("is a mountpoint", done.stdout)
            self.assertEqual(subprocess.run(["mountpoint", "-q", place], check=False).returncode, 32)


if __name__ == "__main__":
    program = unittest.main(exit=False)
    failed = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
