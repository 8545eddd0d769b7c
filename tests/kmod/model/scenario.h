// SPDX-License-Identifier: Apache-2.0
// What a run is made of: disks, paths to them, parameters of the module, operations. Its text is
// what is saved of a run that failed, and can be run again.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/operation.h"

namespace ebb::kmodmodel {

inline constexpr std::size_t most_disks = 8;

// `kind`: nullb, or on top of it delay, flakey (writes fail every other second), crypt, or of
// several stripe, thin (a thin volume, and its pool); brd; scsi; erasable; stacked (dm-linear on a
// part of the disk before it). Those of a scenario with restarts are the host's: virtio,
// virtio-scsi, pvscsi, nvme.
struct DiskPlan {
    std::string kind = "nullb";
    std::uint64_t sectors = 0;
    std::uint64_t block = 512;  // logical block, in bytes
    std::uint64_t queues = 1;
    std::uint64_t irqmode = 0;
    std::uint64_t nsec = 0;  // completion time, with irqmode 2
    std::uint64_t delay_ms = 0;
    std::uint64_t polls = 0;  // queues without interrupts, where null_blk has such
    // Of a stacked one: sector of the disk before it. Of stripes: sectors of each.
    std::uint64_t first = 0;
    friend bool operator==(const DiskPlan&, const DiskPlan&) = default;
};

// `kind`: whole, partition, linear (a dm-linear above the disk). All reach to the disk's end.
struct PathPlan {
    std::uint32_t disk = 0;
    std::string kind = "whole";
    std::uint64_t first = 0;  // sector of the disk at which it begins
    friend bool operator==(const PathPlan&, const PathPlan&) = default;
};

struct Scenario {
    std::uint64_t seed = 0;
    std::map<std::string, std::uint64_t> parameters;  // of the module
    std::vector<DiskPlan> disks;
    std::vector<PathPlan> paths;
    // Kind and logical block of the map device; none: disks have no log.
    std::string map;
    std::uint64_t map_block = 512;
    std::vector<Operation> operations;
    friend bool operator==(const Scenario&, const Scenario&) = default;
};

[[nodiscard]] std::string to_text(const Scenario& scenario);
[[nodiscard]] std::optional<Scenario> parse_scenario(const std::string& text);

}  // namespace ebb::kmodmodel
