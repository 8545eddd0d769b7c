// SPDX-License-Identifier: Apache-2.0
// Where the maps of tracked disks are kept over restarts: room on the map device, the configuration
// that the initramfs attaches by, and the blocks that bear witness. Blocking; any thread.
#pragma once

#include <string>
#include <vector>

#include "platform/block_table.h"
#include "platform/disk_tracker.h"
#include "service/config.h"

namespace ebb::service {

// Gives each disk that keeps a map its area and witnesses; the others lose what they had. A
// directory that is not there or damaged is made anew.
Status give_maps(const SourceSettings& settings, const std::string& map_config,
                 const platform::BlockTable& table, std::uint32_t group,
                 std::vector<platform::TrackDisk>& disks);
// The disks of a group are tracked no more.
Status take_maps(const SourceSettings& settings, const std::string& map_config,
                 std::uint32_t group);

}  // namespace ebb::service
