# SPDX-License-Identifier: Apache-2.0
"""What is measured: Ebb and the peers that Debian packages, each on a device of a guest."""
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
from vm import GuestError, Lab, LabError, tool  # noqa: E402 (the path is set just above)

__all__ = ["CANDIDATES", "DEVICES", "EBBTEST", "GuestError", "Lab", "LabError", "PROGRAMS", "TOP",
           "build_module", "release"]

PROGRAMS = "/ebb/build/tests/bench"
EBBTEST = "/ebb/build/tests/kmod/ebbtest"

# Metadata of peers is read back, which null_blk cannot do: it goes to a RAM disk.
DEVICES = {
    "null_blk": ("modprobe null_blk nr_devices=2 queue_mode=2 irqmode=0 gb=1 submit_queues=1; "
                 "modprobe brd rd_nr=1 rd_size=131072",
                 {"a": "/dev/nullb0", "b": "/dev/nullb1", "meta": "/dev/ram0"}),
    "brd": ("modprobe brd rd_nr=3 rd_size=131072",
            {"a": "/dev/ram0", "b": "/dev/ram1", "meta": "/dev/ram2"}),
}

# The first write to a block of a snapshot, an era or a bitmap is not the steady state.
FILL = "dd if=/dev/zero of={dev} bs=1M count=61 oflag=direct 2>/dev/null"

# How to put each candidate on the device {a}: commands before, the device to write to, commands
# after. {b} is one more device like it.
CANDIDATES = {
    "ebb untracked": ("insmod {ko}; {ebb} attach {b} bench-b 1 >/dev/null", "{a}",
                      "{ebb} detach 1; rmmod ebb"),
    "ebb tracked": ("insmod {ko}; {ebb} attach {a} bench-a 1 >/dev/null", "{a}",
                    "{ebb} detach 1; rmmod ebb"),
    # Its regions hot, as in the steady state.
    "ebb with a log": ("insmod {ko}; {ebb} attach {a} bench-a 1 {b} 0 8192 create >/dev/null; "
                       "{ebb} mark-all 1", "{a}", "{ebb} detach 1; rmmod ebb"),
    "dm-linear": ("modprobe dm_mod; "
                  "echo 0 $(blockdev --getsz {a}) linear {a} 0 | dmsetup --noudevsync create t",
                  "/dev/dm-0", "dmsetup --noudevsync remove t"),
    # Suspended and resumed, so that the origin splits what it is sent into chunks.
    "dm-snapshot origin": (
        "modprobe dm_snapshot; s=$(blockdev --getsz {a}); "
        "echo 0 $s snapshot-origin {a} | dmsetup --noudevsync create t; "
        "echo 0 $s snapshot {a} {b} N 8 | dmsetup --noudevsync create s; "
        "dmsetup --noudevsync suspend t; dmsetup --noudevsync resume t; " + FILL, "/dev/dm-0",
        "dmsetup --noudevsync remove s; dmsetup --noudevsync remove t"),
    "dm-era": ("modprobe dm_era; dd if=/dev/zero of={meta} bs=1M count=16 2>/dev/null; "
               "echo 0 $(blockdev --getsz {a}) era {meta} {a} 8 | dmsetup --noudevsync create t; "
               + FILL,
               "/dev/dm-0", "dmsetup --noudevsync remove t"),
    "DRBD without a peer": (
        "modprobe drbd; dd if=/dev/zero of={meta} bs=1M count=16 2>/dev/null; "
        "echo yes | drbdmeta --force /dev/drbd0 v08 {meta} 0 create-md >/dev/null; "
        "d=/lib/drbd/drbdsetup-84; $d new-resource t; $d new-minor t 0 0; "
        "$d attach 0 {a} {meta} 0; $d primary 0 --force; " + FILL, "/dev/drbd0",
        "d=/lib/drbd/drbdsetup-84; $d secondary 0; $d down t; rmmod drbd"),
}


def build_module(label):
    """Builds ebb.ko for the kernel; its path in the guest."""
    out = f"build/bench/{label}"
    tool("kmod.sh", label, os.path.join(TOP, "kmod"), os.path.join(TOP, out))
    return f"/ebb/{out}/ebb.ko"


def release(vm):
    """The kernel that runs."""
    return vm.run("uname -r").output.strip()
