#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_space_test.py [BUILD_DIR]: the retention volume fills: old points are given up, then
replication is paused and says so; the newest point stays, and with space again it goes on."""
import sys

from replication import test

LEFT = 20 << 20  # far below the daemon's reserve


def points(pair):
    return pair.control.ctl("point", "list", "source")["points"]


def error_of(status):
    return (status["error"] or {}).get("code", "")


def full(pair, tally):
    what = "retention volume full"
    pair.replicating()
    pair.until("several points", lambda: len(points(pair)) >= 3)
    before = pair.account()
    pair.target.run("a=$(df --output=avail -B1 /mnt/retention | tail -1); "
                    f"fallocate -l $((a - {LEFT})) /mnt/retention/other")
    pair.until("the target says so", lambda: error_of(pair.target_status()) == "E_NO_SPACE")
    pair.until("the source says so", lambda: error_of(pair.source_status()) == "E_NO_SPACE")
    tally.check(f"{what}: the newest point stays, older ones are given up", len(points(pair)) == 1,
                points(pair))
    known = pair.source_status()["closed_epoch"]
    tally.say(f"{what}: paused after epoch {known}: {pair.source_status()['error']['message']}")
    pair.kill_daemon(pair.target)
    point = pair.check_point(tally, what, known)
    pair.start_daemon(pair.target)
    pair.target.run("rm /mnt/retention/other")
    pair.until("the error is over", lambda: not pair.source_status()["error"] and
               not pair.target_status()["error"])
    epoch = pair.check_goes_on(tally, what, before)
    tally.check(f"{what}: epochs go on", epoch > point["epoch"], f"{epoch}, {point}")
    tally.say(f"{what}: space again, epoch {epoch} has followed")


if __name__ == "__main__":
    sys.exit(test("replication-space", [full]))
