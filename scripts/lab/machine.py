# SPDX-License-Identifier: Apache-2.0
"""The parts of a virtual machine as QEMU arguments: disks with their controllers, networks."""
import json
import os
import socket
import subprocess

LAB = os.path.dirname(os.path.abspath(__file__))


def tool(*command):
    """Runs a script of the lab and returns what it printed."""
    done = subprocess.run([os.path.join(LAB, command[0]), *command[1:]], check=True,
                          stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


# bus: (QEMU device of the controller, disks it takes, driver in the guest)
CONTROLLERS = {
    "lsi": ("lsi53c895a", 7, "sym53c8xx"),
    "mptsas": ("mptsas1068", 8, "mptsas"),
    "pvscsi": ("pvscsi", 15, "vmw_pvscsi"),
    "virtio-scsi": ("virtio-scsi-pci", 64, "virtio_scsi"),
}
DIRECT = {"virtio": ("virtio-blk-pci", "virtio_blk"), "nvme": ("nvme", "nvme")}


class Disk:
    """One disk of a machine. `source` is a path, or "nbd:PATH" for a server at a Unix socket."""

    def __init__(self, node, source, bus, *, fmt="raw", wwn=None, serial=None, readonly=False,
                 discard=True, write_cache=True, flush=True, direct=False, boot=False,
                 vendor=None, product=None, physical_block=None, logical_block=None, rerror=None, werror=None):
        if bus not in CONTROLLERS and bus not in DIRECT:
            raise ValueError(f"no bus {bus}")
        self.node, self.source, self.bus, self.format = node, source, bus, fmt
        self.wwn, self.serial, self.readonly = wwn, serial, readonly
        self.discard, self.write_cache, self.flush = discard, write_cache, flush
        self.direct, self.boot, self.vendor, self.product = direct, boot, vendor, product
        self.physical_block, self.logical_block = physical_block, logical_block
        self.rerror, self.werror = rerror, werror

    def blockdev(self):
        """The host's side, as for -blockdev and blockdev-add."""
        cache = {"direct": self.direct, "no-flush": not self.flush}
        if self.source.startswith("nbd:"):
            base = {"driver": "nbd", "server": {"type": "unix", "path": self.source[4:]},
                    "reconnect-delay": 0}
        else:
            base = {"driver": "file", "filename": self.source, "aio": "threads", "locking": "off"}
        base.update({"cache": cache, "discard": "unmap" if self.discard else "ignore"})
        return {"driver": self.format, "node-name": self.node, "file": base, "cache": cache,
                "read-only": self.readonly, "discard": "unmap" if self.discard else "ignore"}

    def device(self, bus_address):
        """The guest's side, as for -device."""
        d = {"id": "dev-" + self.node, "drive": self.node, "share-rw": True,
             "write-cache": "on" if self.write_cache else "off"}
        if self.bus in DIRECT:
            d["driver"] = DIRECT[self.bus][0]
            d["serial"] = (self.serial or self.node)[:20]
        else:
            d["driver"] = "scsi-hd"
            d["serial"] = self.serial or self.node
            d.update(bus_address)
            if self.wwn is not None:
                d["wwn"] = self.wwn
            d["vendor"] = self.vendor or ("VMware" if self.bus in ("lsi", "mptsas", "pvscsi") else "QEMU")
            d["product"] = self.product or "Virtual disk"
        if self.boot:
            d["bootindex"] = 1
        if self.physical_block:
            d["physical_block_size"] = self.physical_block
        if self.logical_block:
            d["logical_block_size"] = self.logical_block
            d["physical_block_size"] = max(self.logical_block, self.physical_block or 0)
        if self.rerror:
            d["rerror"] = self.rerror
        if self.werror:
            d["werror"] = self.werror
        return d

    def plug(self, bus_address):
        """The guest's side for somebody who names device and node: the QEMU provider."""
        return {k: v for k, v in self.device(bus_address).items() if k not in ("id", "drive")}


def disk_arguments(disks):
    """-blockdev, -device and controllers for all disks; also the guest's drivers they need."""
    args, drivers, used = [], [], {}
    for disk in disks:
        args += ["-blockdev", json.dumps(disk.blockdev())]
        address = {}
        if disk.bus in CONTROLLERS:
            device, room, driver = CONTROLLERS[disk.bus]
            number = used.get(disk.bus, 0)
            used[disk.bus] = number + 1
            name = f"{disk.bus}{number // room}"
            if number % room == 0:
                args += ["-device", json.dumps({"driver": device, "id": name})]
            address = {"bus": name + ".0", "scsi-id": number % room}
        else:
            driver = DIRECT[disk.bus][1]
        args += ["-device", json.dumps(disk.device(address))]
        if driver not in drivers:
            drivers.append(driver)
    if used:
        drivers.append("sd_mod")
    return args, drivers


class Network:
    """An Ethernet between machines: a hub on a Unix socket, alive until close()."""

    def __init__(self, folder, name="net0"):
        self.path = os.path.join(folder, name + ".sock")
        self._hub = subprocess.Popen([tool("tool.sh", "netswitch"), self.path],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._hub.stdout.readline() != b"ready\n":
            raise RuntimeError("netswitch did not start")

    def close(self):
        if self._hub.stdin:
            self._hub.stdin.close()
        self._hub.wait()


def free_port():
    """A TCP port of the loopback address that is free just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def user_net(name, hostfwd, guestfwd):
    """-netdev user that reaches nothing but what is named: hostfwd [(host port, guest port)] on the
    host's loopback; guestfwd [(guest-side port, host port)] at 10.0.2.100 inside."""
    arg = f"user,id={name},restrict=on"
    for host, guest in hostfwd:
        arg += f",hostfwd=tcp:127.0.0.1:{host}-:{guest}"
    for inside, host in guestfwd:
        arg += f",guestfwd=tcp:10.0.2.100:{inside}-cmd:/bin/busybox nc 127.0.0.1 {host}"
    return arg
