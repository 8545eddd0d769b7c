// SPDX-License-Identifier: Apache-2.0
// What two sides have of a range, block by block.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/units.h"
#include "format/digest.h"

namespace ebb::core {

// Calls `each` with runs of blocks of the range, ascending, and whether they are equal. A digest a
// block, as many of theirs as of ours; the last block may be a short one.
template <class Each>
void for_each_run(const Extent& range, const std::vector<format::Sha256>& ours,
                  const std::vector<format::Sha256>& theirs, Each each) {
    for (std::size_t i = 0; i < ours.size();) {
        const std::size_t first = i;
        const bool same = ours[i] == theirs[i];
        while (i < ours.size() && (ours[i] == theirs[i]) == same) ++i;
        const std::uint64_t begin = first * block_bytes;
        const std::uint64_t end = std::min(i * block_bytes, range.length);
        each(Extent{range.offset + begin, end - begin, false}, same);
    }
}

}  // namespace ebb::core
