#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_connection_test.py [BUILD_DIR]: the connection is cut, from either side, once and again
and again, with extents on the way and in the middle of closes; the network is gone for a while."""
import sys

from replication import PORT, test
from replication_kill_test import REPLICA0, when_written

# As soon as that much has been sent, each time anew.
AGAIN_AND_AGAIN = """
number() { read -r n </sys/class/net/eth0/statistics/tx_bytes; }
for turn in 1 2 3 4 5 6; do
    number; first=$n
    while [ $((n - first)) -lt 150000 ]; do number; done
    ss -K -t state established dport = :%d >/dev/null
done
"""


def cut(vm):
    vm.run(f"ss -K -t state established '( sport = :{PORT} or dport = :{PORT} )'")


def goes_on(what, pair, tally, before):
    epoch = pair.check_goes_on(tally, what, before)
    tally.say(f"{what}: epoch {epoch} has followed")


def cut_in_the_initial_sync(pair, tally):
    pair.load()
    pair.begin_protect()
    pair.until("a part of the initial sync", lambda: pair.source_status()["bytes_done"] > 20 << 20)
    cut(pair.source)
    done = pair.source_status()["bytes_done"]
    pair.until("more of the initial sync", lambda: pair.source_status()["bytes_done"] > 60 << 20)
    tally.say(f"connection cut in the initial sync, after {done} bytes")
    cut(pair.target)
    pair.until_protected()
    # Both disks hold 80 MiB that do not compress and were there before; stamps come on top.
    sent, written = pair.account()
    tally.check("what had arrived was not sent again", sent < (130 << 20) + 2 * written,
                f"{sent} bytes were sent, {written} written")
    tally.say("protected; initial sync is done")


def by_the_source(pair, tally):
    before = pair.replicating()
    pair.source.run(AGAIN_AND_AGAIN % PORT, 300)
    goes_on("connection cut by the source, six times, extents on the way", pair, tally, before)


def by_the_target(pair, tally):
    """While it closes."""
    before = pair.replicating()
    name = pair.target.run(f"basename $(realpath /dev/disk/by-id/wwn-0x{pair.target_id(REPLICA0)[4:]})")
    pair.target.run("number() { read -r a b c d e f n rest </sys/block/%s/stat; }; number; first=$n; "
                    "while [ $((n - first)) -lt 64 ]; do number; done; "
                    "ss -K -t state established sport = :%d" % (name.output.strip(), PORT), 300)
    goes_on("connection cut by the target, in a close", pair, tally, before)


def without_network(pair, tally):
    """Nothing gets through, the target's daemon dies in the middle of what it can still do."""
    what = "network gone"
    before = pair.replicating()
    known = pair.source_status()["closed_epoch"]
    pair.source.run("ip link set eth0 down; "
                    f"ss -K -t state established '( sport = :{PORT} or dport = :{PORT} )'")
    pair.kill_daemon(pair.target)
    point = pair.check_point(tally, what, known)
    pair.start_daemon(pair.target)
    pair.source.run("ip link set eth0 up")
    goes_on(what, pair, tally, before)
    tally.say(f"{what}: epoch {point['epoch']} was found on the target")


def with_a_kill(pair, tally):
    """Cut, and the target dies as it takes up the close again."""
    what = "connection cut, then the target killed in a close"
    before = pair.replicating()
    known = pair.source_status()["closed_epoch"]
    cut(pair.source)
    when_written(pair, REPLICA0, 128)
    point = pair.check_point(tally, what, known)
    pair.start_daemon(pair.target)
    goes_on(what, pair, tally, before)
    tally.say(f"{what}: epoch {point['epoch']} was found on the target")


EVENTS = {"by-the-source": by_the_source, "by-the-target": by_the_target,
          "without-network": without_network, "with-a-kill": with_a_kill}

if __name__ == "__main__":
    sys.exit(test("replication-connection", EVENTS.values(), cut_in_the_initial_sync))
