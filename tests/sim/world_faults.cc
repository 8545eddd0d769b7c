// SPDX-License-Identifier: Apache-2.0
// What goes wrong, and when.
#include <algorithm>

#include "format/map_cookie.h"
#include "world.h"

namespace ebb::sim {

void World::something_happens() {
    if (!faulty_) return;
    observe();
    if (executor_.rng.chance(65)) {
        fault();
    } else {
        check_replica();
    }
    later(static_cast<std::int64_t>(executor_.rng.below(2 * second)),
          [this] { something_happens(); });
}

void World::fault() {
    if (put_back_ || damage_is_planted()) return;
    Rng& rng = executor_.rng;
    if (rng.chance(20)) {
        hit("snapshot");
        source_->take_snapshot();
    }
    if (rng.chance(50)) serve();
    if (rng.chance(20)) name_point();
    if (rng.chance(20)) mark_common();
    if (rng.chance(8)) certify();
    if (rng.chance(15)) verify_retention();
    if (damage_is_planted()) return;
    if (rng.chance(5)) older_wanted_ = true;
    // Both machines have to die at one moment for it to show: that one is waited for all the time.
    if (options_.mutation == "epoch-again" && restart_ == Restart::none) restart_ = Restart::wanted;
    // Two crashes at their moments, and what was compared has to be in a cache alone.
    if (options_.mutation == "same" && comparing_ == Comparing::none)
        comparing_ = Comparing::wanted;
    switch (rng.below(31)) {
        case 0:
        case 1:
        case 2:
        case 29: return network_fault();
        case 3: return stranger();
        case 4:
        case 5:
        case 18: return small_fault();
        case 6:
        case 7:
        case 8:
        case 19: return storage_fault();
        case 9:
            if (rng.chance(50)) return main_failover();
            delta_failover_ = true;
            return;
        case 10: return disable();
        case 11: ambush_ = true; return;
        case 12: name_ambush_ = true; return;
        case 13:
        case 14:
        case 30: return checkpoint();
        case 15: return trim();
        case 16: cache_ambush_ = true; return;
        case 17: restart_ = Restart::wanted; return;
        case 21: return verify();
        case 22: return certify();
        case 20:
        case 28: comparing_ = Comparing::wanted; return;
        default: return machine_fault();
    }
}

void World::network_fault() {
    Rng& rng = executor_.rng;
    switch (rng.below(7)) {
        case 4:
        case 5:
        case 6: return network_.disorder(rng.chance(50) ? Disorder::twice : Disorder::swapped);
        case 0:
        case 1:
            hit("broken-connection");
            if (rng.chance(60)) return network_.break_all();
            // The next one is made before all of it has arrived.
            network_.stall(static_cast<std::int64_t>(rng.below(2 * second)));
            later(static_cast<std::int64_t>(rng.below(second / 2)), [this] { network_.hang_up(); });
            return;
        case 2:
            hit("silent-network");
            network_.fall_silent();
            return;
        default:
            hit("network-down");
            network_.up = false;
            network_.break_all();
            later(static_cast<std::int64_t>(rng.below(3 * second)), [this] { network_.up = true; });
    }
}

// Of the source machine's tracking and disks, and of the operator's hand.
void World::small_fault() {
    Rng& rng = executor_.rng;
    switch (rng.below(7)) {
        case 5: return clock_fault();
        case 6:
            source_->errors_per_thousand = 30;
            later(static_cast<std::int64_t>(rng.below(3 * second)),
                  [this] { source_->errors_per_thousand = 0; });
            return;
        case 0:
            hit("void-pass");
            source_->void_pass("simulated");
            return;
        case 4: void_ambush_ = true; return;
        case 1: source_->untracked_write(rng); return;
        case 2: {
            if (!source_run_) return;
            hit("set-interval");
            const std::int64_t choices[] = {0, 50 * ms, 400 * ms, 3 * second};
            source_run_->source->set_interval(Duration{choices[rng.below(4)]});
            return;
        }
        default: {
            if (source_->bad_block) return;
            const auto disk = static_cast<DiskIndex>(rng.below(source_->disk_count()));
            source_->bad_block = std::pair(disk, rng.below(source_->size(disk) / block_bytes));
            source_->bad_since = executor_.now();
            later(static_cast<std::int64_t>(rng.below(2 * second)), [this] { heal(); });
        }
    }
}

// Somebody sets a clock, by less than a point may be old or by years.
void World::clock_fault() {
    Rng& rng = executor_.rng;
    hit("clock-step");
    const std::int64_t by =
        static_cast<std::int64_t>(rng.below(20 * second)) * (rng.chance(20) ? 10'000'000 : 1);
    (source_steps_ ? source_->clock_stepped : clock_stepped_) = rng.chance(50) ? by : -by;
}

void World::storage_fault() {
    Rng& rng = executor_.rng;
    if (rng.chance(75)) {
        hit("small-volume");
        volume_.capacity = volume_.used() + rng.below(2 * block_bytes);
        later(static_cast<std::int64_t>(rng.below(4 * second)),
              [this] { volume_.capacity = UINT64_MAX; });
        return;
    }
    storage_errors_ = 20;
    network_.corrupt_per_thousand = 60;
    executor_.slow = rng.chance(50);
    if (executor_.slow) hit("slow-disk");
    if (target_run_) target_run_->storage_errors(storage_errors_);
    later(static_cast<std::int64_t>(rng.below(3 * second)), [this] {
        storage_errors_ = 0;
        network_.corrupt_per_thousand = 0;
        executor_.slow = false;
        if (target_run_) target_run_->storage_errors(0);
    });
}

void World::machine_fault() {
    Rng& rng = executor_.rng;
    const auto pause = [&] { return static_cast<std::int64_t>(rng.below(second)); };
    const std::uint64_t which = rng.below(8);
    const bool source = which < 3 || which == 6;
    const bool target = which >= 3;
    if (target && !operation_) {
        const bool power = rng.chance(60);
        hit(power ? "target-power" : "target-killed");
        stop_target(power);
        later(pause(), [this] { start_target(); });
    }
    if (source && !disabling_) {
        stop_source();
        if (rng.chance(50)) {
            restart_source();
        } else {
            hit("source-killed");
        }
        full_next_ = rng.chance(20);
        later(pause(), [this] { start_source(); });
    }
}

void World::restart_source() {
    Rng& rng = executor_.rng;
    if (source_->has_snapshot() && rng.chance(50) && !undecidable()) {
        hit("snapshot-restored");
        source_->restore_snapshot();
        return;
    }
    const bool clean = rng.chance(45);
    hit(clean ? "source-reboot" : "source-power");
    source_->reboot(clean);
}

// The one thing that the cookies do not tell (docs/map-format.md): the target's newest epoch, or
// one that may be about to close, was under way when the snapshot was taken, and has had other cuts
// since.
bool World::undecidable() const {
    const auto then = source_->cookie(true);
    if (!then || then == source_->cookie(false)) return false;
    const auto cookie = format::decode_map_cookie(*then);
    if (!cookie || cookie->begun == 0) return false;
    if (!target_run_ || !target_run_->open) return true;
    const auto points = target_run_->target->points();
    const std::uint64_t closed = points.empty() ? 0 : points.back().epoch;
    return (cookie->begun == closed && cookie->closes) || cookie->begun == closed + 1;
}

// After every event: moments that mere chance would not find.
void World::watch() {
    if (damage_is_planted()) return;
    if (executor_.now() < look_until_ && target_run_ && executor_.rng.chance(4)) check_replica();
    watch_for_manifests();
    watch_for_begun_again();
    if (operation_ || !target_run_ || put_back_) return;
    if (delta_failover_ && target_run_->open && target_run_->target->status().rollback_bytes > 0 &&
        executor_.rng.chance(5)) {
        delta_failover_ = false;
        return main_failover();
    }
    if (source_run_ && (cache_ambush_ || ambush_)) {
        const auto status = source_run_->source->status();
        const bool live = status.pass_open && status.pass_kind == env::PassKind::live;
        if (live && status.pass_bytes_done > 0) live_epoch_ = status.open_epoch;
    }
    if (name_ambush_) watch_for_names();
    watch_for_merges();
    if (cache_ambush_ && target_run_) watch_for_caches();
    if (!source_run_ || !target_run_) return;
    if (void_ambush_) watch_for_releases();
    if (restart_ != Restart::none) watch_for_restarts();
    if (comparing_ != Comparing::none && source_run_ && target_run_) watch_for_comparing();
    if (ambush_ && source_run_) watch_for_ambush();
    if (older_wanted_ && source_run_ && target_run_) watch_for_older();
}

// The daemon dies when a new epoch has a name in the cache alone.
void World::watch_for_names() {
    if (volume_.pending.empty()) return;
    const auto& change = volume_.pending.back();
    if (!change.add.starts_with("epoch-") || change.file->current.empty()) return;
    name_ambush_ = false;
    hit("name-ambush");
    stop_target(false);
    later(second / 10, [this] { start_target(); });
    for (int i = 0; i < 30; ++i) later((100 + i * 50) * ms, [this] { check_replica(); });
}

// The daemon dies when a record is in the cache alone; the next one relies on it, and then the
// power fails.
void World::watch_for_caches() {
    if (!source_run_ || executor_.rng.chance(50)) return;
    const auto status = source_run_->source->status();
    const bool frozen = status.pass_open && status.pass_kind == env::PassKind::frozen;
    const bool ripe = frozen && live_epoch_ != 0 && live_epoch_ == status.open_epoch;
    for (const auto& [name, file] : volume_.names) {
        if (!name.starts_with("epoch-") || file->clean) continue;
        // A frozen pass after live ones begins with a note; else old content is what matters.
        if (!ripe && file->current.size() < file->durable.size() + block_bytes) continue;
        cache_ambush_ = false;
        hit("cache-ambush");
        stop_target(false);
        later(ms, [this] { start_target(); });
        look_until_ = executor_.now() + second / 2;
        ambush_ = eager_ = ripe;
        return;
    }
}

// An epoch is started over: what comes next relies on the record that says so.
void World::watch_for_begun_again() {
    const std::uint64_t times = faults_.sites["epoch-again"];
    if (std::exchange(begun_again_, times) == times) return;
    look_until_ = std::max(look_until_, executor_.now() + second / 10);
}

// The cut becomes void while its ranges are let go of.
void World::watch_for_releases() {
    const auto status = source_run_->source->status();
    if (!status.pass_open || status.pass_kind != env::PassKind::frozen ||
        status.pass_bytes_done == 0 || executor_.rng.chance(80)) {
        return;
    }
    void_ambush_ = false;
    hit("void-pass");
    source_->void_pass("simulated");
}

// A source daemon that begins with everything starts an epoch over that has durable live passes.
// Then both machines die, before the first of its extents is on a disk.
void World::watch_for_restarts() {
    const auto status = source_run_->source->status();
    if (status.open_epoch == 0 || !status.pass_open) return;
    const bool frozen = status.pass_kind == env::PassKind::frozen;
    if (restart_ == Restart::begun) {
        if (frozen && status.pass_bytes_done > 0 && executor_.rng.chance(20)) {
            restart_ = Restart::none;
            hit("restart-ambush");
            both_lose_power();
        }
        return;
    }
    // A frozen one would have noted that the target's memory matters.
    if (frozen || status.pass_bytes_done == 0 || executor_.rng.chance(80)) return;
    restart_ = Restart::begun;
    stop_source();
    full_next_ = wide_next_ = true;
    later(ms, [this] { start_source(); });
}

// A target's daemon dies with a part of a resync in its disks' caches. What is compared then is the
// same, and the power fails when it was acknowledged.
void World::watch_for_comparing() {
    const auto status = source_run_->source->status();
    if (comparing_ == Comparing::killed) {
        if (status.same_bytes == 0) same_before_ = 0;
        if (status.same_bytes <= same_before_ || executor_.rng.chance(35)) return;
        comparing_ = Comparing::none;
        hit("compare-ambush");
        stop_target(true);
        later(second / 10, [this] { start_target(); });
        return;
    }
    const bool cached =
        std::ranges::any_of(disks_, [](const DiskState& disk) { return !disk.pending.empty(); });
    if (status.compare_left_bytes == 0 || !status.pass_open || !cached) return;
    if (executor_.rng.chance(60)) return;
    comparing_ = Comparing::killed;
    same_before_ = status.same_bytes;
    stop_target(false);
    later(ms, [this] { start_target(); });
}

// Both ends at once, when a frozen pass has begun to be released in an epoch that has durable live
// passes: the one moment at which what was acknowledged is in nobody's memory.
void World::watch_for_ambush() {
    const auto status = source_run_->source->status();
    if (!status.pass_open || status.open_epoch == 0) return;
    if (status.pass_kind == env::PassKind::live) return;
    if (live_epoch_ != status.open_epoch || status.pass_bytes_done == 0) return;
    if (executor_.rng.chance(eager_ ? 50 : 95)) return;
    ambush_ = eager_ = false;
    hit("ambush");
    both_lose_power();
}

void World::both_lose_power() {
    stop_source();
    stop_target(true);
    later(second / 10, [this] { start_target(); });
    later(second / 5, [this] { start_source(); });
}

// Loose in every cut that was open while the block could not be read.
void World::heal() {
    if (!source_->bad_block) return;
    for (auto& [time, cut] : source_->cuts()) {
        if (cut.over < source_->bad_since) continue;
        cut.loose[source_->bad_block->first].insert(source_->bad_block->second);
    }
    source_->bad_block.reset();
}

}  // namespace ebb::sim
