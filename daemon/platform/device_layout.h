// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a stacked device lie on a disk below it: partitions, what device-mapper lays
// out by a table that stays (linear, striped, crypt, the origin of a snapshot), mirrors of md.
// Bytes unless said otherwise.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/block_table.h"

namespace ebb::platform {

// One line of a device-mapper table, in sectors of 512 bytes.
struct DmTarget {
    struct Piece {
        std::string device;  // its number, "8:1"
        std::uint64_t start = 0;
    };

    std::uint64_t start = 0;
    std::uint64_t length = 0;
    std::uint64_t chunk =
        0;  // so many go to one piece, then it is the next one's turn; 0: one piece
    std::vector<Piece> pieces;  // empty: what lies where is not for a table to say (thin, cache)
};

// By the device's number.
using DmTables = std::map<std::string, std::vector<DmTarget>>;

// A line as the kernel's Documentation/admin-guide/device-mapper writes it, without start and
// length. Keys of dm-crypt are passed over. Absent: it does not parse.
[[nodiscard]] std::optional<DmTarget> parse_dm_target(std::string_view type,
                                                      std::string_view arguments);

// The live tables of all device-mapper devices; one that cannot be read is absent. Blocking; any
// thread, one at a time.
[[nodiscard]] DmTables load_dm_tables(const BlockTable& table);

// The places on `disk` of the byte at `offset` of `device`, which may be the disk itself; empty:
// none there, or not known.
[[nodiscard]] std::vector<std::uint64_t> places_on(const BlockTable& table, const DmTables& tables,
                                                   const BlockDevice& disk,
                                                   const BlockDevice& device, std::uint64_t offset);

}  // namespace ebb::platform
