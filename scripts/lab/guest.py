# SPDX-License-Identifier: Apache-2.0
"""The host's end of the agent (agent.c): runs commands in a guest, with output and exit status."""
import os
import socket
import threading
import time


class GuestError(Exception):
    """The guest is gone, or a command failed that had to succeed."""


class Command:
    """A command under way in a guest; made by Guest.spawn()."""

    def __init__(self, guest, ident, text, on_output):
        self._guest, self._ident, self.text = guest, ident, text
        self._on_output = on_output
        self._data = bytearray()
        self._done = threading.Event()
        self.status = None

    @property
    def output(self):
        """Standard output and error up to now, as text."""
        return bytes(self._data).decode("utf-8", "replace")

    @property
    def output_bytes(self):
        return bytes(self._data)

    def running(self):
        return not self._done.is_set()

    def ended(self, timeout):
        """Waits at most so long; whether it has ended."""
        return self._done.wait(timeout)

    def wait(self, timeout=300, check=True):
        """Waits for the end; returns self. GuestError if the guest dies, the status is not 0 (and
        check is true) or time is up (the command is killed then)."""
        if not self._done.wait(timeout):
            self.kill(9)
            raise GuestError(f"{self.text!r} did not end in {timeout} s; output so far:\n"
                             + self.output[-4000:])
        if self.status is None:
            raise GuestError(f"the guest ended while {self.text!r} ran; output:\n"
                             + self.output[-4000:])
        if check and self.status != 0:
            raise GuestError(f"{self.text!r}: exit status {self.status}\n" + self.output[-4000:])
        return self

    def kill(self, signal=15):
        """A signal to the command's process group."""
        self._guest.send(f"K {self._ident} {signal}\n".encode())

    def _output(self, data):
        self._data += data
        if self._on_output:
            self._on_output(data)

    def _end(self, status):
        self.status = status
        self._done.set()


class Guest:
    """Listens on a socket that QEMU connects to; connected() is true once the agent has spoken."""

    def __init__(self, path):
        if os.path.exists(path):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._sock = None
        self._commands = {}
        self._next = 1
        self._lock = threading.Lock()
        self._up = threading.Event()
        self._gone = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def expect(self, ident, text, on_output=None):
        """A command that the guest starts by itself under that id (0: ebb.run of the kernel
        command line)."""
        command = Command(self, ident, text, on_output)
        with self._lock:
            self._commands[ident] = command
        return command

    def spawn(self, text, stdin=b"", on_output=None):
        """Starts a shell command; returns at once. on_output(bytes) is called in another thread."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        with self._lock:
            ident, self._next = self._next, self._next + 1
            command = Command(self, ident, text, on_output)
            self._commands[ident] = command
            if self._gone.is_set():
                command._done.set()
                return command
        raw = text.encode()
        self.send(f"R {ident} {len(raw)} {len(stdin)}\n".encode() + raw + stdin)
        return command

    def run(self, text, timeout=300, check=True, stdin=b"", on_output=None):
        """Runs a shell command to its end; returns the Command (output, status)."""
        return self.spawn(text, stdin, on_output).wait(timeout, check)

    def poll(self, text, timeout=60, every=0.2):
        """Repeats a command until it succeeds; GuestError when time is up. Returns the Command."""
        end = time.monotonic() + timeout
        while True:
            command = self.run(text, check=False)
            if command.status == 0:
                return command
            if time.monotonic() > end:
                raise GuestError(f"{text!r} did not succeed in {timeout} s: {command.output}")
            time.sleep(every)

    def send(self, data):
        with self._lock:
            if self._sock is None:
                raise GuestError("the agent is not connected")
            try:
                self._sock.sendall(data)
            except OSError as error:
                raise GuestError(f"the guest is gone: {error}") from error

    def connected(self, timeout=0):
        """Whether the agent has spoken; waits for it up to `timeout` seconds or the guest's end."""
        end = time.monotonic() + timeout
        while not self._up.is_set():
            left = end - time.monotonic()
            if left <= 0 or self._gone.is_set():
                return self._up.is_set()
            self._up.wait(min(left, 0.2))
        return True

    def close(self):
        self._gone.set()
        for sock in (self._listener, self._sock):
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()

    def _serve(self):
        try:
            sock, _ = self._listener.accept()
            self._sock = sock
            self._frames(sock.makefile("rb"))
        except (OSError, ValueError):
            pass
        self._gone.set()
        with self._lock:
            for command in self._commands.values():
                command._done.set()

    def _frames(self, stream):
        for line in stream:
            kind, *numbers = line.split()
            if kind == b"H":
                self._up.set()
            elif kind == b"O":
                data = stream.read(int(numbers[1]))
                self._find(int(numbers[0]))._output(data)
            elif kind == b"X":
                self._find(int(numbers[0]))._end(int(numbers[1]))

    def _find(self, ident):
        with self._lock:
            return self._commands[ident]
