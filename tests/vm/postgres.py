# SPDX-License-Identifier: Apache-2.0
"""A pair of machines whose source runs PostgreSQL on LVM over both of its tracked disks, and a third one
that checks what a recovery point holds: the database recovers, its own checks pass, and of what clients
were told exactly that is there which they were told before the cut."""
import glob
import os
import subprocess

from replication import WWN_SOURCE, Pair

DISK = 160 << 20
CLIENTS = (1, 2)  # that keep account of what they were told
BIN = "/usr/lib/postgresql/15/bin"
DB = "/mnt/pg/db"
PG_CTL = f"runuser -u postgres -- {BIN}/pg_ctl -D {DB} -w -t 600 -l {DB}/log"
PSQL = "psql -h /tmp -U postgres -qAtX -v ON_ERROR_STOP=1 postgres"

MAKE = f"""
set -e
export LC_ALL=C
disks=$(ls /dev/disk/by-id/wwn-*)
pvcreate -q $disks
vgcreate -q pg $disks
lvcreate -q -y -i2 -I64k -l100%FREE -n data pg
mkfs.ext4 -q /dev/pg/data
mkdir -p /mnt/pg
mount /dev/pg/data /mnt/pg
mkdir {DB}
chown postgres: {DB}
runuser -u postgres -- {BIN}/initdb -D {DB} -k -N --wal-segsize=4 -A trust -E UTF8 --locale=C
cat >>{DB}/postgresql.conf <<.
listen_addresses = ''
unix_socket_directories = '/tmp'
huge_pages = off
jit = off
shared_buffers = 16MB
min_wal_size = 16MB
max_wal_size = 32MB
checkpoint_timeout = 30s
autovacuum_naptime = 10s
.
{PG_CTL} start
{PSQL} -c 'create table told (client int, number int, primary key (client, number))'
{BIN}/pgbench -h /tmp -U postgres -i -q -s 1 postgres
sync  # what -N left out
"""
# Each line of its account was written when a commit had been answered.
TELL = f"""
export LC_ALL=C
coproc P {{ exec {PSQL} 2>&1; }}
exec {{account}}>>/out/told.$1
number=0
while [ ! -e /run/enough ]; do
    number=$((number + 1))
    echo "insert into told values ($1, $number); select 'told';" >&"${{P[1]}}"
    read -r line <&"${{P[0]}}"
    [ "$line" = told ] || {{ echo "$number: $line" >/out/told.$1.error; exit 1; }}
    echo "$EPOCHREALTIME" >&$account
done
"""
# Of another machine: no process of this one holds the database.
CHECK = f"""
set -e
export LC_ALL=C
vgchange -q -ay pg >/dev/null
mkdir -p /mnt/pg
mount /dev/pg/data /mnt/pg
rm -f {DB}/postmaster.pid
{PG_CTL} start >/dev/null || {{ tail -n 40 {DB}/log; exit 1; }}
{PSQL} -c "select client, count(*), min(number), max(number) from told group by client"
echo balances $({PSQL} -c "select sum(abalance) from pgbench_accounts") \
    $({PSQL} -c "select sum(bbalance) from pgbench_branches") \
    $({PSQL} -c "select sum(tbalance) from pgbench_tellers") \
    $({PSQL} -c "select coalesce(sum(delta), 0) from pgbench_history")
{BIN}/pg_amcheck -h /tmp -U postgres --all --install-missing --heapallindexed --rootdescend
{PG_CTL} stop -m fast >/dev/null
{BIN}/pg_checksums --check -D {DB} >/dev/null
umount /mnt/pg
e2fsck -fn /dev/pg/data >/dev/null
"""


class PostgresPair(Pair):
    def __init__(self, lab, build, disk=DISK):
        self.disk_bytes = disk
        super().__init__(lab, build, target_sizes=(disk, disk), retention_bytes=4 << 30)
        self.workload = []
        self.checker = lab.vm("checker", mem=768, smp=2, udev=True, timeout=14400, packages="postgres",
                              modprobe=["virtio_scsi", "sd_mod", "dm-mod", "ext4"],
                              qemu=["-device", "virtio-scsi-pci,id=points"])

    def make_source(self, net):
        self.source = self.lab.vm("source", mem=1024, smp=2, udev=True, timeout=7200, packages="postgres",
                                  out=self.folders["source-out"], modprobe=["tcp_diag", "dm-mod", "ext4"])
        for number in range(2):
            disk = self.lab.image(f"source{number}.raw", str(self.disk_bytes))
            self.source.disk(disk, "virtio-scsi", wwn=WWN_SOURCE + number + 1)
        self.source.net(net, "10.9.0.1/24")
        self.source.user_net(guestfwd=[(8443, self.controller_port)])

    def close(self):
        self.checker.power_cut()
        super().close()

    # -- the database ----------------------------------------------------------------------------
    def make_database(self):
        self.source.run(MAKE, 900)

    def load(self):
        for client in CLIENTS:
            self.workload.append(self.source.spawn(f"exec bash -s {client}", stdin=TELL.encode()))
        self.workload.append(self.source.spawn(
            f"exec {BIN}/pgbench -h /tmp -U postgres -n -c 4 -j 2 -T 100000 postgres"))

    def rest(self):
        """The load ends; what went wrong with it, or ""."""
        bench = self.workload.pop()
        wrong = "" if bench.running() else "pgbench ended by itself: " + bench.output[-500:]
        bench.kill(2)
        self.source.run("touch /run/enough")
        for client in self.workload:
            client.wait(120, check=False)
        for path in glob.glob(os.path.join(self.folders["source-out"], "told.*.error")):
            with open(path, encoding="utf8") as error:
                wrong += error.read()
        return wrong

    def has_told(self):
        """Each client has been told of a commit."""
        files = [os.path.join(self.folders["source-out"], f"told.{client}") for client in CLIENTS]
        return all(map(os.path.exists, files)) and min(self.told(2**63).values()) > 0

    def told(self, cut_time_ns):
        """How many commits each client had been told of when the cut was taken."""
        counts = {}
        for client in CLIENTS:
            path = os.path.join(self.folders["source-out"], f"told.{client}")
            with open(path, encoding="ascii") as account:
                moments = [int(line.replace(".", "")) * 1000 for line in account if line.endswith("\n")]
            counts[client] = sum(moment <= cut_time_ns for moment in moments)
        return counts

    # -- judging a point -------------------------------------------------------------------------
    def check_database(self, images):
        """What the database on these images, which stay as they are, says of itself: whether all is
        well, and its words."""
        disks = [self._plug(number, path) for number, path in enumerate(sorted(images.values()))]
        try:
            self.checker.poll(f"test $(ls /sys/class/block | grep -c '^sd.$') = {len(disks)}")
            self.checker.run("udevadm settle")
            good, words = self.look_into(self.checker)
            self.checker.run("umount /mnt/pg 2>/dev/null; vgchange -q -an pg; sync", check=False)
        finally:
            for name in disks:
                self._unplug(name)
        return good, words

    @staticmethod
    def look_into(vm):
        """The same of the database on a machine's own disks."""
        done = vm.run(CHECK, 1200, check=False)
        return done.status == 0, done.output

    @staticmethod
    def judge(words, told):
        """"" or what is wrong with a database that says so much; `told`: commits by client."""
        lines, found = words.split("\n"), {}
        for line in lines:
            if line.startswith("balances "):
                if len(set(line.split()[1:])) != 1:
                    return "transactions in part: " + line
            elif line.count("|") == 3:
                client, count, first, last = map(int, line.split("|"))
                if first != 1 or count != last:
                    return f"client {client}: rows in between are missing: {line}"
                found[client] = last
        wrong = ""
        for client, number in told.items():
            # The next one may have been committed, and nobody been told.
            if found.get(client, 0) not in (number, number + 1):
                wrong += f"client {client} was told of {number}, there are {found.get(client, 0)}; "
        return wrong

    def _plug(self, number, path):
        name, overlay = f"point{number}", path + ".qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "raw", overlay],
                       check=True)
        self.checker.qmp.execute("blockdev-add", driver="qcow2", node_name=name,
                                 file={"driver": "file", "filename": overlay, "locking": "off"})
        self.checker.qmp.execute("device_add", driver="scsi-hd", bus="points.0", drive=name,
                                 id="dev-" + name, wwn=WWN_SOURCE + number + 1)
        return name

    def _unplug(self, name):
        self.checker.qmp.execute("device_del", id="dev-" + name)
        self.checker.qmp.wait_event("DEVICE_DELETED")
        self.checker.qmp.execute("blockdev-del", node_name=name)
