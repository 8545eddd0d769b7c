// SPDX-License-Identifier: Apache-2.0
#include "core/retention.h"

#include <algorithm>
#include <functional>
#include <map>

namespace ebb::core {

namespace {

// Of a point, in ns.
std::int64_t age_of(const ClosedEpoch& point, const ClosedEpoch& newest) {
    const std::int64_t source = newest.record.cut_time.ns - point.record.cut_time.ns;
    const std::int64_t ours = newest.record.closed_time.ns - point.record.closed_time.ns;
    return source < 0 || ours < 0 ? std::max(source, ours) : std::min(source, ours);
}

bool pinned(const ClosedEpoch& epoch, const std::set<std::uint64_t>& served) {
    return !epoch.record.name.empty() || served.contains(epoch.epoch);
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

// Epochs of the last common point in each period of the time that they have in common, which is the
// same on each of several targets.
std::set<std::uint64_t> last_of_periods(const std::deque<ClosedEpoch>& closed, std::int64_t every,
                                        const CommonOf& common_of) {
    std::map<std::int64_t, std::uint64_t> last;
    for (const ClosedEpoch& point : closed) {
        const auto* common = common_of && every != 0 ? common_of(point.epoch) : nullptr;
        if (common != nullptr) last[common->time.ns / every] = point.epoch;
    }
    std::set<std::uint64_t> epochs;
    for (const auto& [period, epoch] : last) epochs.insert(epoch);
    return epochs;
}

}  // namespace

std::optional<RetentionStep> next_by_age(const std::deque<ClosedEpoch>& closed,
                                         const RetentionPolicy& policy,
                                         const std::set<std::uint64_t>& served,
                                         const CommonOf& common_of) {
    if (closed.size() < 2) return std::nullopt;
    const std::int64_t every = policy.thinned_to.count();
    const auto period = [&](std::size_t i) { return closed[i].record.closed_time.ns / every; };
    const auto age = [&](std::size_t i) { return age_of(closed[i], closed.back()); };
    // A period is thinned when all of it is old enough: each undo is merged once, not each time
    // that another point comes of age. The last point of a period stays.
    const auto young = [&](std::size_t i, WallTime time) {
        return age(i) < policy.all_for.count() + every - time.ns % every;
    };
    const auto last_common = last_of_periods(closed, every, common_of);
    const auto common_wanted = [&](std::size_t i) {
        const auto* common = common_of ? common_of(closed[i].epoch) : nullptr;
        return common != nullptr &&
               (last_common.contains(closed[i].epoch) || young(i, common->time));
    };
    return give_up(closed.size(), [&](std::size_t i) {
        if (pinned(closed[i], served)) return true;
        if (age(i) > policy.age.count()) return false;
        if (closed[i].record.point == format::PointKind::application) return true;
        if (every == 0 || period(i + 1) != period(i)) return true;
        return young(i, closed[i].record.closed_time) || common_wanted(i);
    });
}

std::optional<RetentionStep> next_for_space(const std::deque<ClosedEpoch>& closed,
                                            const std::set<std::uint64_t>& served) {
    return give_up(closed.size(), [&](std::size_t i) { return pinned(closed[i], served); });
}

}  // namespace ebb::core
