// SPDX-License-Identifier: Apache-2.0
#include "core/retention.h"

#include <algorithm>
#include <functional>

namespace ebb::core {

namespace {

bool pinned(const ClosedEpoch& epoch) {
    return !epoch.record.name.empty();
}

// The first run of points that are not wanted, and what becomes of it. The newest is always wanted,
// and its file is never merged.
std::optional<RetentionStep> give_up(std::size_t points,
                                     const std::function<bool(std::size_t)>& wanted) {
    for (std::size_t begin = 0; begin + 1 < points; ++begin) {
        if (wanted(begin)) continue;
        if (begin == 0) return RetentionStep{RetentionStep::Kind::remove_oldest, 0, 0};
        std::size_t end = begin;
        while (end + 1 < points && !wanted(end)) ++end;
        if (end + 1 == points) --end;
        if (begin == end) continue;
        return RetentionStep{RetentionStep::Kind::merge, begin, end};
    }
    return std::nullopt;
}

}  // namespace

std::optional<RetentionStep> next_by_age(const std::deque<ClosedEpoch>& closed,
                                         const RetentionPolicy& policy) {
    if (closed.size() < 2) return std::nullopt;
    const std::int64_t now = closed.back().record.closed_time.ns;
    const std::int64_t every = policy.thinned_to.count();
    const auto period = [&](std::size_t i) { return closed[i].record.closed_time.ns / every; };
    return give_up(closed.size(), [&](std::size_t i) {
        if (pinned(closed[i])) return true;
        const std::int64_t closed_time = closed[i].record.closed_time.ns;
        if (now - closed_time > policy.age.count()) return false;
        if (every == 0) return true;
        // A period is thinned when all of it is old enough: each undo is merged once, not each time
        // that another point comes of age. The last point of a period stays.
        const bool whole = (period(i) + 1) * every <= now - policy.all_for.count();
        return !whole || period(i + 1) != period(i);
    });
}

std::optional<RetentionStep> next_for_space(const std::deque<ClosedEpoch>& closed) {
    return give_up(closed.size(), [&](std::size_t i) { return pinned(closed[i]); });
}

}  // namespace ebb::core
