// SPDX-License-Identifier: Apache-2.0
// Marks of common cuts on points, as a controller sets them.
#include <algorithm>
#include <cstring>
#include <utility>

#include "world.h"

namespace ebb::sim {

std::uint64_t number_of(const std::optional<format::CommonCut>& common) {
    std::uint64_t number = 0;
    if (common) std::memcpy(&number, common->cut.bytes.data(), sizeof number);
    return number;
}

format::CommonCut numbered_cut(std::uint64_t number) {
    format::CommonCut common;
    std::memcpy(common.cut.bytes.data(), &number, sizeof number);
    common.time.ns = static_cast<std::int64_t>(number) * second;
    return common;
}

// A point is of a cut that several machines have in common, says whoever has led them.
void World::mark_common() {
    if (!target_run_ || !target_run_->open || operation_ || marking_) return;
    Rng& rng = executor_.rng;
    const auto points = target_run_->target->points();
    if (points.empty()) return;
    // Most often a new one, or one of the older ones while some of those are given up.
    std::size_t back = rng.chance(70) ? 0 : rng.below(points.size());
    if (target_run_->target->status().merging)
        back = points.size() / 2 + rng.below(points.size() - points.size() / 2);
    const core::Point& point = points[points.size() - 1 - back];
    const std::uint64_t before = number_of(point.common);
    const std::uint64_t number = ++marks_;
    marking_ = true;
    marked_.try_emplace(point.epoch, std::set{before}).first->second.insert(number);
    told_[point.epoch].insert(number);
    target_run_->target->mark_common(
        point.epoch, numbered_cut(number),
        [this, epoch = point.epoch, before, number](Result<core::Point> result) {
            marked(epoch, before, number, result);
        });
    if (!rng.chance(40)) return;
    const bool power = rng.chance(70);
    later(static_cast<std::int64_t>(rng.below(3 * ms)), [this, power] {
        if (!marking_ || !target_run_ || operation_) return;
        stop_target(power);
        later(second / 10, [this] { start_target(); });
    });
}

// Points that are just being given up are marked, too.
void World::watch_for_merges() {
    if (!target_run_ || !target_run_->open) return;
    const bool merging = target_run_->target->status().merging;
    if (merging && !std::exchange(merging_, merging) && executor_.rng.chance(20)) mark_common();
    merging_ = merging;
}

void World::marked(std::uint64_t epoch, std::uint64_t before, std::uint64_t number,
                   const Result<core::Point>& result) {
    marking_ = false;
    if (disabling_) return;
    if (result) {
        hit("marked-common");
        if (number_of(result->common) != number || result->epoch != epoch)
            problem("a point that was marked is of another cut");
        marked_[epoch] = {number};
        if (executor_.rng.chance(60)) later(0, [this] { check_replica(); });
        return;
    }
    if (result.error().code == ErrorCode::no_space) marked_[epoch] = {before};
    if (result.error().code == ErrorCode::corrupt)
        problem("marking a point: " + result.error().message);
}

std::string World::check_marks(const std::vector<core::Point>& points) {
    const auto& retention = target_config().retention;
    const auto period = [&](std::uint64_t number) {
        return numbered_cut(number).time.ns / retention.thinned_to.count();
    };
    for (const auto& [epoch, numbers] : marked_) {
        const auto seen = seen_.find(epoch);
        if (numbers.size() != 1 || numbers.contains(0) || seen == seen_.end()) continue;
        if (std::ranges::binary_search(points, epoch, {}, &core::Point::epoch)) continue;
        if (age(seen->second, points.back()) > retention.age.count()) continue;
        const auto same = [&](std::uint64_t other) {
            return period(other) == period(*numbers.begin());
        };
        const bool last = std::none_of(
            told_.upper_bound(epoch), told_.end(),
            [&](const auto& later) { return std::ranges::any_of(later.second, same); });
        if (last) return "the last common point of a period was given up: " + std::to_string(epoch);
    }
    return {};
}

}  // namespace ebb::sim
