#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_space_test.py [BUILD_DIR]: the retention volume fills: old points without a name are
given up, then replication is paused and says so; the newest point and those with a name stay, and
with space again it goes on."""
import sys

from replication import test

LEFT = 20 << 20  # far below the daemon's reserve


def points(pair):
    return pair.control.ctl("point", "list", "source")["points"]


def unnamed(found):
    return [p["epoch"] for p in found if not p["name"]]


def error_of(status):
    return (status["error"] or {}).get("code", "")


def full(pair, tally):
    what = "retention volume full"
    pair.replicating()
    pair.control.job("checkpoint", "source", "--name", "kept")
    pair.until("several points", lambda: len(unnamed(points(pair))) >= 4)
    named = {p["name"] for p in points(pair)} - {""}
    before = pair.account()
    pair.target.run("a=$(df --output=avail -B1 /mnt/retention | tail -1); "
                    f"fallocate -l $((a - {LEFT})) /mnt/retention/other")
    pair.until("the target says so", lambda: error_of(pair.target_status()) == "E_NO_SPACE")
    pair.until("the source says so", lambda: error_of(pair.source_status()) == "E_NO_SPACE")
    left = points(pair)
    tally.check(f"{what}: those with a name stay", named == {p["name"] for p in left} - {""}, left)
    # The newest one's file is still written: the one before it isn't merged into it.
    newest = [p["epoch"] for p in left[-2:]]
    tally.check(f"{what}: the newest stays, older ones without a name are given up",
                set(unnamed(left)) <= set(newest), left)
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
