#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_powercut_test.py [BUILD_DIR] [--share]: the target's power fails in the middle of
closes, at chosen writes and flushes of its disks; what was not flushed is lost, sector by sector."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from replication import TOP, Lab, Pair, Tally  # noqa: E402

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
SHARE = 3


def fail_power(pair, tally, number, moment):
    what, disk, kind, count, how = moment
    pair.until("a source that replicates",
               lambda: pair.source_status()["state"] == "replicating")
    before = pair.account()
    pair.disks[disk].arm(kind, count, pair.target.process.pid)
    pair.target.process.wait(60)
    lost = pair.power_cut(seed=number + 1, how=how)
    point = pair.check_point(tally, what, pair.source_status()["closed_epoch"])
    pair.start_daemon(pair.target)
    epoch = pair.check_goes_on(tally, what, before)
    tally.check(f"{what}: epochs go on", epoch > point["epoch"], f"{epoch}, {point}")
    tally.say(f"{what}: {lost} sectors lost, {point['rolled_back_bytes']} bytes taken back to epoch "
              f"{point['epoch']}; epoch {epoch} has followed")
    return point


def main():
    words = [word for word in sys.argv[1:] if word != "--share"]
    build = os.path.abspath(words[0] if words else os.path.join(TOP, "build"))
    moments = MOMENTS[:SHARE] if "--share" in sys.argv else MOMENTS
    tally = Tally()
    with Lab("replication-powercut") as lab:
        pair = Pair(lab, build)
        try:
            pair.start()
            pair.load()
            pair.protect()
            tally.say("protected; initial sync is done")
            points = [fail_power(pair, tally, n, moment) for n, moment in enumerate(moments)]
            tally.check("some powers failed with replicas half written",
                        any(point["rolled_back_bytes"] for point in points), points)
            pair.check_equal(tally)
        finally:
            pair.close()
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
