#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_put_back_test.py [BUILD_DIR]: the target's disks and its retention volume are put back to
an older state, as by a snapshot, while the source's daemon lives on, and where it is started anew before
it has met the target: only the module's memory knows then what the target had acknowledged. What that
has lost is found by comparing."""
import sys
from functools import partial

from replication import SIZE, test

KEPT = "/out/kept"  # on the host
KEEP = """
set -e
sync; rm -rf %(kept)s; mkdir %(kept)s
for d in %(disks)s; do dd if=${d#*:} of=%(kept)s/${d%%%%:*}.raw bs=1M iflag=direct conv=sparse status=none; done
cp -r /mnt/retention/%(id)s %(kept)s/retention
"""
PUT_BACK = """
set -e
for d in %(disks)s; do dd if=%(kept)s/${d%%%%:*}.raw of=${d#*:} bs=1M oflag=direct conv=notrunc status=none; done
rm -rf /mnt/retention/%(id)s; cp -r %(kept)s/retention /mnt/retention/%(id)s
sync
"""


def on_target(pair, script):
    """While no daemon runs there."""
    pairs = pair.control.protection("source")["disks"]
    disks = " ".join(f"{p['index']}:/dev/disk/by-id/wwn-0x{p['target_id'][4:]}" for p in pairs)
    pair.target.run(script % {"kept": KEPT, "disks": disks, "id": pair.protection_id}, 300)


def put_back(what, anew, pair, tally):
    pair.replicating()
    pair.kill_daemon(pair.target)
    on_target(pair, KEEP)
    pair.start_daemon(pair.target)
    kept = pair.replicating() and pair.source_status()["closed_epoch"]
    pair.until("points that will be lost",
               lambda: pair.source_status()["closed_epoch"] >= kept + 3)
    if anew:
        pair.kill_daemon(pair.source)
    pair.kill_daemon(pair.target)
    on_target(pair, PUT_BACK)
    pair.start_daemon(pair.target)
    if anew:
        pair.start_daemon(pair.source)
    lost = pair.until("the reason for a resync", lambda: [
        why for why in pair.source_status()["resync_required"] if "lost points" in why])
    tally.check(f"{what}: it is said why", lost == ["the target lost points"], lost)
    known = pair.control.job("checkpoint", "source", "--name",
                             what.replace(" ", "-"))["value"]["epoch"]
    status = pair.source_status()
    tally.check(f"{what}: the most was found to be the same", status["same_bytes"] > SIZE, status)
    pair.kill_daemon(pair.target)
    point = pair.check_point(tally, what, known)
    pair.start_daemon(pair.target)
    tally.say(f"{what}: {status['compared_bytes']} bytes compared, {status['same_bytes']} the same; "
              f"point {point['epoch']} has followed")


EVENTS = [
    partial(put_back, "put back below a daemon that lives on", False),
    partial(put_back, "put back below a daemon that is started anew", True),
]

if __name__ == "__main__":
    sys.exit(test("replication-put-back", EVENTS))
