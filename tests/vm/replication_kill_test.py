#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_kill_test.py [BUILD_DIR]: kill -9 of ebbd on the source, on the target and on both, in
the initial sync, while nothing is under way, while extents are on the way, in the middle of closes."""
import sys
from functools import partial

from replication import test

REPLICA0, REPLICA1, RETENTION = 0, 1, 2
# Waits, without a fork, for a number of a file to have grown, and kills at that moment.
ASSASSIN = """
pid=$(pidof ebbd)
number() { read -r a b c d e f g rest <%(file)s; n=${%(field)s}; }
number; first=$n
while [ $((n - first)) -lt %(growth)d ]; do number; done
kill -9 $pid
"""
SENT = "/sys/class/net/eth0/statistics/tx_bytes"


def when_written(pair, disk, sectors):
    """The target's daemon dies as that much has been written to one of its disks."""
    name = pair.target.run(f"basename $(realpath /dev/disk/by-id/wwn-0x{pair.target_id(disk)[4:]})")
    pair.target.run(ASSASSIN % {"file": f"/sys/block/{name.output.strip()}/stat", "field": "g",
                                "growth": sectors}, 300)
    pair.target.poll("! pidof ebbd")


def when_sent(pair, size):
    """The source's daemon dies as that much has been sent."""
    pair.source.run(ASSASSIN % {"file": SENT, "field": "a", "growth": size}, 300)
    pair.source.poll("! pidof ebbd")


def in_the_initial_sync(pair, tally):
    """Neither side begins again where nothing was lost, and it ends."""
    pair.load()
    pair.begin_protect()
    pair.until("a third of the initial sync", lambda: pair.source_status()["bytes_done"] > 40 << 20)
    pair.kill_daemon(pair.target)
    tally.say("initial sync: the target's daemon was killed")
    pair.start_daemon(pair.target)
    pair.until("more of the initial sync", lambda: pair.source_status()["state"] == "initial-sync" and
               pair.source_status()["bytes_done"] > 60 << 20)
    pair.kill_daemon(pair.source)
    tally.say("initial sync: the source's daemon was killed")
    pair.start_daemon(pair.source)
    pair.until_protected()
    tally.say("protected; initial sync is done")


def kill_target(what, disk, sectors, pair, tally):
    before = pair.replicating()
    if sectors:
        when_written(pair, disk, sectors)
    else:
        pair.kill_daemon(pair.target)
    pair.check_found(tally, what, before)


def kill_source(what, size, pair, tally):
    before = pair.replicating()
    if size:
        when_sent(pair, size)
    else:
        pair.kill_daemon(pair.source)
    pair.start_daemon(pair.source)
    epoch = pair.check_goes_on(tally, what, before)
    tally.say(f"{what}: epoch {epoch} has followed")


def kill_both(pair, tally):
    """The source's while the target closes, and then the target's."""
    what = "both daemons killed"
    before = pair.replicating()
    known = pair.source_status()["closed_epoch"]
    when_sent(pair, 100_000)
    pair.kill_daemon(pair.target)
    point = pair.check_point(tally, what, known)
    pair.start_daemon(pair.source)
    pair.start_daemon(pair.target)
    epoch = pair.check_goes_on(tally, what, before)
    tally.check(f"{what}: epochs go on", epoch > point["epoch"], f"{epoch}, {point}")
    tally.say(f"{what}: epoch {point['epoch']} was found, {epoch} has followed")


def some_half_written(pair, tally):
    tally.check("some daemons were killed with replicas half written", pair.taken_back)


EVENTS = {
    "target-replica": partial(kill_target, "target killed, replica begun", REPLICA0, 256),
    "source-sending": partial(kill_source, "source killed, extents on the way", 150_000),
    "target-undo": partial(kill_target, "target killed, undo under way", RETENTION, 64),
    "source-idle": partial(kill_source, "source killed, nothing under way", 0),
    "target-late": partial(kill_target, "target killed, replicas well under way", REPLICA1, 1500),
    "source-late": partial(kill_source, "source killed, much on the way", 600_000),
    "target-idle": partial(kill_target, "target killed, nothing under way", REPLICA0, 0),
    "both": kill_both,
}

if __name__ == "__main__":
    sys.exit(test("replication-kill", [*EVENTS.values(), some_half_written], in_the_initial_sync))
