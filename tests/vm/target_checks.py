#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""target_checks.py [BUILD_DIR]: the target checks (G1, G2) in a machine with real controllers,
file systems, LVM and swap."""
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
from vm import Lab  # noqa: E402

WWN = 0x5000C29000000000
# name: (bus, size); the wwn's last digits are the position, from 1
DISKS = [
    ("lsi-blank", "lsi"), ("lsi-xfs", "lsi"), ("lsi-fat", "lsi"), ("lsi-swap", "lsi"),
    ("lsi-lvm", "lsi"), ("lsi-tail", "lsi"), ("sas-blank", "mptsas"), ("pv-blank", "pvscsi"),
    ("vs-retention", "virtio-scsi"), ("vs-ro", "virtio-scsi"), ("vs-cache", "virtio-scsi"),
]
SETUP = """
set -e
dev() { for d in /sys/block/sd*; do grep -qi "$1" $d/device/wwid && echo /dev/${d##*/}; done; }
modprobe -a xfs ext4 vfat dm_mod nls_cp437 nls_ascii nls_iso8859-1
mkfs.xfs -q $(dev %(lsi-xfs)s)
mkfs.vfat $(dev %(lsi-fat)s) >/dev/null
mkswap -q $(dev %(lsi-swap)s) && swapon $(dev %(lsi-swap)s)
pvcreate -q $(dev %(lsi-lvm)s) && vgcreate -q vg $(dev %(lsi-lvm)s) && lvcreate -q -an -Zn -l100%%FREE -n lv vg
vgchange -q -ay vg && vgmknodes vg && mkfs.ext4 -q /dev/vg/lv && mkdir -p /mnt/lv && mount /dev/vg/lv /mnt/lv
printf x | dd of=$(dev %(lsi-tail)s) bs=1 seek=$((%(size)s - 1)) conv=notrunc status=none
mkfs.xfs -q $(dev %(vs-retention)s) && mkdir -p /mnt/retention && mount $(dev %(vs-retention)s) /mnt/retention
mkfs.ext4 -q $(dev %(vs-ro)s) && mkdir -p /mnt/ro && mount -o ro $(dev %(vs-ro)s) /mnt/ro
mkfs.ext4 -q $(dev %(vs-cache)s) && mkdir -p /mnt/cache && mount $(dev %(vs-cache)s) /mnt/cache
mkdir -p /mnt/fat && mount $(dev %(lsi-fat)s) /mnt/fat
"""
SIZE = 512 << 20
VOLUMES = {
    "/mnt/retention": "-", "/mnt/lv": "-", "/mnt/fat": "E_RETENTION_FAT",
    "/mnt/ro": "E_RETENTION_READ_ONLY", "/mnt/cache": "E_RETENTION_CACHE_VOLUME",
    "/": "E_RETENTION_NO_DISK,E_RETENTION_ROOT", "/ebb": "E_RETENTION_NETWORK,E_RETENTION_READ_ONLY",
    "lsi-swap": "E_RETENTION_SWAP", "lsi-xfs": "E_RETENTION_NOT_MOUNTED",
}
DISK_CODES = {
    "lsi-blank": "-", "lsi-xfs": "-", "lsi-fat": "E_DISK_IN_USE", "lsi-swap": "E_DISK_IN_USE",
    "lsi-lvm": "E_DISK_IN_USE", "lsi-tail": "-", "sas-blank": "-", "pv-blank": "E_DISK_PVSCSI",
    "vs-retention": "E_DISK_CONTROLLER,E_DISK_HOLDS_RETENTION",
    "vs-ro": "E_DISK_CONTROLLER,E_DISK_IN_USE",
}
DEMANDS = [
    ("lsi-blank", SIZE, "", "-"), ("lsi-blank", SIZE + 1, "", "E_DISK_TOO_SMALL"),
    ("sas-blank", SIZE, "", "-"), ("lsi-xfs", SIZE, "", "E_DISK_HOLDS_DATA"),
    ("lsi-xfs", SIZE, "overwrite", "-"), ("lsi-xfs", SIZE, "owned", "-"),
    ("lsi-tail", SIZE, "", "E_DISK_HOLDS_DATA"),
    ("lsi-lvm", SIZE, "overwrite", "E_DISK_IN_USE"), ("pv-blank", SIZE, "", "E_DISK_PVSCSI"),
    ("no-such", SIZE, "", "error E_DISK_NOT_FOUND"),
]


class Tally:
    """Counts comparisons and tells of those that fail."""

    def __init__(self):
        self.passed = self.failed = 0

    def expect(self, what, got, wanted):
        if got == wanted:
            self.passed += 1
            return
        self.failed += 1
        print(f"target_checks: {what}: got {got}, expected {wanted}")


def stable_id(name):
    names = [n for n, _ in DISKS]
    return f"naa.{WWN + names.index(name) + 1:x}" if name in names else "naa.5000c290000000ff"


def compare(vm, tool, tally):
    values = {name: f"{WWN + i + 1:x}" for i, (name, _) in enumerate(DISKS)}
    vm.run(SETUP % {**values, "size": SIZE})
    lines = [line.split() for line in vm.run(f"{tool} /mnt/cache 2>/dev/null").output.splitlines()]
    nodes = {w[2]: "/dev/" + w[1] for w in lines if w[0] == "disk"}
    volumes = {w[1]: w[3] for w in lines if w[0] == "volume"}
    disks = {w[2]: w[4] for w in lines if w[0] == "disk"}
    for path, wanted in VOLUMES.items():
        key = path if path.startswith("/") else nodes.get(stable_id(path))
        tally.expect(f"volume {path}", volumes.get(key), wanted)
    for name, wanted in DISK_CODES.items():
        tally.expect(f"disk {name}", disks.get(stable_id(name)), wanted)
    tally.expect("disks without an id", disks.get("-"), "E_DISK_NO_ID")
    for name, size, options, wanted in DEMANDS:
        for ident in (stable_id(name), stable_id(name).upper()):
            done = vm.run(f"{tool} check {ident} {size} {options} 2>/dev/null", check=False)
            tally.expect(f"check {ident} {size} {options}", done.output.strip(), wanted)



def main():
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build"))
    tally = Tally()
    with Lab("target-checks") as lab:
        vm = lab.vm("target", mem=768, udev=True, modprobe=["dm_mod"], share=TOP, timeout=420)
        for number, (name, bus) in enumerate(DISKS):
            vm.disk(lab.image(name + ".raw", str(SIZE)), bus, wwn=WWN + number + 1)
        vm.disk(lab.image("no-id.raw", str(SIZE)), "lsi")
        vm.start()
        compare(vm, "/ebb/" + os.path.relpath(os.path.join(build, "tests/vm/target_report"), TOP),
                tally)
        vm.power_off()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
