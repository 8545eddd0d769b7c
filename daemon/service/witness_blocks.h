// SPDX-License-Identifier: Apache-2.0
// Which blocks of a disk bear witness that another system wrote to it: what every system touches
// that mounts, assembles or boots something there. Bytes, whole blocks. Blocking; any thread.
#pragma once

#include <vector>

#include "base/units.h"
#include "platform/block_table.h"
#include "platform/device_layout.h"
#include "platform/disk_tracker.h"

namespace ebb::service {

// Partition tables, GRUB's environment, beginnings of file systems, volume groups and arrays: on
// the disk, its partitions, and on what is made of them where it is known where that lies. The most
// telling ones where there are more than the module takes (EBB_WITNESSES_MAX). In order.
[[nodiscard]] std::vector<Extent> witness_blocks(const platform::BlockTable& table,
                                                 const platform::DmTables& tables,
                                                 const platform::BlockDevice& disk);

// Of all disks, by their nodes.
[[nodiscard]] platform::Witnesses all_witnesses(const platform::BlockTable& table);

}  // namespace ebb::service
