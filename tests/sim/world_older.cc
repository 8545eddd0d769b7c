// SPDX-License-Identifier: Apache-2.0
// The target is put back to an older state, disks and volume, while the source goes on.
#include <algorithm>

#include "world.h"

namespace ebb::sim {

// The target as it was, and what was known of it.
struct World::Older {
    std::vector<DiskState> disks;
    VolumeState volume;
    std::uint64_t open_epoch = 0;
    std::int64_t until = 0;
    std::uint64_t acknowledged = 0;
    std::map<std::uint64_t, std::set<std::string>> named;
    std::map<std::uint64_t, std::set<std::uint64_t>> marked;
    std::map<std::uint64_t, format::PointKind> kinds;
    std::map<std::uint64_t, core::Point> seen;
};

// Best in the middle of an epoch that has been brought in part: that of one that is closed, or not
// begun, tells by its number.
void World::keep_older(const core::SourceStatus& status) {
    if (naming_ || marking_ || status.open_epoch == 0 || executor_.rng.chance(90)) return;
    if (target_run_->target->status().open_epoch != status.open_epoch) return;
    hit("target-kept");
    observe();
    older_ = std::make_shared<Older>();
    older_->disks = disks_;
    // Files are shared until the copy changes them.
    older_->volume = std::move(volume_);
    volume_ = older_->volume.copy();
    older_->open_epoch = status.open_epoch;
    older_->acknowledged = acknowledged_;
    older_->named = named_;
    older_->marked = marked_;
    older_->kinds = kinds_;
    older_->seen = seen_;
    older_->until = executor_.now() + static_cast<std::int64_t>(executor_.rng.below(3 * second));
}

void World::watch_for_older() {
    const auto status = source_run_->source->status();
    if (!status.connected || !target_run_->open) return;
    if (!older_) return keep_older(status);
    if (naming_ || marking_) return;
    // Between two passes of it, or at any other moment.
    const bool between = status.open_epoch == older_->open_epoch && !status.pass_open;
    if (between ? executor_.rng.chance(70) : executor_.now() < older_->until) return;
    put_back_target(between);
}

void World::put_back_target(bool between) {
    older_wanted_ = false;
    hit(between ? "put-back-between" : "put-back");
    stop_target(false);
    if (!report_.passed) return;
    Older older = std::move(*older_);
    older_.reset();
    disks_ = std::move(older.disks);
    older.volume.capacity = volume_.capacity;
    older.volume.overstated = volume_.overstated;
    volume_ = std::move(older.volume);
    if (executor_.rng.chance(60)) {
        for (DiskState& disk : disks_) disk.power_cut(executor_.rng, faults_);
        volume_.power_cut(executor_.rng, faults_);
    }
    acknowledged_ = older.acknowledged;
    named_ = std::move(older.named);
    marked_ = std::move(older.marked);
    kinds_ = std::move(older.kinds);
    seen_ = std::move(older.seen);
    source_->drop_snapshot();
    put_back_ = true;
    ++acks_may_be_lost_;
    if (executor_.rng.chance(50) && !disabling_) restart_daemon();
    later(second / 10, [this] {
        start_target();
        until_noticed();
    });
}

// The source's, so that it has not met the target as it was.
void World::restart_daemon() {
    hit("put-back-restarted");
    stop_source();
    full_next_ = false;
    later(static_cast<std::int64_t>(executor_.rng.below(second)), [this] { start_source(); });
}

void World::until_noticed() {
    // On a connection that has fallen silent the source may still believe that it is there.
    const bool met = target_run_ && source_run_ && source_run_->source->status().connected &&
                     target_run_->target->status().state == core::TargetState::receiving;
    if (met) {
        later(second / 2, [this] { put_back_ = false; });
        return;
    }
    later(10 * ms, [this] { until_noticed(); });
}

}  // namespace ebb::sim
