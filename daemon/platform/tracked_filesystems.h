// SPDX-License-Identifier: Apache-2.0
// Which mounted filesystems lie on given disks, through partitions, dm, LVM, md and btrfs.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "platform/block_table.h"

namespace ebb::platform {

struct TrackedFilesystem {
    std::string number;  // of its device in mountinfo, "0:33" where that is made up
    std::string point;   // one of its mounts
    std::string type;
    friend bool operator==(const TrackedFilesystem&, const TrackedFilesystem&) = default;
};

// In the order in which they are to be frozen: the one mounted last first, since those that were
// mounted later may lie below the others. Those that are mounted read-only everywhere are left out.
// E_APP_HIDDEN: one can be reached by no path, because others are mounted above it.
[[nodiscard]] Result<std::vector<TrackedFilesystem>> tracked_filesystems(
    const BlockTable& table, const std::set<std::string>& stable_ids);

}  // namespace ebb::platform
