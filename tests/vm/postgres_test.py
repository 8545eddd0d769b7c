#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""postgres_test.py [--all] [--seconds N] [--interval N] [--seed N] [BUILD_DIR]: PostgreSQL under pgbench on LVM over two
tracked disks, while the target loses its power; then three recovery points by the seed (--all: every one)
are taken to, and the database in each recovers and passes its own checks."""
import argparse
import os
import random
import sys
import time

from postgres import PostgresPair
from replication import Lab, Tally, TOP

POINTS = 3  # that are looked at, by the seed


def run_for(pair, seconds, seed, tally, more):
    """The load goes on for so long; the target's power fails in the middle. `more`: points on demand, too."""
    pair.until("commits that clients were told of", pair.has_told)
    begun = time.monotonic()
    for part, end in enumerate((seconds / 2, seconds)):
        points = 0  # on a machine that is busy, one may take all the time
        while time.monotonic() < begun + end or (more and points < POINTS):
            if not pair.source.running():
                raise RuntimeError("the source is gone")
            if more:
                pair.control.job("checkpoint", "source")
                points += 1
            else:
                time.sleep(1)
        if part == 0:
            lost = pair.power_cut(seed)
            pair.start_daemon(pair.target)
            tally.say(f"the target's power failed: {lost} sectors lost")


def judge(pair, chosen, tally):
    pair.control.ctl("interval", "source", "0")
    newest = pair.control.job("checkpoint", "source", "--name", "final")["value"]["epoch"]
    pair.kill_daemon(pair.target)
    images = pair.copy_replica()
    pair.source.power_off()
    pair.target.power_off()
    found = pair.point_of(images)
    tally.check("the newest point is there", found["epoch"] == newest, found)
    points = [point for point in found["points"] if min(pair.told(point["cut_time_ns"]).values()) > 0]
    tally.check("points of the run are retained", len(points) >= POINTS, found["points"])
    for point in chosen(points):
        at = pair.point_of(images, point["epoch"])
        good, words = pair.check_database(images)
        told = pair.told(at["cut_time_ns"])
        wrong = pair.judge(words, told) if good else words[-3000:]
        count = sum(told.values())
        tally.check(f"point {at['epoch']}, {count} commits told", not wrong, wrong)
        tally.say(f"point {at['epoch']}, of {len(points)}: {count} commits told; {wrong or 'all are there'}")
        # Two that are missing, or one too many, would be noticed.
        for more in (2, -2) if good else ():
            changed = {client: number + more for client, number in told.items()}
            tally.check("the judge notices", pair.judge(words, changed), f"{told}, {more}: {words}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", nargs="?", default=os.path.join(TOP, "build"))
    parser.add_argument("--all", action="store_true", help="every point, not three")
    parser.add_argument("--seconds", type=int, default=40, help="of load")
    parser.add_argument("--interval", type=int, default=2, help="seconds")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("EBB_SEED", time.time_ns())))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    tally = Tally()
    tally.say(f"seed {options.seed}")
    with Lab("postgres") as lab:
        pair = PostgresPair(lab, os.path.abspath(options.build))
        try:
            pair.start()
            pair.make_database()
            pair.begin_protect(interval=options.interval)
            pair.until_protected()
            tally.say("a database on two tracked disks; initial sync is done")
            pair.load()
            pair.checker.start(wait=False)
            run_for(pair, options.seconds, options.seed, tally, not options.all)
            wrong = pair.rest()
            tally.check("the load never failed", not wrong, wrong)
            pair.checker.wait_ready()

            def chosen(points):
                return points if options.all else rng.sample(points, POINTS)
            judge(pair, chosen, tally)
        finally:
            pair.close()
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
