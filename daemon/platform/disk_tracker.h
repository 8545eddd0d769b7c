// SPDX-License-Identifier: Apache-2.0
// env::Tracker of disks that this process has attached.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env/tracker.h"
#include "platform/event_loop.h"
#include "platform/netlink.h"
#include "platform/restart_record.h"

namespace ebb::platform {

struct TrackDisk {
    std::string stable_id;
    std::string node;
    std::uint64_t size = 0;  // bytes
    // Where its map is kept over restarts; none: in memory alone (mode checksum).
    std::optional<MapArea> area;
    std::vector<Extent> witnesses;  // at first: see DiskTracker
};

// By the disk's node.
using Witnesses = std::map<std::string, std::vector<Extent>>;

class DiskTracker : public env::Tracker {
public:
    // Blocks whose content shows whether somebody wrote without the module, from now on. What goes
    // wrong is said in the log: no reason not to track.
    virtual void set_witnesses(Witnesses witnesses) = 0;
    // Detaches all disks: what they have changed is forgotten.
    virtual void detach(env::StatusCallback done) = 0;
};

// Attaches the disks to the group, in DiskIndex order. Blocks; any thread. On an error nothing
// stays attached that was not before.
using AttachDisks = std::function<Result<std::unique_ptr<DiskTracker>>(
    EventLoop& loop, std::uint32_t group, const std::vector<TrackDisk>& disks,
    const std::shared_ptr<RestartRecord>& restarts)>;

}  // namespace ebb::platform
