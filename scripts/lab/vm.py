#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines under TCG for tests, without KVM and without privileges.

    import os, sys
    sys.path.insert(0, os.path.join(TOP, "scripts/lab"))
    from vm import Lab

    with Lab("my-test") as lab:
        a = lab.vm("a", kernel="6.1", mem=1024, udev=True)
        a.disk(lab.image("data.raw", "1G"), "lsi", wwn=0x5000c29000000001)
        net = lab.network()
        a.net(net, "10.9.0.1/24")
        a.start()                                # returns when the guest runs commands
        r = a.run("mkfs.xfs /dev/sda && echo fine")   # GuestError unless exit status 0
        assert "fine" in r.output
        job = a.spawn("fio ...")                 # in the background: job.wait(), job.kill()
        a.power_cut()                            # SIGKILL of QEMU; a.start() boots it again
        a.start(); a.power_off()
    # leaving the block kills what is left; LabError if any console holds a kernel complaint

In the guest / is the lab's root filesystem (rootfs.sh) read-only with a tmpfs above, /lib/modules
the kernel's, /ebb the project's tree or the folder given as `share` (read-only), /out the folder
given as `out` (writable). The guest's kernel log is <folder>/<name>.console. A machine with
root="disk" boots from its own disk by the BIOS (bootdisk.sh); with root="kernel" the given
kernel and initrd start, and nothing is said about what runs.

`vm.py run [options] COMMAND...` starts one machine, runs the command in it (working folder /ebb)
and passes on its output and exit status: see --help.
"""
import argparse
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import console
from guest import Guest, GuestError
from machine import Disk, Network, disk_arguments, free_port, tool, user_net
from qmp import Qmp, QmpError

__all__ = ["Lab", "LabError", "Machine", "GuestError", "QmpError", "free_port", "tool"]

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# A busy host may stop a virtual CPU for long: what is measured in the guest's time is given more, and
# that its timer does not tick at once in the kernel's own test is no broken machine.
PATIENCE = ("rcupdate.rcu_cpu_stall_timeout=300 sysctl.kernel.hung_task_timeout_secs=480 "
            "sysctl.kernel.watchdog_thresh=60 no_timer_check")


class LabError(Exception):
    """A machine did not start, or its kernel complained."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Machine:
    """One virtual machine; made by Lab.vm(). Parts are added before start().

    kernel    label of kernel.sh (ignored for root="disk")
    root      "9p" (default), "disk", or "kernel" (give initrd and append)
    packages  "": the guests' packages; a NAME: those of rootfs.NAME.txt, too (root="9p")
    mem, smp  MiB, virtual CPUs
    udev      start udevd in the guest (costs seconds; needed for /dev/disk/by-id, LVM events, rules)
    modprobe  modules to load besides the drivers of the disks and networks
    share     host folder at /ebb (default: the project's tree), None for none
    out       host folder at /out, writable
    append    more of the kernel command line
    run       a command started by the guest itself (result: machine.own, a Command)
    threads   "multi": a host thread for each virtual CPU; "single": they take turns in one
    icount    exact measurement: one thread, one CPU, virtual time by instructions, no wall clock
    timeout   seconds after which QEMU is killed, whatever happens, counted from start()
    allow     regular expressions of console lines that are not complaints
    qemu      more arguments of QEMU
    """

    def __init__(self, lab, name, *, kernel="6.1", root="9p", packages="", mem=1024, smp=2, udev=False,
                 modprobe=(), share=TOP, out=None, append="", initrd=None, run=None, threads="multi",
                 icount=False, timeout=600, allow=(), qemu=()):
        self.lab, self.name, self.kernel, self.root = lab, name, kernel, root
        self.packages = packages
        self.mem, self.smp, self.udev, self.modprobe = mem, smp, udev, list(modprobe)
        self.share, self.out, self.append, self.initrd = share, out, append, initrd
        self.own_command, self.icount, self.timeout = run, icount, timeout
        self.threads = threads
        self.allow, self.qemu_args = list(allow), list(qemu)
        self.disks, self.addresses, self._nets, self._monitors = [], [], [], []
        self.console = os.path.join(lab.folder, name + ".console")
        self.process = self.guest = self.qmp = self.own = None
        self.timed_out = False
        self._timer = None
        self.boot_seconds = None

    # -- parts ---------------------------------------------------------------------------------
    def disk(self, source, bus="virtio", **options):
        """Adds a disk (options: see machine.Disk: fmt, wwn, serial, readonly, discard,
        write_cache, flush, boot, ...); returns it. source: image path or "nbd:SOCKET"."""
        node = options.pop("node", None) or f"d{len(self.disks)}"
        disk = Disk(node, source, bus, **options)
        self.disks.append(disk)
        return disk

    def net(self, network, address=None):
        """Connects to a Network of the lab; address ("10.9.0.1/24") is set in the guest."""
        self._add_net(f"stream,id=n{len(self._nets)},server=off,addr.type=unix,"
                      f"addr.path={network.path}", address)

    def user_net(self, hostfwd=(), guestfwd=()):
        """A network with the host only: guest ports at the host's loopback (hostfwd: pairs of host
        and guest port), host ports in the guest at 10.0.2.100 (guestfwd: pairs of inner and host
        port). The guest is 10.0.2.15."""
        self._add_net(user_net(f"n{len(self._nets)}", hostfwd, guestfwd), "10.0.2.15/24")

    def monitor(self, path):
        """One more QMP socket, for somebody else, at that path."""
        self._monitors.append(path)

    def _add_net(self, netdev, address):
        index = len(self._nets)
        number = self.lab.next_mac()
        self._nets += [["-netdev", netdev, "-device",
                        f"virtio-net-pci,netdev=n{index},mac=52:54:00:eb:00:{number:02x},romfile="]]
        if address:
            self.addresses.append(f"eth{index}:{address}")

    # -- life ----------------------------------------------------------------------------------
    def start(self, wait=True, timeout=None):
        """Starts QEMU; with `wait`, returns when the guest's agent answers. A QEMU that ends by itself
        while it boots a kernel that has nothing of ours yet is started twice more."""
        for more in (2, 1, 0):
            said = os.path.getsize(self.console) if os.path.exists(self.console) else 0
            self._start()
            try:
                if wait:
                    self.wait_ready(timeout)
                return self
            except LabError as error:
                ours = self.root != "9p" or self.initrd or self.own_command
                if not more or ours or self.running() or self.timed_out:
                    raise
                print(f"    once more: {error}".replace("\n", "\n    | "), flush=True)
                # What that kernel said is not what the next one has to answer for.
                os.truncate(self.console, said)
        return self

    def _start(self):
        self._forget()
        self.guest = Guest(self._path("agent"))
        if self.own_command:
            self.own = self.guest.expect(0, self.own_command)
        self._started = time.monotonic()
        log = open(os.path.join(self.lab.folder, self.name + ".qemu"), "ab")
        self.process = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=log, preexec_fn=_die_with_parent)
        log.close()
        self.timed_out = False
        self._timer = threading.Timer(self.timeout, self._on_timeout, [self.process])
        self._timer.daemon = True
        self._timer.start()
        threading.Thread(target=self._watch, args=(self.process, self.guest), daemon=True).start()
        try:
            self.qmp = Qmp(self._path("qmp"), time.monotonic() + 20)
        except OSError as error:
            raise LabError(f"{self.name}: QEMU did not start: {self._last_words()}") from error

    def wait_ready(self, timeout=None):
        """Waits for the guest's agent."""
        # Kernels that check every access boot ten times as slowly, on a busy machine for minutes.
        limit = timeout or (900 if self.kernel in ("debug", "kcsan") else 240)
        if not self.guest.connected(limit):
            why = f"QEMU ended with {self.process.poll()}" if not self.running() else f"for {limit} s"
            raise LabError(f"{self.name} did not come up, {why}: {self._last_words()}")
        self.boot_seconds = time.monotonic() - self._started

    def run(self, command, timeout=300, check=True, stdin=b"", on_output=None):
        """A shell command in the guest, to its end: Command with .status and .output."""
        return self.guest.run(command, timeout, check, stdin, on_output)

    def spawn(self, command, stdin=b"", on_output=None):
        """A shell command in the background: Command with .wait(), .kill(), .running()."""
        return self.guest.spawn(command, stdin, on_output)

    def poll(self, command, timeout=60):
        """Repeats a command until it succeeds."""
        return self.guest.poll(command, timeout)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def power_off(self, timeout=60):
        """Syncs and powers off from inside; returns when QEMU has ended."""
        try:
            self.guest.spawn("sync; busybox poweroff -f")
        except GuestError:
            pass
        self.wait(timeout)

    def halt(self, timeout=600, sync=True):
        """Goes down in order, and then loses its power. QEMU flushes the disks of a machine that powers
        itself off, so that none could lose what nobody else has flushed."""
        said = len(console.read(self.console))
        self.guest.spawn(("sync; " if sync else "") + "exec busybox halt -f")
        end = time.monotonic() + timeout
        while "System halted" not in console.read(self.console)[said:]:
            if time.monotonic() > end or not self.running():
                raise LabError(f"{self.name} does not go down: {self._last_words()}")
            time.sleep(0.05)
        self.power_cut()

    def power_cut(self):
        """Kills QEMU at once. What the disks' backends lose by it is their affair."""
        if self.running():
            self.process.kill()
            self.process.wait()
        self._forget()

    def wait(self, timeout=300):
        """Waits for QEMU's end."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.power_cut()
            raise LabError(f"{self.name} did not end in {timeout} s") from None
        if self.timed_out:
            raise LabError(f"{self.name} was killed after {self.timeout} s")

    def complaints(self):
        """What the kernel complained of, in all boots so far."""
        return console.complaints(console.read(self.console), self.allow)

    def check(self):
        """LabError, with the log's part, if the kernel complained."""
        found = self.complaints()
        if found:
            text = console.excerpt(console.read(self.console), found[0])
            raise LabError(f"{self.name}: the kernel complained ({self.console}):\n{text}")

    # -- inside --------------------------------------------------------------------------------
    def command_line(self):
        """QEMU and its arguments."""
        args = ["qemu-system-x86_64", "-name", self.name, "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-machine", "pc", "-m", str(self.mem)]
        if self.icount:
            args += ["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-smp", "1",
                     "-seed", "1", "-cpu", "max", "-rtc", "base=2026-01-01,clock=vm"]
        else:
            args += ["-accel", f"tcg,thread={self.threads}", "-smp", str(self.smp), "-cpu", "max"]
        args += ["-chardev", f"file,id=con,path={self.console},append=on", "-serial", "chardev:con",
                 "-qmp", f"unix:{self._path('qmp')},server=on,wait=off",
                 "-device", "virtio-serial-pci,id=vser",
                 "-chardev", f"socket,id=agent,path={self._path('agent')}",
                 "-device", "virtserialport,bus=vser.0,chardev=agent,name=ebb.agent",
                 "-device", "virtio-rng-pci"]
        for path in self._monitors:
            args += ["-qmp", f"unix:{path},server=on,wait=off"]
        disk_args, drivers = disk_arguments(self.disks)
        args += disk_args
        for net in self._nets:
            args += net
        args += self._kernel_arguments(drivers + (["virtio_net"] if self._nets else []))
        return args + self.qemu_args

    def _kernel_arguments(self, drivers):
        if self.root == "disk":
            return []
        path = tool("kernel.sh", "path", self.kernel)
        append = ("console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 mitigations=off "
                  f"{PATIENCE} ebb.name={self.name}")
        if self.kernel == "debug":
            # Under KASAN and TCG the interpreter of ACPI takes minutes. And while the kernel identifies
            # its first CPU it does not know of five levels, by which KASAN finds an interrupt's memory.
            append += " pci=noacpi no5lvl"
        args, initrd = [], self.initrd
        if self.root == "9p":
            shares = [("root", tool("rootfs.sh", *filter(None, [self.packages])), True),
                      ("modules", os.path.realpath(os.path.join(path, "lib/modules")), True)]
            if self.share:
                shares.append(("ebb", self.share, True))
            if self.out:
                shares.append(("out", self.out, False))
            for tag, folder, readonly in shares:
                args += ["-virtfs", f"local,path={folder},mount_tag={tag},security_model=none,"
                         f"readonly={'on' if readonly else 'off'},multidevs=remap"]
            initrd = initrd or tool("initrd.sh", "9p", self.kernel)
            modules = drivers + self.modprobe
            append += f" ebb.modprobe={','.join(modules)}" if modules else ""
            append += " ebb.udev=1" if self.udev else ""
            append += f" ebb.ip={','.join(self.addresses)}" if self.addresses else ""
            append += f" ebb.run={self.own_command.replace(' ', '%20')}" if self.own_command else ""
        args += ["-kernel", os.path.join(path, "vmlinuz"), "-append", f"{append} {self.append}"]
        return args + (["-initrd", initrd] if initrd else [])

    def _path(self, kind):
        return os.path.join(self.lab.sockets, f"{self.name}.{kind}")

    def _on_timeout(self, process):
        if process.poll() is None:
            self.timed_out = True
            process.kill()

    def _watch(self, process, guest):
        process.wait()
        guest.close()

    def _last_words(self):
        text = console.read(os.path.join(self.lab.folder, self.name + ".qemu"))
        return text[-1000:] + console.read(self.console)[-3000:]

    def _forget(self):
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for part in (self.qmp, self.guest):
            if part:
                part.close()
        self.qmp = self.guest = None


class Lab:
    """Machines, networks and images of one test, in one folder; a context manager.

    folder    where images and logs go (default: build/lab/NAME in the project, emptied first)

    Who wants a name that another process has waits until that one is closed.
    """

    def __init__(self, name, folder=None):
        self.folder = os.path.abspath(folder or os.path.join(TOP, "build", "lab", name))
        self._lock = None
        if folder is None:
            self._lock = self._own()
            shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder, exist_ok=True)
        self.sockets = tempfile.mkdtemp(prefix="ebb-", dir="/tmp")  # socket paths must be short
        self.machines, self.networks, self._macs = [], [], 0

    def _own(self):
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)
        lock = open(self.folder + ".lock", "w", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"lab: waiting for another process, which has {self.folder}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def vm(self, name, **options):
        """A Machine (not started yet)."""
        machine = Machine(self, name, **options)
        self.machines.append(machine)
        return machine

    def network(self):
        """A Network for Machine.net()."""
        network = Network(self.sockets, f"net{len(self.networks)}")
        self.networks.append(network)
        return network

    def image(self, name, size, fmt="raw"):
        """A new empty image in the lab's folder: size as qemu-img has it ("1G"); fmt "raw",
        "qcow2" or "vmdk" (monolithic sparse, LSI Logic). Returns its path."""
        path = os.path.join(self.folder, name)
        options = ["-o", "subformat=monolithicSparse,adapter_type=lsilogic"] if fmt == "vmdk" else []
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, *options, path, size], check=True)
        return path

    def overlay(self, name, base, base_fmt="raw"):
        """A qcow2 image that reads through to `base` and keeps its own writes."""
        path = os.path.join(self.folder, name)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", os.path.abspath(base),
                        "-F", base_fmt, path], check=True)
        return path

    def next_mac(self):
        self._macs += 1
        return self._macs

    def close(self):
        """Kills what runs and removes the sockets. Logs and images stay."""
        for machine in self.machines:
            machine.power_cut()
        for network in self.networks:
            network.close()
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self._lock:
            self._lock.close()

    def check(self):
        """LabError if any machine's kernel complained."""
        for machine in self.machines:
            machine.check()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
        if kind is None:
            self.check()
        else:
            for machine in self.machines:
                for line in machine.complaints()[:5]:
                    print(f"lab: {machine.name} console: {line}", file=sys.stderr)


def _parse():
    parser = argparse.ArgumentParser(prog="vm.py", description="Runs a command in a new guest.")
    sub = parser.add_subparsers(dest="action", required=True)
    run = sub.add_parser("run")
    run.add_argument("--kernel", default="6.1", help="label of kernel.sh")
    run.add_argument("--mem", type=int, default=1024, help="MiB")
    run.add_argument("--smp", type=int, default=2)
    run.add_argument("--name", default="vm-run")
    run.add_argument("--disk", action="append", default=[], metavar="BUS:SIZE|BUS:PATH",
                     help="bus: lsi mptsas pvscsi virtio-scsi virtio nvme; size as 1G, or an image")
    run.add_argument("--share", default=TOP, help="host folder at /ebb (the project)")
    run.add_argument("--out", help="host folder at /out, writable")
    run.add_argument("--append", default="", help="more kernel command line")
    run.add_argument("--modprobe", default="", help="modules, separated by commas")
    run.add_argument("--udev", action="store_true")
    run.add_argument("--icount", action="store_true", help="exact measurement")
    run.add_argument("--allow", action="append", default=[], help="console lines to pass over")
    run.add_argument("--timeout", type=int, default=600)
    run.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def _run(options):
    with Lab(options.name) as lab:
        vm = lab.vm(options.name, kernel=options.kernel, mem=options.mem, smp=options.smp,
                    share=os.path.abspath(options.share), udev=options.udev,
                    out=options.out and os.path.abspath(options.out), append=options.append,
                    modprobe=[m for m in options.modprobe.split(",") if m],
                    icount=options.icount, timeout=options.timeout, allow=options.allow)
        for number, spec in enumerate(options.disk):
            bus, _, what = spec.partition(":")
            image = what if os.path.exists(what) else lab.image(f"disk{number}.raw", what)
            vm.disk(image, bus, wwn=0x5000C29000000001 + number)
        vm.start()

        def show(data):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

        words = [w for w in options.command if w != "--"]
        done = vm.run("cd /ebb && " + " ".join(words), options.timeout, check=False, on_output=show)
        vm.power_off()
        print(f"lab: exit status {done.status}, guest up in {vm.boot_seconds:.1f} s, log "
              f"{vm.console}", file=sys.stderr)
        return done.status


def main():
    options = _parse()
    try:
        return _run(options)
    except (LabError, GuestError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
