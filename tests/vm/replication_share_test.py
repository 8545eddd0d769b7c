#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replication_share_test.py [BUILD_DIR]: one of each kind of what the other replication tests do, for
`make check`."""
import sys

import replication_connection_test as connection
import replication_kill_test as kill
import replication_powercut_test as powercut
import replication_space_test as space
from replication import test

if __name__ == "__main__":
    sys.exit(test("replication-share", [
        powercut.EVENTS[1], kill.EVENTS["source-sending"], kill.EVENTS["target-replica"],
        connection.EVENTS["by-the-source"], space.full, powercut.EVENTS[2],
        powercut.some_half_written]))
