# SPDX-License-Identifier: Apache-2.0
"""Two disks with a bandwidth of their own each way, as a target has them: loop devices on files of this
machine, limited by the kernel's block throttling. Needs root, and cgroup v1 blkio or v2 io.

  limited.py keep    (by Keeper) undoes what it is told on its input when that ends
"""
import json
import os
import signal
import subprocess
import sys

V1 = "/sys/fs/cgroup/blkio"
V2 = "/sys/fs/cgroup"
MIB = 1 << 20


class Unusable(Exception):
    """Why there are no limited disks here."""


class Keeper:
    """Another process, which outlives this one and undoes what this has done, the latest first: however
    this one ends, its end of the pipe does."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "keep"], text=True,
                                        stdin=subprocess.PIPE, start_new_session=True)

    def undo(self, *steps):
        """Each: ["run", a command], ["write", a text, a file] or ["rmdir", a folder]."""
        self.process.stdin.write(json.dumps(steps) + "\n")
        self.process.stdin.flush()

    def close(self):
        """All is undone when this returns."""
        self.process.stdin.close()
        self.process.wait()


def keep():
    """Of a Keeper."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    lines = []
    try:
        lines.extend(sys.stdin)
    finally:
        for line in reversed(lines):
            for kind, what, *where in json.loads(line):
                undo(kind, what, *where)


def undo(kind, what, where=None):
    """One step. What fails is said, and does not keep from the others."""
    try:
        if kind == "run":
            subprocess.run(what, check=True)
        elif kind == "write":
            write(where, what)
        elif kind == "rmdir":
            os.rmdir(what)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"limited disks: not undone: {error}", file=sys.stderr)


def write(path, text):
    """Of cgroups: one write."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def read(path):
    """A short file."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


class Limits:
    """Of bytes a second, each way, by device. With v1 each cgroup has limits of its own, and what the
    kernel writes back and commits for anybody belongs to the root: so both the rules and who is to
    be limited are there, and whatever gets to the device counts. With v2 the root has none: they
    are in a cgroup of this process, where what is written back belongs to who has written it
    (memory, io; ext4 and xfs), and the commits of ext4's journal, which kernel threads write, are not limited."""

    def __init__(self, keeper):
        if os.access(V1 + "/blkio.throttle.read_bps_device", os.W_OK):
            self.folder, self.v1 = V1, True
        elif os.access(V2 + "/cgroup.controllers", os.R_OK) and "io" in read(V2 + "/cgroup.controllers").split():
            self.folder, self.v1 = self._make(keeper), False
        else:
            raise Unusable("no cgroup with limits of block devices is mounted (v1 blkio, v2 io)")
        self.members = self.folder + "/cgroup.procs"

    @staticmethod
    def _make(keeper):
        on = read(V2 + "/cgroup.subtree_control").split()
        for controller in ("memory", "io"):
            if controller not in on:
                write(V2 + "/cgroup.subtree_control", "+" + controller)
                keeper.undo(["write", "-" + controller, V2 + "/cgroup.subtree_control"])
        folder = f"{V2}/ebb-bench-{os.getpid()}"
        os.mkdir(folder)
        keeper.undo(["rmdir", folder])
        return folder

    def rules(self, device, rate):
        """What to write where; no rate: no limit."""
        if not self.v1:
            return [(self.folder + "/io.max", f"{device} rbps={rate or 'max'} wbps={rate or 'max'}")]
        return [(f"{self.folder}/blkio.throttle.{way}_bps_device", f"{device} {rate or 0}")
                for way in ("read", "write")]

    def set(self, device, rate):
        for path, text in self.rules(device, rate):
            write(path, text)


class Disks:
    """`replica`, a block device, and `volume`, a folder of a filesystem on another; a context manager."""

    def __init__(self, folder, disk_mib, volume_mib):
        if os.geteuid() != 0:
            raise Unusable("only root may make loop devices and limit them")
        self.folder, self.sizes = folder, (disk_mib, volume_mib)
        self.keeper = self.limits = self.replica = self.volume = None
        self.devices = []

    def __enter__(self):
        os.makedirs(self.folder)
        self.keeper = Keeper()
        self.keeper.undo(["run", ["rm", "-rf", self.folder]])
        try:
            self.limits = Limits(self.keeper)
            self.replica = self._loop("replica", self.sizes[0])
            below = self._loop("retention", self.sizes[1])
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", below],
                           check=True)
            self.volume = os.path.join(self.folder, "volume")
            os.makedirs(self.volume)
            subprocess.run(["mount", below, self.volume], check=True)
            # Lazily: who was killed may be on its way out still.
            self.keeper.undo(["run", ["umount", "--lazy", self.volume]])
        except (OSError, subprocess.SubprocessError) as error:
            self.keeper.close()
            raise Unusable(f"no loop devices with limits can be made here: {error}") from error
        except BaseException:
            self.keeper.close()
            raise
        return self

    def __exit__(self, *error):
        self.keeper.close()

    def _loop(self, name, mib):
        path = os.path.join(self.folder, name + ".img")
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
        device = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", path], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.strip()
        number = read(f"/sys/class/block/{os.path.basename(device)}/dev")
        # Its bandwidth is what limits it, not its seeks; it goes with the device.
        write(f"/sys/class/block/{os.path.basename(device)}/queue/rotational", "0")
        # Later, so sooner: the rules go while the device is ours.
        self.keeper.undo(["run", ["losetup", "--detach", device]])
        self.keeper.undo(*[["write", text, path] for path, text in self.limits.rules(number, 0)])
        self.devices.append(number)
        return device

    def limit(self, rate):
        """Bytes a second, of each device, each way; 0: none."""
        for device in self.devices:
            self.limits.set(device, rate)

    def start(self, command):
        """A process that the limits hold for, with pipes to and from it."""
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sh", "-c", 'echo $$ > "$0" && exec "$@"',
                                 self.limits.members, *command],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__" and sys.argv[1:] == ["keep"]:
    keep()
