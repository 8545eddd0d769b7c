# SPDX-License-Identifier: Apache-2.0
"""QEMU's control socket (QMP): commands with their answers, and events."""
import json
import queue
import socket
import threading
import time


class QmpError(Exception):
    """The command was refused; str() is QEMU's reason."""


class Qmp:
    """One connection. execute() may be called from several threads, one at a time each."""

    def __init__(self, path, deadline):
        self._sock = _connect(path, deadline)
        self._file = self._sock.makefile("rb")
        self._answers = queue.Queue()
        self._events = []
        self._changed = threading.Condition()
        self._lock = threading.Lock()
        json.loads(self._file.readline())
        threading.Thread(target=self._read, daemon=True).start()
        self.execute("qmp_capabilities")

    def _read(self):
        try:
            for line in self._file:
                message = json.loads(line)
                if "event" in message:
                    with self._changed:
                        self._events.append(message)
                        self._changed.notify_all()
                else:
                    self._answers.put(message)
        except (OSError, ValueError):
            pass
        self._answers.put({"error": {"desc": "connection to QEMU closed"}})

    def execute(self, command, _timeout=60, _literal=False, **arguments):
        """Sends a command and returns its answer. Underscores become dashes in argument names, but
        for the few commands that have them: _literal."""
        if not _literal:
            arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        with self._lock:
            try:
                self._sock.sendall(
                    json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                answer = self._answers.get(timeout=_timeout)
            except (OSError, queue.Empty) as error:
                raise QmpError(f"{command}: {error!r}") from error
        if "error" in answer:
            raise QmpError(f"{command}: {answer['error']['desc']}")
        return answer.get("return")

    def wait_event(self, name, timeout=60):
        """Waits for an event of that name (one that came earlier counts too) and takes it."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                for event in self._events:
                    if event["event"] == name:
                        self._events.remove(event)
                        return event
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no QMP event {name} in {timeout} s")
                self._changed.wait(left)

    def close(self):
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()


def _connect(path, deadline):
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
            return sock
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
