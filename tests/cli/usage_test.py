# SPDX-License-Identifier: Apache-2.0
"""The command line itself, and controllers that are not there, or are none."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from control import EBBCTL, PATIENCE


def run(*words, **more):
    return subprocess.run([EBBCTL, *words], text=True, capture_output=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL, check=False, **more)


class Usage(unittest.TestCase):
    BAD = (
        ("protec", "shop"),
        ("job",),
        ("job", "look", "1"),
        ("protect",),
        ("protect", "shop"),
        ("protect", "shop", "--target", "vault", "extra"),
        ("protect", "shop", "--target", "vault", "--interval", "soon"),
        ("protect", "shop", "--target", "vault", "--interval", "0.01"),
        ("protect", "shop", "--target", "vault", "--interval", "-5"),
        ("protect", "shop", "--target", "vault", "--interval", "nan"),
        ("protect", "shop", "--target", "vault", "--interval", "86401"),
        ("protect", "shop", "--target", "vault", "--disk", "naa.1"),
        ("protect", "shop", "--targe", "vault"),
        ("resync", "shop"),
        ("resync", "shop", "--full", "--checksum"),
        ("interval", "shop"),
        ("checkpoint", "shop", "--name"),
        ("job", "watch"),
        ("job", "watch", "first"),
        ("job", "watch", "-1"),
        ("cancel",),
        ("cancel", "1.5"),
        ("failover", "shop", "--unreachable"),
        ("revoke",),
        ("token", "create", "--machine", "shop"),
        ("machines", "--loud"),
        ("--socket",),
    )

    def test_what_is_wrong_is_said_and_nobody_is_asked(self):
        for words in self.BAD:
            with self.subTest(words):
                done = run("--socket", "/nonexistent", *words)
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assertIn("E_USAGE", done.stderr)
                self.assertEqual(done.stdout, "")
                done = run("--json", "--socket", "/nonexistent", *words)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(json.loads(done.stdout)["error"]["code"], "E_USAGE")
                self.assertEqual(done.stderr, "")

    def test_help_and_version(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("protect", "failover", "job watch", "token create", "--json"):
            self.assertIn(word, done.stdout)
        self.assertIn("--overwrite", run("protect", "--help").stdout)
        self.assertRegex(run("--version").stdout, r"^ebbctl \d+\.\d+\.\d+\n$")


class NoController(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ebb-cli-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder)
        self.place = os.path.join(self.folder, "socket")

    def refused(self, code, *words, command=("jobs",), **more):
        done = run(*words, *command, **more)
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertIn(code, done.stderr)
        done = run("--json", *words, *command, **more)
        self.assertEqual(done.returncode, 3)
        error = json.loads(done.stdout)["error"]
        self.assertEqual(error["code"], code)
        self.assertTrue(error["remedy"])

    def test_nobody_is_there(self):
        self.refused("E_CONTROLLER", "--socket", self.place)
        self.refused("E_CONTROLLER", "--socket", "/" + "long" * 40)
        self.refused("E_CONTROLLER", "--socket", "")
        self.refused("E_CONTROLLER", "--socket", self.place, command=())
        self.refused("E_CONTROLLER", "--socket", self.place, command=("job", "watch", "1"))
        with socket.socket(socket.AF_UNIX) as left:  # of a controller that has died
            left.bind(self.place)
        self.refused("E_CONTROLLER", "--socket", self.place)

    def test_others_may_not_ask(self):
        if os.geteuid() != 0:
            self.skipTest("only root can be somebody else")
        tool = os.path.join(self.folder, "ebbctl")
        shutil.copy(EBBCTL, tool)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.place)
            os.chmod(self.place, 0o600)
            os.chmod(self.folder, 0o755)
            listening.listen()
            done = subprocess.run([tool, "--json", "--socket", self.place], user=65534, text=True,
                                  capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "E_CONTROLLER_DENIED")

    def answers(self, text):
        """Somebody listens and says this."""
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self.place)
        listening.listen()

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def end():
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join()
            os.unlink(self.place)
        return end

    def test_who_answers_is_no_controller(self):
        for text in (b"", b"hello\n", b"HTTP/1.1 200 OK\r\n",
                     b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
                     b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{\"a",
                     b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n\xff"):
            with self.subTest(text):
                end = self.answers(text)
                try:
                    self.refused("E_CONTROLLER", "--socket", self.place)
                finally:
                    end()

    def test_a_refusal_without_words(self):
        end = self.answers(b"HTTP/1.1 500 Sorry\r\nContent-Length: 2\r\n\r\n[]")
        try:
            self.assertEqual(run("--socket", self.place, "jobs").returncode, 1)
        finally:
            end()
