#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_powercut_test.py [BUILD_DIR]: the target's power fails in the middle of closes, at
chosen writes and flushes of its disks; what was not flushed is lost, sector by sector."""
import sys
from functools import partial

from replication import test

REPLICA0, REPLICA1, RETENTION = 0, 1, 2
# Disks are written to in closes alone: undo and its sync on the retention volume, the replicas and
# their flushes, the epoch's end on the retention volume.
MOMENTS = [
    ("undo written", RETENTION, "flush", 1, "tear"),
    ("replica begun", REPLICA0, "write", 2, "tear"),
    ("replica written", REPLICA1, "flush", 1, "drop"),
    ("undo begun", RETENTION, "write", 1, "tear"),
    ("replica well under way", REPLICA1, "write", 40, "tear"),
    ("epoch's end written", RETENTION, "flush", 3, "tear"),
    ("one replica flushed", REPLICA0, "flush", 1, "tear"),
]


def fail_power(moment, pair, tally):
    what, disk, kind, count, how = moment
    before = pair.replicating()
    pair.disks[disk].arm(kind, count, pair.target.process.pid)
    pair.target.process.wait(300)
    lost = pair.power_cut(seed=MOMENTS.index(moment) + 1, how=how)
    pair.check_found(tally, what, before, f"{lost} sectors lost, ")


def in_the_initial_sync(pair, tally):
    """There is no point yet to be found; it goes on from what was flushed."""
    pair.load()
    pair.begin_protect()
    pair.until("a third of the initial sync", lambda: pair.source_status()["bytes_done"] > 40 << 20)
    pair.disks[REPLICA1].arm("write", 10, pair.target.process.pid)
    pair.target.process.wait(300)
    lost = pair.power_cut(seed=99)
    tally.say(f"initial sync: {lost} sectors lost")
    pair.start_daemon(pair.target)
    pair.until_protected()
    tally.say("protected; initial sync is done")


def some_half_written(pair, tally):
    tally.check("some powers failed with replicas half written", pair.taken_back)


EVENTS = [partial(fail_power, moment) for moment in MOMENTS]

if __name__ == "__main__":
    sys.exit(test("replication-powercut", [*EVENTS, some_half_written],
                  in_the_initial_sync))
