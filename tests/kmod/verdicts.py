# SPDX-License-Identifier: Apache-2.0
"""What passed with the very same inputs need not run again: --resume of run.py and restarts.py.

All tests on one kernel take hours under emulation, and a run that is interrupted goes on where it
was. A verdict is a file below $EBB_CACHE/verdicts/KERNEL: when the test passed, and the digest of
everything that it depends on. Only passes are kept. What is in doubt runs again: an input that is
not what it was, a file that cannot be read whole, a tree that changed while the test ran. With
EBB_FRESH=1 everything does.
"""
import datetime
import hashlib
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
from machine import tool  # noqa: E402

MODULE = ("kmod", "include/uapi")
# What a test runs on and with, whichever it is.
FRAME = ("CMakeLists.txt", "cmake", "daemon/base", "scripts/build.sh", "scripts/lab",
         "tests/CMakeLists.txt", "tests/kmod/CMakeLists.txt", "tests/kmod/guest", "tests/kmod/lib",
         "tests/kmod/modules", "tests/kmod/tools")
# Of the cases that run `modeltest` alone.
MODEL = ("tests/kmod/model", "tests/kmod/tools/modeltest.cc")
# Of tests under kmemleak alone, under KCSAN alone, and of stories of several boots alone.
LEAKS = "tests/kmod/guest/leaks.sh"
RACES = "tests/kmod/races.py"
STORIES = "tests/kmod/guest/restart.sh"
# Packages of this machine that emulate guests, or of which something gets into them.
PACKAGES = ("qemu-system-x86", "seabios", "nbdkit", "gcc-12", "g++-12", "libc6-dev", "libstdc++-12-dev",
            "libaio-dev", "liburing-dev", "libnl-3-dev", "libnl-genl-3-dev", "busybox-static", "kmod")
# What builds of the module and Python leave in the tree.
LEFT_BEHIND = re.compile(r"\.(o|ko|cmd|mod|mod\.c|pyc)$|^(Module\.symvers|modules\.order|found\.h)$")


def fresh():
    """Whether all is to run anew."""
    return os.environ.get("EBB_FRESH", "") not in ("", "0")


def files_of(path):
    """All files in a folder, or the one file."""
    full = os.path.join(TOP, path)
    if not os.path.isdir(full):
        yield full
        return
    for folder, below, names in os.walk(full):
        below[:] = [name for name in below if name not in ("__pycache__", "found", ".tmp_versions")]
        yield from (os.path.join(folder, name) for name in names if not LEFT_BEHIND.search(name))


def hash_of(text):
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def hash_of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(paths, without=()):
    """Of names and contents of files and folders of the tree; an absent one is an error."""
    left_out = {os.path.join(TOP, path) for path in without}
    files = sorted({file for path in paths for file in files_of(path)} - left_out)
    return hash_of("".join(f"{os.path.relpath(file, TOP)} {os.stat(file).st_mode & 0o111:o} "
                           f"{hash_of_file(file)}\n" for file in files))


def kernel_digest(label):
    """Its image, which no two builds share, the names and sizes of its modules, its compiler."""
    folder = tool("kernel.sh", "path", label)
    entries = []
    for name in ("vmlinuz", "release", "complete", "cc", "chroot/var/lib/dpkg/status"):
        path = os.path.join(folder, name)
        entries.append(f"{name} {hash_of_file(path) if os.path.exists(path) else 'none'}\n")
    for place, _, names in os.walk(os.path.join(folder, "lib/modules/")):
        entries += [f"{os.path.relpath(os.path.join(place, name), folder)} "
                    f"{os.lstat(os.path.join(place, name)).st_size}\n" for name in names if ".ko" in name]
    return hash_of("".join(sorted(entries)))


def installed():
    return subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PACKAGES],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


def machine_digest():
    """What emulates the guests, and the packages that are in them."""
    return hash_of(installed() + hash_of_file(os.path.join(tool("rootfs.sh"), "var/lib/dpkg/status")))


def shared_inputs(kernel, runner):
    """What every test of this runner (paths of its own files) on that kernel depends on, by name."""
    judges = {"debug": [LEAKS], "kcsan": [RACES]}.get(kernel, [])
    return {"kernel": kernel_digest(kernel), "machine": machine_digest(), "module": digest(MODULE),
            "frame": digest(FRAME, without=(*MODEL, LEAKS, STORIES)), "runner": digest((*runner, *judges))}


def case_inputs(path):
    """What one case depends on beside that: itself, the files of the tree it names, the model."""
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        text = file.read()
    named = {name.rstrip("/.") for name in re.findall(r"/ebb/([\w./-]+)", text)}
    named = [name for name in named if not name.startswith("build") and os.path.exists(os.path.join(TOP, name))]
    inputs = {"test": digest([path, *named])}
    if re.search(r"\bmodeltest\b", text):
        inputs["model"] = digest(MODEL)
    return inputs


class Verdicts:
    """Those of one kernel. `shared` gives the inputs of all tests, `own` those of one more by its name."""

    def __init__(self, kernel, shared, own):
        self.folder = os.path.join(os.environ.get("EBB_CACHE", os.path.join(TOP, ".cache")), "verdicts", kernel)
        self.shared, self.own = shared, own
        self.begun_with = shared()
        self.begun = {}

    def earlier(self, name):
        """When it passed with these inputs; None if it has to run."""
        self.begun[name] = text = self.text(name, self.begun_with)
        if fresh():
            return None
        try:
            with open(self.path(name, text), encoding="utf-8") as file:
                date, _, kept = file.read().partition("\n")
        except (OSError, ValueError):
            return None
        found = re.fullmatch(r"passed on (\d{4}-\d\d-\d\d \d\d:\d\d)", date)
        return found[1] if found and kept == text else None

    def keep(self, name):
        """It has passed, on what was there when earlier() was asked; false if that has changed since."""
        text = self.begun[name]
        if self.text(name, self.shared()) != text:
            return False
        path = self.path(name, text)
        os.makedirs(self.folder, exist_ok=True)
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            file.write(f"passed on {now}\n{text}")
            file.flush()
            os.fsync(file.fileno())
        os.rename(file.name, path)
        return True

    def path(self, name, text):
        return os.path.join(self.folder, f"{name}-{hash_of(text)[:16]}")

    def text(self, name, shared):
        """All its inputs, as they are in its file."""
        inputs = {**shared, **self.own(name)}
        return "".join(f"{value} {key}\n" for key, value in sorted(inputs.items())) + "end\n"


def build_tools():
    """The programs of the guests, from what the verdict is about."""
    subprocess.run([os.path.join(TOP, "scripts/build.sh"), "ebb_guest_tools"], check=True,
                   stdout=subprocess.DEVNULL)


def told(kernel, name, width, date):
    """The line for a test that need not run."""
    return f"{kernel} {name:{width}} passed on {date}, same module, case and kernel"


def summary(passed, failed, earlier):
    """The line that check.py counts."""
    return f"{passed} passed, {failed} failed" + (f"; {earlier} of them in an earlier run" if earlier else "")
