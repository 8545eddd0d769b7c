# SPDX-License-Identifier: Apache-2.0
"""The guests' part of selftest.sh: one machine for each kernel label given."""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vm import GuestError, Lab, LabError

MODULES = "/ebb/build/lab/selftest-kmod"


PASSED = []


def expect(what, condition):
    if not condition:
        print(f"{len(PASSED)} passed, 1 failed")
        raise SystemExit(f"lab selftest: {what}: FAILED")
    PASSED.append(what)
    print(f"  {what}: ok", flush=True)


def alone():
    """A folder is one process's."""
    with Lab("selftest-alone") as lab:
        probe = ["flock", "--nonblock", lab.folder + ".lock", "true"]
        expect("nobody else has the folder", subprocess.run(probe, check=False).returncode == 1)
    expect("it is free afterwards", subprocess.run(probe, check=False).returncode == 0)


def healthy(lab, label):
    vm = lab.vm("healthy-" + label, kernel=label, udev=True)
    vm.disk(lab.image(f"{label}-a.raw", "64M"), "lsi", wwn=0x5000C29000000A01)
    vm.disk(lab.image(f"{label}-b.raw", "64M"), "virtio", serial="second")
    vm.start()
    expect(f"{label}: up in {vm.boot_seconds:.1f} s", True)
    module = f"{MODULES}/{label}/ebb_lab_selftest.ko"
    expect("module loads and unloads",
           vm.run(f"insmod {module} && rmmod ebb_lab_selftest").status == 0)
    expect("disks by stable name", vm.run(
        "test -b /dev/disk/by-id/wwn-0x5000c29000000a01 -a -b /dev/disk/by-id/virtio-second").status
           == 0)
    expect("exit status", vm.run("exit 42", check=False).status == 42)
    expect("input and output", vm.run("tr a-z A-Z", stdin="hello").output == "HELLO")
    data = os.urandom(300000)
    expect("binary data", vm.run("cat", stdin=data).output_bytes == data)
    job = vm.spawn("sleep 1000")
    job.kill()
    expect("kill", job.wait(60, check=False).status == 128 + 15)
    vm.power_cut()
    murder = threading.Timer(1, lambda: vm.process.kill())
    murder.start()
    vm.start()
    murder.join()
    expect("up after a power cut, and a QEMU that ended while the kernel booted",
           vm.run("true").status == 0)
    vm.power_off()
    vm.check()


def complaining(lab, label):
    vm = lab.vm("complaining-" + label, kernel=label)
    vm.start()
    vm.run(f"insmod {MODULES}/{label}/ebb_lab_selftest.ko complain=1")
    vm.power_off()
    try:
        vm.check()
    except LabError:
        expect("a warning of the kernel is found", True)
    else:
        expect("a warning of the kernel is found", False)


def two(lab, label):
    net = lab.network()
    a, b = (lab.vm(name, kernel=label, mem=512, smp=1) for name in ("left", "right"))
    a.net(net, "10.9.0.1/24")
    b.net(net, "10.9.0.2/24")
    a.start(wait=False)
    b.start(wait=False)
    a.wait_ready()
    b.wait_ready()
    server = a.spawn("nc -l -N 10.9.0.1 7000 </dev/null | sha256sum")
    b.poll("seq 1 2000000 | nc -N 10.9.0.1 7000")
    expect("two guests talk",
           server.wait().output == b.run("seq 1 2000000 | sha256sum").output)
    for vm in (a, b):
        vm.power_off()
        vm.check()


def main():
    labels = sys.argv[1:]
    try:
        alone()
        with Lab("selftest") as lab:
            for label in labels:
                healthy(lab, label)
        lab = Lab("selftest-complaint")
        try:
            complaining(lab, labels[0])
        finally:
            lab.close()
        with Lab("selftest-two") as lab:
            two(lab, labels[-1])
    except (LabError, GuestError) as error:
        print(f"{len(PASSED)} passed, 1 failed")
        raise SystemExit(f"lab selftest: {error}") from error
    print(f"{len(PASSED)} passed, 0 failed")


main()
