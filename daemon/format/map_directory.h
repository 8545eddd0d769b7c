// SPDX-License-Identifier: Apache-2.0
// The directory at the start of a map device (docs/map-format.md): which disk's map is where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/units.h"

namespace ebb::format {

// Space of the directory; map areas follow.
inline constexpr std::uint64_t directory_bytes = 1 << 20;
// It is kept twice and written alternately.
inline constexpr std::uint64_t directory_copy_bytes = 1 << 16;
inline constexpr std::uint64_t directory_second_copy = 1 << 19;
inline constexpr std::size_t directory_slots_max = 255;
inline constexpr std::size_t directory_id_max = 127;  // bytes of a stable id
inline constexpr std::uint64_t map_area_unit = 1 << 16;

struct MapSlot {
    std::string stable_id;
    std::uint64_t disk_bytes = 0;
    std::uint64_t offset = 0;  // of the area on the map device
    std::uint64_t length = 0;
    std::uint32_t group = 0;  // of the module, in which the disk is attached
    friend bool operator==(const MapSlot&, const MapSlot&) = default;
};

struct MapDirectory {
    Uuid uuid;
    std::uint64_t sequence = 0;  // the higher one of two copies counts
    std::uint64_t device_bytes = 0;
    std::vector<MapSlot> slots;

    [[nodiscard]] const MapSlot* find(const std::string& stable_id) const;
    // Takes the first room that is large enough, or what the disk has already. E_MAP_FULL.
    Result<MapSlot> reserve(const std::string& stable_id, std::uint64_t disk_bytes,
                            std::uint32_t group);
    // False: there was none.
    bool remove(const std::string& stable_id);
};

// Of a disk's map, with room to spare.
[[nodiscard]] std::uint64_t map_area_bytes(std::uint64_t disk_bytes);

// Always directory_copy_bytes.
[[nodiscard]] std::vector<std::byte> encode(const MapDirectory& directory);
// E_NOT_FOUND: there is no directory; E_CORRUPT: there is one, damaged; E_VERSION: of a later
// release.
[[nodiscard]] Result<MapDirectory> decode_map_directory(std::span<const std::byte> copy);
// Of the two copies. One of them may be damaged, or never have been written.
[[nodiscard]] Result<MapDirectory> newest_map_directory(std::span<const std::byte> first,
                                                        std::span<const std::byte> second);

}  // namespace ebb::format
