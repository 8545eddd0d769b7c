#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the power-cut disk, by a small NBD client: no machine is started."""
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from powercut import PowerCutDisk

SIZE = 1 << 20
READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1


class Client:
    """One connection, one request at a time."""

    def __init__(self, path):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        magic, _, server = struct.unpack(">8s8sH", self._take(18))
        assert magic == b"NBDMAGIC"
        no_zeroes = 2 & server
        self._sock.sendall(struct.pack(">I8sII", 1 | no_zeroes, b"IHAVEOPT", 1, 0))
        self.size, self.flags = struct.unpack(">QH", self._take(10))
        if not no_zeroes:
            self._take(124)

    def _take(self, count):
        data = b""
        while len(data) < count:
            more = self._sock.recv(count - len(data))
            assert more, "connection closed"
            data += more
        return data

    def request(self, kind, offset=0, data=b"", length=0, flags=0):
        length = length or len(data)
        self._sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 1, offset, length) + data)
        if kind == DISC:
            self._sock.close()
            return b""
        magic, error, _ = struct.unpack(">IIQ", self._take(16))
        assert magic == 0x67446698 and error == 0, f"error {error}"
        return self._take(length) if kind == READ else b""

    def read(self, offset, length):
        return self.request(READ, offset, length=length)

    def write(self, offset, data, flags=0):
        self.request(WRITE, offset, data, flags=flags)

    def close(self):
        self.request(DISC)


def sectors(byte, count):
    return bytes([byte]) * (512 * count)


def unflushed_is_lost(disk):
    c = Client(disk.socket)
    c.write(0, sectors(1, 8))
    c.request(FLUSH)
    c.write(0, sectors(2, 8))
    assert c.read(0, 4096) == sectors(2, 8), "the guest reads its own writes"
    assert disk.stats()["unflushed"] == 8
    c.close()
    assert disk.cut("drop") == {"lost": 8, "kept": 0}
    assert Client(disk.socket).read(0, 4096) == sectors(1, 8)


def flushed_stays(disk):
    c = Client(disk.socket)
    c.write(8192, sectors(3, 4))
    c.request(FLUSH)
    c.close()
    assert disk.cut("drop")["lost"] == 0
    assert Client(disk.socket).read(8192, 2048) == sectors(3, 4)


def fua_covers_its_sectors_alone(disk):
    c = Client(disk.socket)
    c.write(16384, sectors(4, 8))
    c.write(16384 + 1024, sectors(5, 2), FUA)
    c.close()
    assert disk.cut("drop")["lost"] == 6
    assert Client(disk.socket).read(16384, 4096) == sectors(0, 2) + sectors(5, 2) + sectors(0, 4)


def tearing_is_by_sector_and_seed(disk):
    seen = []
    for seed in (7, 7, 8):
        c = Client(disk.socket)
        c.write(65536, sectors(0, 64), FUA)
        c.write(65536, sectors(6, 64))
        c.close()
        answer = disk.cut("tear", seed)
        c = Client(disk.socket)
        data = c.read(65536, 64 * 512)
        c.close()
        kept = [data[i * 512:(i + 1) * 512] for i in range(64)]
        assert all(k in (sectors(0, 1), sectors(6, 1)) for k in kept), "a sector is whole"
        assert kept.count(sectors(6, 1)) == answer["kept"] and 8 < answer["kept"] < 56
        seen.append(data)
    assert seen[0] == seen[1] != seen[2]


def discards_are_cached_too(disk):
    for kind in (TRIM, ZEROES):
        c = Client(disk.socket)
        c.write(131072, sectors(7, 256), FUA)
        c.request(kind, 131072, length=256 * 512)
        assert c.read(131072, 256 * 512) == sectors(0, 256)
        c.write(131072 + 100, b"x" * 10)
        assert c.read(131072 + 98, 14) == b"\0\0" + b"x" * 10 + b"\0\0"
        c.close()
        assert disk.cut("drop")["lost"] == 256
        assert Client(disk.socket).read(131072, 256 * 512) == sectors(7, 256)


def an_orderly_end_keeps_all(disk):
    c = Client(disk.socket)
    c.write(SIZE - 512, sectors(9, 1))
    c.close()
    disk.close()
    with open(disk.image, "rb") as image:
        image.seek(SIZE - 512)
        assert image.read() == sectors(9, 1)


def cut_waits_for_clients(disk):
    c = Client(disk.socket)
    c.write(0, sectors(1, 1))
    try:
        disk.cut("drop")
    except RuntimeError as error:
        assert "still connected" in str(error)
    else:
        raise AssertionError("cut under a connected client")
    c.close()


def power_fails_at_a_write(disk):
    victim = subprocess.Popen(["sleep", "600"])
    c = Client(disk.socket)
    c.write(0, sectors(1, 1), FUA)
    disk.arm("write", 2, victim.pid)
    c.write(0, sectors(2, 1), FUA)
    try:
        c.write(0, sectors(3, 1), FUA)
    except AssertionError:
        pass
    else:
        raise AssertionError("the write arrived")
    assert victim.wait() == -signal.SIGKILL
    assert c.read(0, 512) == sectors(2, 1)
    c.write(0, sectors(4, 1), FUA)
    c.close()


def writes_can_be_refused(disk):
    c = Client(disk.socket)
    disk.refuse(8192, 4096)
    c.write(4096, sectors(1, 8), FUA)
    for at in (8192, 12288 - 512):
        try:
            Client(disk.socket).write(at, sectors(2, 1))
        except AssertionError:
            continue
        raise AssertionError(f"a write at {at} arrived")
    disk.refuse(0, 0)
    c.write(8192, sectors(3, 1), FUA)
    assert c.read(4096, 5 * 1024) == sectors(1, 8) + sectors(3, 1) + sectors(0, 1)
    c.close()


TESTS = (unflushed_is_lost, flushed_stays, fua_covers_its_sectors_alone,
         tearing_is_by_sector_and_seed, discards_are_cached_too, an_orderly_end_keeps_all,
         cut_waits_for_clients,
         power_fails_at_a_write, writes_can_be_refused)


def main():
    failed = 0
    for test in TESTS:
        with tempfile.TemporaryDirectory(prefix="ebb-cut-", dir="/tmp") as folder:
            image = os.path.join(folder, "image")
            with open(image, "wb") as file:
                file.truncate(SIZE)
            disk = PowerCutDisk(image, folder)
            try:
                test(disk)
                print(f"ok   {test.__name__}")
            except (AssertionError, OSError, RuntimeError) as error:
                failed += 1
                print(f"FAIL {test.__name__}: {error!r}")
            finally:
                disk.close()
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
