# SPDX-License-Identifier: Apache-2.0
"""A disk that loses what was not flushed when its power is cut (powercut.c, an nbdkit plugin).

    disk = PowerCutDisk(image, lab.sockets)      # image: raw, its size is the disk's
    vm.disk("nbd:" + disk.socket, "lsi", wwn=...)
    vm.start() ... vm.power_cut()
    disk.cut("tear", seed)                       # or "drop"; before the machine starts again
    vm.start()
    disk.close()                                 # an orderly end: the image is complete
"""
import ctypes
import os
import signal
import socket
import subprocess
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class PowerCutDisk:
    """One such disk; `socket` is where QEMU connects. `folder` must have a short path."""

    _number = 0

    def __init__(self, image, folder):
        plugin = subprocess.run([os.path.join(TOP, "scripts/lab/tool.sh"), "powercut"], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.strip()
        PowerCutDisk._number += 1
        name = os.path.join(folder, f"cut{PowerCutDisk._number}")
        self.image, self.socket, self._control = image, name + ".nbd", name + ".ctl"
        self._plugin = plugin
        self.open()

    def open(self):
        """Serves the image (again, after close())."""
        for path in (self.socket, self._control):
            if os.path.exists(path):
                os.unlink(path)
        self._server = subprocess.Popen(
            ["nbdkit", "-f", "-U", self.socket, self._plugin, f"file={self.image}",
             f"control={self._control}"],
            stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
        end = time.monotonic() + 30
        while not (os.path.exists(self.socket) and os.path.exists(self._control)):
            if self._server.poll() is not None or time.monotonic() > end:
                raise RuntimeError("nbdkit did not start")
            time.sleep(0.02)

    def _ask(self, line):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self._control)
            s.sendall(line.encode() + b"\n")
            answer = s.makefile().readline().strip()
        if not answer.startswith("ok"):
            raise RuntimeError(f"{line}: {answer or 'no answer'}")
        return {k: int(v) for k, v in (w.split("=") for w in answer.split()[1:])}

    def cut(self, how="tear", seed=1):
        """Loses unflushed sectors: all ("drop") or each by a seeded coin ("tear"). Returns
        {"lost": sectors, "kept": sectors}. All clients must be gone (QEMU killed)."""
        return self._ask(f"cut {how} {seed}")

    def arm(self, what, count, pid):
        """The power will fail at the `count`th "write" or "flush" from now, which does not arrive:
        `pid`, QEMU's, is killed then. cut() says what that loses."""
        self._ask(f"arm {what} {count} {pid}")

    def refuse(self, offset, length, after=0):
        """Writes that touch this range of bytes fail from now on, all but the next `after`; of length 0:
        none does."""
        self._ask(f"refuse {offset} {length} {after}")

    def stats(self):
        """{"unflushed": sectors, "writes", "fua", "flushes", "cuts"}"""
        return self._ask("stats")

    def close(self):
        """Ends the server; the image then holds everything that was written."""
        if self._server.poll() is None:
            self._server.terminate()
            self._server.wait()
