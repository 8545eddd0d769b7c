// SPDX-License-Identifier: Apache-2.0
// The two machines, and the way from trouble to rest.
#include "world.h"

#include <algorithm>
#include <cstdio>

namespace ebb::sim {

namespace {

constexpr std::int64_t troubled_time = 32 * second;
constexpr std::int64_t patience = 900 * second;
constexpr Duration interval = std::chrono::milliseconds(400);

Uuid protection_id() {
    Uuid id;
    id.bytes.fill(std::byte{7});
    return id;
}

}  // namespace

const std::vector<std::string>& falsifications() {
    static const std::vector<std::string> names = {
        "tracker:stale-release-hidden", "tracker:mark-ignored",  "tracker:abandon-ignored",
        "tracker:reasons-hidden",       "tracker:reboot-unseen", "tracker:region-lost",
        "tracker:sealed-lost",          "tracker:cooled-early",  "tracker:cookie-forged",
        "tracker:note-forgotten",       "reader:unpinned",       "reader:undo-unnoted",
        "reader:disk-after-index",      "reader:newest-first",   "reader:merge-missed",
        "compare:always-same",          "verify:always-same",    "tracker:old-disk-reads"};
    return names;
}

World::World(Options options)
    : options_(std::move(options)), executor_(options_.seed), network_(executor_, faults_) {
    Rng& rng = executor_.rng;
    faults_.mutation = options_.mutation;
    faults_.always_same = options_.mutation == "compare:always-same";
    const std::vector<std::uint64_t> sizes = {(32 + rng.below(64)) * block_bytes + 3 * sector_bytes,
                                              (8 + rng.below(40)) * block_bytes};
    source_ = std::make_unique<SourceMachine>(executor_, faults_, sizes);
    for (std::uint64_t size : sizes) {
        disks_.emplace_back(size + rng.below(2) * 16 * block_bytes);
        // What was there before is anything.
        for (auto& byte : disks_.back().durable) byte = std::byte{0xee};
        disks_.back().current = disks_.back().durable;
    }
    source_->pool_blocks = 4 + rng.below(60);
    source_->death_puts_back_unconfirmed = rng.chance(30);
    source_->hide_stale_release = options_.mutation == "tracker:stale-release-hidden";
    source_->ignore_mark = options_.mutation == "tracker:mark-ignored";
    source_->ignore_abandon = options_.mutation == "tracker:abandon-ignored";
    source_->hide_reasons = options_.mutation == "tracker:reasons-hidden";
    source_->fixed_incarnation = options_.mutation == "tracker:reboot-unseen";
    source_->lose_region = options_.mutation == "tracker:region-lost";
    source_->lose_sealed = options_.mutation == "tracker:sealed-lost";
    source_->forget_note = options_.mutation == "tracker:note-forgotten";
    source_->cool_early = options_.mutation == "tracker:cooled-early";
    source_->old_disk_reads = options_.mutation == "tracker:old-disk-reads";
    source_->forge_cookie = options_.mutation == "tracker:cookie-forged";
    for (DiskIndex i = 0; i < source_->disk_count(); ++i) {
        if (rng.chance(60)) source_->keep_map(i);
    }
    extent_ = (1 + rng.below(8)) * block_bytes;
    batch_ = (1 + rng.below(24)) * block_bytes;
    budget_ = (rng.chance(30) ? 400 : 2 + rng.below(60)) * block_bytes;
    window_ = (2 + rng.below(30)) * block_bytes;
    frozen_limit_ = (2 + rng.below(60)) * block_bytes;
    retention_ = rng.chance(30) ? (16 + rng.below(400)) * block_bytes : 0;
    source_steps_ = rng.chance(50);
    network_.listener = [this](std::shared_ptr<env::Connection> connection) {
        if (!target_run_ || !target_run_->open) {
            connection->close();
            return;
        }
        target_run_->connection = std::static_pointer_cast<End>(connection);
        target_run_->target->accept(std::move(connection));
    };
}

World::~World() = default;

core::TargetConfig World::target_config() const {
    core::TargetConfig config;
    config.protection = protection_id();
    for (DiskIndex i = 0; i < source_->disk_count(); ++i) {
        config.disks.push_back(
            {"source-" + std::to_string(i), "target-" + std::to_string(i), source_->size(i)});
    }
    config.session = first_session_;
    config.closing_budget = std::make_shared<core::ClosingBudget>(budget_);
    config.batch_bytes = batch_;
    config.rewind_bytes = batch_;
    config.rewind_slices = 1 + options_.seed % 4;
    config.rewind_chapter_bytes = 3 * batch_;
    if (small_chapters()) {
        config.merge_chapter_blocks = 8 + 3 * batch_ / block_bytes;
        config.certify_ranges = 32;
        config.certify_index_bytes = 64 * core::PieceIndex::piece_bytes;  // as many pieces
    }
    config.window_bytes = window_;
    config.io_depth = 4;
    config.retention.all_for = std::chrono::seconds(4);
    config.retention.thinned_to = std::chrono::seconds(2);
    config.retention.age = std::chrono::seconds(12);
    config.retention.bytes = retention_;
    config.undo_compression = options_.seed % 3 == 0 ? 0 : 1;
    // Most volumes are filled by somebody else just after they were asked.
    config.reserve_bytes = options_.seed % 4 == 0 ? 4096 : 0;
    config.space_retry = std::chrono::seconds(1);
    config.merge_retry = std::chrono::seconds(1);
    config.merge_retry_max = std::chrono::seconds(4);
    config.reader_rules.pin = options_.mutation != "reader:unpinned";
    config.reader_rules.note_undo = options_.mutation != "reader:undo-unnoted";
    config.reader_rules.look_again = options_.mutation != "reader:disk-after-index";
    config.reader_rules.oldest_first = options_.mutation != "reader:newest-first";
    config.reader_rules.follow_merges = options_.mutation != "reader:merge-missed";
    return config;
}

void World::say(const std::string& what) {
    if (options_.verbose) {
        std::printf("%10.3f ms  %s\n", static_cast<double>(executor_.now()) / 1e6, what.c_str());
    }
}

void World::hit(const std::string& kind) {
    ++faults_.hits[kind];
    say("* " + kind);
}

void World::problem(const std::string& what) {
    if (!report_.passed) return;
    report_.passed = false;
    report_.failure = what;
    say("PROBLEM: " + what);
}

void World::later(std::int64_t delay, std::move_only_function<void()> action) {
    executor_.at(delay, std::move(action));
}

std::uint16_t World::old_version() {
    constexpr std::uint64_t older = format::protocol_version - format::protocol_version_min;
    return static_cast<std::uint16_t>(format::protocol_version_min + executor_.rng.below(older));
}

void World::start_source() {
    if (source_run_ || disabling_) return;
    core::SourceConfig config;
    config.protection = protection_id();
    config.session = session_;
    for (DiskIndex i = 0; i < source_->disk_count(); ++i) {
        config.disks.push_back({"source-" + std::to_string(i), source_->size(i)});
    }
    config.full = std::exchange(full_next_, false);
    config.compare = config.full && executor_.rng.chance(50);
    if (executor_.rng.chance(12)) {
        hit("old-source");
        config.version = old_version();
    }
    config.interval = interval;
    config.extent_bytes = static_cast<std::uint32_t>(extent_);
    config.window_bytes = window_;
    config.reads_in_flight = 4;
    config.frozen_limit_bytes = std::exchange(wide_next_, false) ? UINT64_MAX : frozen_limit_;
    config.looks_ahead = options_.seed % 2 == 0 ? 0 : 8;  // large cuts, too
    config.sampled_ahead = 2;
    config.compression = static_cast<int>(options_.seed % 2);
    config.silence_limit = std::chrono::seconds(6);
    config.retry_max = std::chrono::seconds(1);
    if (config.full) hit("full-resync");
    ahead_ = ahead_again_ = 0;
    acks_may_be_lost_ = 0;
    source_run_ =
        std::make_unique<SourceRun>(executor_, *source_, network_, faults_, std::move(config));
    source_run_->source->start();
    say("source daemon starts, session " + std::to_string(session_));
}

void World::stop_source() {
    observe();
    if (!source_run_) return;
    network_.break_all();
    source_run_.reset();
    verifying_ = false;
    source_->owner_died();
    say("source daemon is gone");
}

void World::start_target() {
    if (target_run_ || disabling_) return;
    counted_.clear();
    auto config = target_config();
    if (executor_.rng.chance(12)) {
        hit("old-target");
        config.version = old_version();
    }
    certifying_ = nullptr;
    target_run_ = std::make_unique<TargetRun>(executor_, disks_, volume_, faults_,
                                              std::move(config), clock_stepped_);
    target_run_->storage_errors(storage_errors_);
    if (faulty_ && executor_.rng.chance(10)) {
        target_run_->volume.failing_site = "recovery-content";
    }
    target_run_->target->open([this](Status status) {
        if (status) {
            target_run_->open = true;
            say("target is open");
            return;
        }
        const auto code = status.error().code;
        if (code != ErrorCode::io && code != ErrorCode::no_space) {
            problem("target does not open: " + status.error().message);
            return;
        }
        later(second, [this] {
            if (target_run_ && !target_run_->open) {
                stop_target(false);
                start_target();
            }
        });
    });
}

void World::stop_target(bool power) {
    observe();
    if (!target_run_) return;
    if (std::exchange(naming_, false)) hit("crash-in-naming");
    if (std::exchange(marking_, false)) hit("crash-in-marking");
    reading_.reset();
    target_run_.reset();
    if (power) {
        for (DiskState& disk : disks_) disk.power_cut(executor_.rng, faults_);
        volume_.power_cut(executor_.rng, faults_);
    }
    say(power ? "target loses power" : "target daemon is killed");
    check_replica();
}

void World::observe() {
    observe_served();
    if (target_run_ && target_run_->open) {
        const auto points = target_run_->target->points();
        const std::uint64_t oldest = points.empty() ? 0 : points.front().epoch;
        if (oldest > 1 && oldest > oldest_) hit("trimmed");
        if (!points.empty() && points.size() < points.back().epoch - oldest + 1)
            ++faults_.hits["thinned"];
        oldest_ = oldest;
        for (const core::Point& point : points) {
            seen_.insert_or_assign(point.epoch, point);
            // What a journal that was opened says stays so.
            const auto named = named_.find(point.epoch);
            const bool settled =
                !naming_ && target_run_->target->status().state != core::TargetState::error;
            if (settled && named != named_.end() && named->second.contains(point.name))
                named->second = {point.name};
            const auto marked = marked_.find(point.epoch);
            const std::uint64_t number = number_of(point.common);
            if (settled && !marking_ && marked != marked_.end() && marked->second.contains(number))
                marked->second = {number};
        }
    }
    if (!source_run_ || disabling_ || put_back_) return;
    const auto status = source_run_->source->status();
    acknowledged_ = std::max(acknowledged_, status.closed_epoch);
    const auto stale = [](const std::string& why) { return why.ends_with("map-out-of-step"); };
    if (std::ranges::any_of(status.resync_reasons, stale)) ++faults_.hits["map-out-of-step"];
    faults_.hits["ahead"] += status.passes_ahead - std::exchange(ahead_, status.passes_ahead);
    faults_.hits["ahead-again"] +=
        status.passes_ahead_again - std::exchange(ahead_again_, status.passes_ahead_again);
    if (status.live_acks_lost > acks_may_be_lost_)
        problem("acknowledged extents of a live pass were lost");
}

void World::application() {
    if (!busy_) return;
    const std::uint64_t burst = 1 + executor_.rng.below(6);
    for (std::uint64_t i = 0; i < burst; ++i) source_->app_write(executor_.rng);
    later(static_cast<std::int64_t>(executor_.rng.below(80 * ms)), [this] { application(); });
}

void World::settle_down() {
    faulty_ = false;
    storage_errors_ = source_->errors_per_thousand = 0;
    network_.corrupt_per_thousand = 0;
    network_.up = true;
    volume_.capacity = UINT64_MAX;
    executor_.slow = false;
    end_serving();  // what is pinned is not given up
    heal();
    if (target_run_) target_run_->storage_errors(0);
    if (source_run_) source_run_->source->set_interval(interval);
    say("faults are over");
    later(2 * second, [this] { busy_ = false; });
}

// Everything heals: a cut that was begun after the last write must close.
void World::finish() {
    const std::int64_t until = executor_.now() + patience;
    std::int64_t quiet_since = 0;
    while (report_.passed && executor_.step()) {
        if (executor_.now() > until) {
            std::string why = source_run_
                                  ? " source: " + source_run_->source->status().error.message
                                  : " no source";
            if (target_run_) why += " target: " + target_run_->target->status().error.message;
            return problem("no new point after faults have stopped;" + why);
        }
        if (busy_ || !source_run_ || !target_run_ || operation_) continue;
        if (quiet_since == 0) quiet_since = executor_.now() + second;
        const auto status = source_run_->source->status();
        const auto cut = source_->cuts().find(status.last_cut.ns);
        if (cut != source_->cuts().end() && cut->second.begun > quiet_since) break;
    }
    if (report_.passed) await_retention_verify();
    if (!report_.passed) return;
    check_replica();
    check_end();
    // After a long pause many are too old at once, and are merged beside replication.
    // In tiny chapters, for each of which all that is merged is gone over, that may take longer.
    const std::int64_t begun = executor_.now();
    const auto merged = [&] {
        const std::int64_t time = executor_.now() - begun;
        return time > 5 * second && (time > 65 * second || ages_are_kept());
    };
    while (report_.passed && !merged() && executor_.step()) {
    }
    if (report_.passed && !ages_are_kept()) problem("points are kept beyond their age");
    // However far apart points were in between.
    if (report_.passed && source_run_->source->status().pace != core::Pace::kept)
        problem("points are further apart than they need to be");
}

void World::check_end() {
    const auto points = target_run_->target->points();
    if (points.empty()) return problem("no point at the end");
    const auto cut = source_->cuts().find(points.back().cut_time.ns);
    if (cut == source_->cuts().end() || cut->second.content != source_->now().content) {
        problem("the newest point is not the source");
    }
    report_.closed = points.back().epoch;
}

// Those of the newest one may be about to go.
bool World::ages_are_kept() {
    if (faults_.hits.contains("clock-step")) return true;
    const auto points = target_run_->target->points();
    if (points.size() < 3) return true;
    const core::Point& newer = points[points.size() - 2];
    const auto patience = std::chrono::seconds(small_chapters() ? 10 : 2);
    const Duration limit = target_config().retention.age + patience;
    return std::ranges::none_of(points, [&](const core::Point& point) {
        if (!point.name.empty() || point.epoch == points.back().epoch) return false;
        const std::int64_t by_both = std::min(newer.closed_time.ns - point.closed_time.ns,
                                              newer.cut_time.ns - point.cut_time.ns);
        return by_both > limit.count();
    });
}

Report World::run() {
    start_target();
    later(ms, [this] { start_source(); });
    later(2 * ms, [this] { application(); });
    later(5 * ms, [this] { something_happens(); });
    bool settled = false;
    later(troubled_time, [&] {
        settle_down();
        settled = true;
    });
    while (report_.passed && !settled && executor_.step()) {
        watch();
    }
    if (report_.passed) finish();
    if (report_.passed && options_.seed % 2 == 0) rot_and_verify();
    stranger_.reset();
    source_run_.reset();
    target_run_.reset();
    report_.hits = faults_.hits;
    for (const auto& [site, count] : faults_.sites) report_.sites[site] += count;
    return report_;
}

}  // namespace ebb::sim
