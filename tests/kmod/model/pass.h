// SPDX-License-Identifier: Apache-2.0
// A pass as its owner sees it: what was in its map, what was read, what a release vouched for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/ledger.h"
#include "model/operation.h"
#include "model/replica.h"

namespace ebb::kmodmodel {

using BlockKey = std::pair<std::uint32_t, std::uint64_t>;  // disk, block

// Bytes of blocks; empty: discarded.
using Contents = std::map<BlockKey, std::vector<std::byte>>;

struct Run {
    std::uint32_t disk = 0;
    std::uint64_t block = 0;
    std::uint64_t count = 0;
    bool discarded = false;
};

struct Pass {
    std::uint64_t id = 0;
    Kind kind = Kind::frozen;
    Cut cut;
    Maps seen;       // every block that was ever in the map; empty: the disk is not in the pass
    Maps left;       // not yet released
    Maps discarded;  // as the map last said
    std::map<BlockKey, BlockCodes> read;      // what was read first
    std::map<BlockKey, std::string> differs;  // another reading, before the release, was not equal
    std::map<BlockKey, BlockCodes> vouched;
    Contents bytes;                        // what was read last, if bytes are kept at all
    std::vector<std::vector<Code>> whole;  // of whole passes: the image of each disk

    [[nodiscard]] bool is_frozen() const { return kind != Kind::live; }
    // Runs of what is left, no longer than `longest` blocks, in order.
    [[nodiscard]] std::vector<Run> runs(std::uint64_t longest) const;
};

}  // namespace ebb::kmodmodel
