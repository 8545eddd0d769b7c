# SPDX-License-Identifier: Apache-2.0
"""A controller of its own for each test, and ebbctl: both as they are built."""
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

BUILD = os.environ.get("EBB_BUILD", "build")
EBBD, EBBCTL = os.path.join(BUILD, "ebbd"), os.path.join(BUILD, "ebbctl")
# Far above what a slow machine needs; nothing here fails by being slow.
PATIENCE = int(os.environ.get("EBB_PATIENCE", "300"))


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """The controller, its folder, and machines that join it."""

    def __init__(self, qemu=None):
        self.folder = tempfile.mkdtemp(prefix="ebb-cli-", dir="/tmp")
        self.port = free_port()
        self.socket = os.path.join(self.folder, "s")
        self.database = os.path.join(self.folder, "state", "controller.db")
        self.process = None
        controller = os.path.join(self.folder, "controller")
        subprocess.run([EBBD, "ca-init", "--name", "test", "--folder", controller], check=True,
                       stdout=subprocess.DEVNULL)
        serve = {"address": "127.0.0.1", "port": self.port, "socket": self.socket}
        if qemu is not None:
            serve["qemu"] = qemu
        self.config = os.path.join(controller, "ebbd.json")
        with open(self.config, "w", encoding="utf-8") as out:
            json.dump({"name": "controller", "folder": controller, "roles": ["controller"],
                       "state": os.path.join(self.folder, "state"), "serve": serve}, out)

    def start(self):
        """Returns when it says, as to systemd, that it serves."""
        place = os.path.join(self.folder, "notify")
        if os.path.exists(place):
            os.unlink(place)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, \
                open(os.path.join(self.folder, "log"), "ab") as log:
            notified.bind(place)
            self.process = subprocess.Popen(
                [EBBD, "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(os.environ, NOTIFY_SOCKET=place), preexec_fn=die_with_parent)
            ended = os.pidfd_open(self.process.pid)
            try:
                readable, _, _ = select.select([notified, ended], [], [], PATIENCE)
            finally:
                os.close(ended)
            if notified not in readable or notified.recv(64) != b"READY=1":
                raise AssertionError("the controller does not start: " + self.log())
        return self

    def log(self):
        with open(os.path.join(self.folder, "log"), encoding="utf-8") as log:
            return log.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """By SIGTERM, as systemd does; its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def command(self, *words):
        return [EBBCTL, "--socket", self.socket, *words]

    def run(self, *words):
        """ebbctl, for people."""
        return subprocess.run(self.command(*words), text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)

    def ctl(self, *words, status=0):
        """ebbctl --json: its last line's value; the exit status must be `status`."""
        done = self.run("--json", *words)
        if done.returncode != status:
            raise AssertionError(f"ebbctl {' '.join(words)}: exit {done.returncode}, not {status}: "
                                 f"{done.stdout}{done.stderr}")
        lines = done.stdout.strip().splitlines()
        return json.loads(lines[-1]) if lines else None

    def codes(self, *words, status=1):
        """The codes of all reasons of a refusal."""
        said = self.ctl(*words, status=status)
        for reason in said.get("reasons") or [said["error"]]:
            assert reason["message"], said
        return [reason["code"] for reason in said.get("reasons") or [said["error"]]]

    def begin(self, *words):
        """A command in the background."""
        return subprocess.Popen(self.command(*words), text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=die_with_parent)

    def job(self, ident):
        return next(j for j in self.ctl()["jobs"] if j["id"] == ident)

    def protection(self, machine):
        return next((p for p in self.ctl()["protections"] if p["machine"] == machine), None)

    def token(self, machine, site="here"):
        return self.ctl("token", "create", "--machine", machine, "--site", site)["token"]

    def join(self, machine, *roles, token=None, folder=None):
        """As the operator of the machine does; its folder."""
        folder = folder or os.path.join(self.folder, machine)
        done = self.try_join(machine, token or self.token(machine), folder, roles or ("source",))
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return folder

    def try_join(self, machine, token, folder, roles=("source",)):
        words = [word for role in roles for word in ("--role", role)]
        return subprocess.run([EBBD, "join", "--controller", f"127.0.0.1:{self.port}", "--token",
                               token, "--name", machine, "--folder", folder, *words], text=True,
                              capture_output=True, timeout=PATIENCE, check=False)


class ControllerTest(unittest.TestCase):
    """A test with a controller that runs."""

    qemu = None

    def setUp(self):
        self.site = Site(self.qemu)
        self.addCleanup(self.site.end)
        self.site.start()
        self.ctl, self.codes, self.run_ctl = self.site.ctl, self.site.codes, self.site.run

    def watch(self, ident):
        """ebbctl job watch, which has shown something by now."""
        watching = self.site.begin("job", "watch", str(ident))
        self.assertTrue(watching.stdout.readline())
        return watching

    def begin_and_watch(self, *words):
        """A job that was begun, and somebody who follows it."""
        return self.watch(self.ctl(*words)["id"])

    def finish(self, process, status=0):
        """Output of a command in the background, once it has ended."""
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, status, out + err)
        return out
