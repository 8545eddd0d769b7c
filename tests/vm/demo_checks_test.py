#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""demo_checks_test.py [BUILD_DIR]: the demonstration's judges find planted faults; no machine is
started."""
import glob
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "scripts/lab"), HERE]
import demo_checks as checks  # noqa: E402
import demo_workload as workload  # noqa: E402
from demo import Story  # noqa: E402

MIB = 1 << 20
BLOCK = 4096
TOOLS = os.path.join(os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else
                                     os.path.join(TOP, "build")), "tests/kmod")


def replica(folder, content):
    """An image and a VMDK of the same content."""
    raw, vmdk = os.path.join(folder, "disk.raw"), os.path.join(folder, "disk.vmdk")
    with open(raw, "wb") as out:
        out.write(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o",
                    "subformat=monolithicSparse,adapter_type=lsilogic", raw, vmdk], check=True)
    return raw, vmdk


def content():
    made = random.Random(7)
    return made.randbytes(3 * MIB) + bytes(4 * MIB) + made.randbytes(MIB)


def io(vmdk, command):
    subprocess.run(["qemu-io", "-f", "vmdk", "-c", command, vmdk], check=True,
                   stdout=subprocess.DEVNULL)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def equal_disks_are_equal(folder):
    found = checks.compare(*replica(folder, content()), folder)
    assert found.equal and found.size == 8 * MIB and found.data == 4 * MIB, found


def a_flipped_bit_of_the_vmdk(folder):
    whole = content()
    raw, vmdk = replica(folder, whole)
    with open(vmdk, "rb") as file:
        at = file.read().index(whole[2 * MIB:2 * MIB + BLOCK])
    flip(vmdk, at + 77)
    assert checks.compare(raw, vmdk, folder).differing == [2 * MIB]


def a_dropped_block(folder):
    raw, vmdk = replica(folder, content())
    io(vmdk, f"write -z {8 * MIB - BLOCK} {BLOCK}")
    assert checks.compare(raw, vmdk, folder).differing == [7 * MIB]


def a_block_too_many(folder):
    raw, vmdk = replica(folder, content())
    io(vmdk, f"write -P 1 {5 * MIB} {BLOCK}")
    assert checks.compare(raw, vmdk, folder).differing == [5 * MIB]


def disks_of_other_sizes(folder):
    raw, vmdk = replica(folder, content())
    os.truncate(raw, 8 * MIB - BLOCK)
    assert not checks.compare(raw, vmdk, folder).equal
    os.truncate(raw, 9 * MIB)
    assert not checks.compare(raw, vmdk, folder).equal


def nothing_compared_is_not_equal(_folder):
    assert not checks.Comparison().equal


def a_write_that_was_not_merged(folder):
    whole = content()
    _, vmdk = replica(folder, whole)
    marks = [whole[2 * MIB:2 * MIB + BLOCK], whole[7 * MIB + 512:7 * MIB + 512 + BLOCK]]
    assert checks.holds(vmdk, marks, folder)
    io(vmdk, f"write -P 1 {7 * MIB + BLOCK} 512")
    assert not checks.holds(vmdk, marks, folder)


def a_copy_of_another_cut(folder):
    account = os.path.join(folder, "p.json")
    with open(account, "w", encoding="ascii") as out:
        json.dump({"epoch": 4, "disks": [{"stable_id": "naa.1", "file": "/out/p-0.raw"}]}, out)
    assert checks.exported(account, 4) == {"naa.1": os.path.join(folder, "p-0.raw")}
    try:
        checks.exported(account, 5)
    except ValueError:
        return
    raise AssertionError("the copy of epoch 4 passed for 5")


def log(folder, writes):
    """(disk, issued, acknowledged or None) as the stamping writer logs it."""
    path = os.path.join(folder, "log")
    with open(path, "wb") as out:
        for number, (disk, issued, acknowledged) in enumerate(writes, 1):
            out.write(checks.RECORD.pack(1, disk, 0, 0, 8, number, 0, issued))
            if acknowledged:
                out.write(checks.RECORD.pack(2, disk, 0, 0, 8, number, 0, acknowledged))
        out.write(b"half a record")
    return [path]


def a_cut_without_writes_on_a_disk(folder):
    # The second write to disk 1 is under way at the second cut: it is of neither.
    writes = checks.read_writes(log(folder, [(0, 110, 120), (1, 130, 140), (0, 210, 220),
                                             (1, 290, 310), (0, 380, None)]))
    assert checks.writes_of_cuts(writes, [100, 200, 300], 2) == [[1, 1], [1, 0]]
    assert checks.writes_of_cuts(writes, [100, 200], 3) == [[1, 1, 0]]


def a_stall_at_a_cut(folder):
    ms = 1_000_000
    moments = [(0, n * 10 * ms, n * 10 * ms + ms) for n in range(100)]
    moments[50] = (0, 500 * ms, 583 * ms)
    writes = checks.read_writes(log(folder, moments))
    seen = checks.stalls(writes, [0, 520 * ms, 990 * ms], 20 * ms)
    assert max(seen.near) == 83 and max(seen.elsewhere) == 1, seen


class Stamped:
    """Two files that the stamping writer has written to."""

    def __init__(self, folder):
        self.images = [os.path.join(folder, f"stamped{n}") for n in range(2)]
        self.log, self.cut = os.path.join(folder, "stamps"), os.path.join(folder, "cut")
        for path in self.images:
            with open(path, "wb") as out:
                out.truncate(64 * BLOCK)
        disks = [word for path in self.images for word in ("--disk", path)]
        subprocess.run([os.path.join(TOOLS, "stamper"), *disks, "--writers", "2", "--engine",
                        "buffered", "--seconds", "1", "--rate", "400", "--log", self.log,
                        "--tickets", os.path.join(folder, "tickets")], check=True,
                       stdout=subprocess.DEVNULL)
        workload.write_cut(self.cut, 1 << 40, 1 << 40)

    def newest(self, disk):
        """The block of that disk that was acknowledged last."""
        newest = (0, 0)
        for writer in range(2):
            with open(f"{self.log}.{writer}", "rb") as file:
                for kind, on, _, _, block, _, ticket, _ in checks.RECORD.iter_unpack(file.read()):
                    if kind == checks.ACKNOWLEDGED and on == disk:
                        newest = max(newest, (ticket, block))
        return newest[1]

    def good(self):
        images = [word for n, path in enumerate(self.images) for word in ("--image", f"{n}={path}")]
        return subprocess.run([os.path.join(TOOLS, "stampcheck"), "--log", self.log + ".0", "--log",
                               self.log + ".1", *images, "--cuts", self.cut, "--cut", "1"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def a_skipped_stamp(folder):
    stamped = Stamped(folder)
    assert stamped.good()
    with open(stamped.images[1], "r+b") as file:
        file.seek(stamped.newest(1) * BLOCK)
        file.write(bytes(BLOCK))
    assert not stamped.good()


def a_flipped_bit_of_a_stamp(folder):
    stamped = Stamped(folder)
    flip(stamped.images[0], stamped.newest(0) * BLOCK + 3000)
    assert not stamped.good()


def stamps_of_swapped_disks(folder):
    stamped = Stamped(folder)
    stamped.images.reverse()
    assert not stamped.good()


def a_flipped_bit_of_fios_data(folder):
    path = os.path.join(folder, "fio")

    def fio(*words):
        return subprocess.run(["fio", "--name=x", f"--filename={path}", "--size=1m", *words,
                               *workload.FIO_OPTIONS.replace("--direct=1", "--direct=0").split(),
                               "--verify_state_save=0", "--output=" + path + ".out"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    assert fio("--rw=write", "--do_verify=0") and fio("--rw=read", "--verify_fatal=1")
    flip(path, MIB // 2 + 2000)
    assert not fio("--rw=read", "--verify_fatal=1")


def all_it_takes_from_the_build_is_built(_folder):
    """By demo.sh, in a clone in which nothing is."""
    asked = subprocess.run([os.path.join(HERE, "demo.py"), "--programs"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    used = set()
    for name in glob.glob(os.path.join(HERE, "demo*.py")):
        with open(name, encoding="utf-8") as file:
            used.update(re.findall(r'build(?:, "|/|/tests/kmod/)(ebb\w*(?:-\w+)*|stamp\w+)', file.read()))
    assert used >= {"ebbd", "ebbctl", "stamper"} and used <= set(asked), (used, asked)


def one_thing_not_so_fails_the_story(_folder):
    story = Story(quiet=True)
    assert story.must(True, "this") and story.end() == 0
    assert not story.must(False, "that") and story.must(True, "this") and story.end() == 1


TESTS = (equal_disks_are_equal, a_flipped_bit_of_the_vmdk, a_dropped_block, a_block_too_many,
         disks_of_other_sizes, nothing_compared_is_not_equal,
         a_write_that_was_not_merged, a_copy_of_another_cut,
         a_cut_without_writes_on_a_disk, a_stall_at_a_cut, a_skipped_stamp, a_flipped_bit_of_a_stamp,
         stamps_of_swapped_disks, a_flipped_bit_of_fios_data, all_it_takes_from_the_build_is_built,
         one_thing_not_so_fails_the_story)


def main():
    failed = 0
    for test in TESTS:
        folder = tempfile.mkdtemp(prefix="ebb-demo-")
        try:
            test(folder)
            print("ok  ", test.__name__)
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
            failed += 1
            print("FAIL", test.__name__, repr(error))
        finally:
            shutil.rmtree(folder)
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
