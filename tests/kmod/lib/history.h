// SPDX-License-Identifier: Apache-2.0
// What the stamping writers did, block by block, and whether a state of all disks is a cut of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "lib/stamp.h"

namespace ebb::kmodtest {

using BlockKey = std::pair<std::uint32_t, std::uint64_t>;  // disk, block
inline constexpr std::uint64_t never = ~0ull;

struct WriteOfBlock {
    std::uint32_t writer = 0;
    std::uint64_t sequence = 0;
    std::uint64_t issued = 0;
    std::uint64_t acknowledged = never;
};

// A block as found in an image: one stamp for each sector; sequence 0: empty, `never`: damaged.
struct FoundBlock {
    Stamp sectors[sectors_of_block] = {};
    bool discarded = false;
};

using Found = std::map<BlockKey, FoundBlock>;

class History {
public:
    // Records of writers' logs, in any order.
    void add(const std::vector<LogRecord>& records);
    // The writes of each block in the order of issue; call once, before check().
    void finish();

    // Faults, as sentences; at most `limit`. The image was cut between the two tickets (use the
    // same high ticket twice for an image of a disk at rest).
    [[nodiscard]] std::vector<std::string> check(const Found& found, std::uint64_t asked,
                                                 std::uint64_t granted, std::size_t limit) const;
    [[nodiscard]] std::size_t blocks() const { return writes_.size(); }

private:
    std::map<BlockKey, std::vector<WriteOfBlock>> writes_;
};

}  // namespace ebb::kmodtest
