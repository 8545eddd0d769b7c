#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_resync_test.py [BUILD_DIR]: what the source knew of its disks is lost, and only what
differs travels; the target is killed, and the connection cut, in the middle of that. A replica that
rots is found out by a verification, and mended, all under load."""
import sys

from replication import BLOCK, SIZE, test
from replication_connection_test import cut

ROTTEN = (512, 3)  # first block and number of blocks, where nothing is written


def compared(pair):
    """Bytes; the protection is begun anew for it."""
    begun = pair.control.machine("source")["status"]["source"]["protections"]
    return begun[0]["compared_bytes"] if begun else 0


def resync(pair, tally, what, meanwhile):
    """Everything is gone over; `meanwhile` happens in the middle."""
    before = pair.replicating()
    job = pair.control.ctl("resync", "source", "--checksum")["id"]
    pair.until("the comparing", lambda: compared(pair) > 0)
    meanwhile()
    done = pair.control.ctl("job", "watch", str(job))
    sent, written = (now - then for now, then in zip(pair.account(), before))
    status = pair.source_status()
    tally.check(f"{what}: little of the disks was sent", sent < 3 * written + SIZE // 8,
                f"{sent} bytes were sent, {written} written; {status}")
    tally.check(f"{what}: the most was found to be the same", status["same_bytes"] > SIZE, status)
    tally.say(f"{what}: {done['state']}; {status['compared_bytes']} bytes compared, "
              f"{status['same_bytes']} the same; {sent} sent, {written} written meanwhile")


def nothing_known(pair, tally):
    resync(pair, tally, "all that was known is lost", lambda: None)


def connection_cut(pair, tally):
    resync(pair, tally, "connection cut in a resync", lambda: cut(pair.source))


def target_killed(pair, tally):
    def kill():
        pair.kill_daemon(pair.target)
        pair.start_daemon(pair.target)
    resync(pair, tally, "target killed in a resync", kill)


def sent_in_full(pair, tally):
    before = pair.replicating()
    pair.control.job("resync", "source", "--full")
    sent = pair.account()[0] - before[0]
    tally.check("resync --full sends everything", sent > SIZE, f"{sent} bytes were sent")


def rot(pair, tally):
    """Of the first replica."""
    pair.replicating()
    job = pair.control.job("verify", "source", "--rate", "1000")["value"]
    tally.check("a verification finds nothing where nothing is", job["different_bytes"] == 0, job)
    tally.check("it compared everything", job["equal_bytes"] + job["discarded_bytes"] == 2 * SIZE, job)
    disk = f"/dev/disk/by-id/wwn-0x{pair.target_id(0)[4:]}"
    pair.target.run(f"dd if=/dev/urandom of={disk} bs={BLOCK} seek={ROTTEN[0]} count={ROTTEN[1]} "
                    "oflag=direct conv=notrunc status=none")
    job = pair.control.job("verify", "source", "--rate", "1000", "--repair")["value"]
    where = [(d["kind"], d["stable_id"], d["offset"], d["length"]) for d in job["differences"]]
    tally.check("rot is found, and nothing else", where == [
        ("differs", pair.source_id(0), ROTTEN[0] * BLOCK, ROTTEN[1] * BLOCK)], job)
    tally.check("and mended", (job["repaired_bytes"], job["different_bytes"]) ==
                (ROTTEN[1] * BLOCK, 0), job)
    tally.say(f"verified at points {job['first_epoch']} to {job['last_epoch']}")


if __name__ == "__main__":
    sys.exit(test("replication-resync",
                  [nothing_known, rot, connection_cut, target_killed, sent_in_full]))
