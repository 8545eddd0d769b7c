// SPDX-License-Identifier: Apache-2.0
// A map device: a partition, or a disk, that holds the maps of tracked disks and a directory of
// them. Blocking; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "format/map_directory.h"
#include "platform/block_table.h"

namespace ebb::platform {

class MapDevice {
public:
    // E_MAP_NOT_FOUND when there is no directory on it, E_MAP_DAMAGED.
    static Result<MapDevice> open(const std::string& node);
    // Among all disks without partitions and partitions; those with a name must be called ebb-map.
    // Without `uuid` the only one there is. E_MAP_NOT_FOUND, E_MAP_AMBIGUOUS, E_MAP_DAMAGED.
    static Result<MapDevice> find(const BlockTable& table, const std::optional<Uuid>& uuid);
    // Writes an empty directory. E_MAP_IN_USE when somebody has the device or it holds something;
    // the latter is passed over with `force`. Under a new UUID, or that of a directory that was
    // lost.
    static Result<MapDevice> create(const std::string& node, bool force,
                                    const std::optional<Uuid>& uuid = {});

    [[nodiscard]] const std::string& node() const { return node_; }
    // major << 32 | minor
    [[nodiscard]] std::uint64_t number() const { return number_; }
    [[nodiscard]] const format::MapDirectory& directory() const { return directory_; }
    // Replaces the directory; the older copy gives way, so that one is whole at any moment.
    Status store(format::MapDirectory directory);

private:
    MapDevice(std::string node, std::uint64_t number, format::MapDirectory directory)
        : node_(std::move(node)), number_(number), directory_(std::move(directory)) {}

    std::string node_;
    std::uint64_t number_ = 0;
    format::MapDirectory directory_;
};

}  // namespace ebb::platform
