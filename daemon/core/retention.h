// SPDX-License-Identifier: Apache-2.0
// Which points are given up, and how: a decision, nothing is done here.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/journal.h"

namespace ebb::core {

// Ages count from the newest point: where no new ones come, the old ones stay. Both the source's
// clock (of the cut) and ours (of its closing) have to say that a point is so old: one that was set
// forward takes nothing, and one that was set back is not believed where it makes a point younger
// than the newest.
struct RetentionPolicy {
    Duration all_for = std::chrono::hours(2);  // every point
    // Then one in so long, and each that is application-consistent; 0: every point. Of those that
    // are common to several machines likewise one in so long, by the time that they have in common.
    Duration thinned_to = std::chrono::hours(1);
    Duration age = std::chrono::hours(24);  // then none but those with a name
    std::uint64_t bytes = 0;                // of undo; 0: no limit of its own
};

// Places in Journal::closed().
struct RetentionStep {
    enum class Kind { remove_oldest, merge };
    Kind kind = Kind::remove_oldest;
    std::size_t begin = 0;  // of a merge: the points from begin to before end are given up
    std::size_t end = 0;
};

// Of the point of an epoch; null: it is of no common cut.
using CommonOf = std::function<const format::CommonCut*(std::uint64_t epoch)>;

// The next step, by age; none: all is as it should be.
// `served`: points that are being read, and stay.
[[nodiscard]] std::optional<RetentionStep> next_by_age(const std::deque<ClosedEpoch>& closed,
                                                       const RetentionPolicy& policy,
                                                       const std::set<std::uint64_t>& served = {},
                                                       const CommonOf& common_of = {});
// The oldest that can be given up; none: all there is has a name, is served, or is the newest.
[[nodiscard]] std::optional<RetentionStep> next_for_space(
    const std::deque<ClosedEpoch>& closed, const std::set<std::uint64_t>& served = {});

}  // namespace ebb::core
