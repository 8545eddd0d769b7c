# SPDX-License-Identifier: Apache-2.0
"""F5 and F6 of DRBD (8.4, as Debian has it), between two guests: the bytes on the wire. Of times emulation says nothing."""
import time

from candidates import GuestError, release

MIB = 1 << 20
SIZE = 256 * MIB
BLOCKS = 655  # 1 %
DRBD = "/lib/drbd/drbdsetup-84"
ADDRESSES = ("10.9.0.1", "10.9.0.2")
# Its metadata on a RAM disk; as fast as it can, and with digests of blocks where all is gone over.
PREPARE = ("modprobe brd rd_nr=1 rd_size=131072; modprobe drbd usermode_helper=disabled; modprobe sha1_generic; "
           "dd if=/dev/zero of=/dev/ram0 bs=1M count=16 2>/dev/null; "
           "echo yes | drbdmeta --force /dev/drbd0 v08 /dev/ram0 0 create-md >/dev/null && "
           f"{DRBD} new-resource t && {DRBD} new-minor t 0 0 && "
           f"{DRBD} attach 0 /dev/vda /dev/ram0 0 --resync-rate=1G --c-plan-ahead=0")
WRITE = f"""
import os, random
blocks = random.Random(7).sample(range({SIZE // 4096}), {BLOCKS})
disk = os.open("/dev/drbd0", os.O_WRONLY | os.O_SYNC)
for block in blocks:
    os.pwrite(disk, os.urandom(4096), block * 4096)
"""


def connect(vm, number):
    here, there = ADDRESSES[number], ADDRESSES[1 - number]
    vm.run(f"{DRBD} connect t ipv4:{here}:7788 ipv4:{there}:7788 --protocol=C --csums-alg=sha1")


def on_the_wire(vm):
    return sum(map(int, vm.run("cat /sys/class/net/eth0/statistics/[rt]x_bytes").output.split()))


def until_equal(vm):
    """Both have everything."""
    end = time.monotonic() + 600
    while "cs:Connected" not in (now := vm.run("cat /proc/drbd").output) or \
            "ds:UpToDate/UpToDate" not in now:
        if time.monotonic() > end:
            raise GuestError("DRBD does not come to its end: " + now)
        time.sleep(0.5)


def bench(lab, label, _options):
    """One table of bytes."""
    net = lab.network()
    pair = []
    for number, address in enumerate(ADDRESSES):
        vm = lab.vm(f"drbd{number}", kernel=label, smp=1, mem=640, timeout=1800)
        vm.disk(lab.image(f"drbd{number}.raw", str(SIZE)), "virtio")
        vm.net(net, address + "/24")
        vm.start(wait=False)
        pair.append(vm)
    for number, vm in enumerate(pair):
        vm.wait_ready()
        vm.run(PREPARE)
        connect(vm, number)
    one = pair[0]
    one.poll("grep -q cs:Connected /proc/drbd")
    one.run(f"{DRBD} new-current-uuid --clear-bitmap 0; {DRBD} primary 0")
    until_equal(one)
    one.run(f"{DRBD} disconnect ipv4:{ADDRESSES[0]}:7788 ipv4:{ADDRESSES[1]}:7788")
    one.run("python3 -", stdin=WRITE.encode())
    before = on_the_wire(one)
    connect(one, 0)
    until_equal(one)
    delta = on_the_wire(one) - before
    before = on_the_wire(one)
    one.run(f"{DRBD} invalidate-remote 0")
    until_equal(one)
    whole = on_the_wire(one) - before
    print(f"\n## DRBD 8.4 between two guests, {label} ({release(one)}), {SIZE // MIB} MiB: bytes both ways\n\n"
          "| bitmap resync of 1 % random blocks, for a changed byte | all of it with csums-alg sha1, of the disk |\n"
          f"|---|---|\n| {delta / BLOCKS / 4096:.3f} | {100 * whole / SIZE:.2f} % |", flush=True)
    for vm in pair:
        vm.power_off()
