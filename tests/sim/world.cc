// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <algorithm>
#include <cstdio>

namespace ebb::sim {

namespace {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t second = 1'000 * ms;
constexpr std::int64_t troubled_time = 32 * second;
constexpr std::int64_t patience = 900 * second;

Uuid protection_id() {
    Uuid id;
    id.bytes.fill(std::byte{7});
    return id;
}

}  // namespace

const std::vector<std::string>& falsifications() {
    static const std::vector<std::string> names = {
        "tracker:stale-release-hidden", "tracker:mark-ignored", "tracker:abandon-ignored",
        "tracker:reasons-hidden", "tracker:reboot-unseen"};
    return names;
}

struct World::TargetRun {
    TargetRun(Executor& executor, std::vector<DiskState>& states, VolumeState& volume_state,
              Faults& faults, core::TargetConfig config)
        : life(executor), clock(life), volume(life, volume_state, faults) {
        std::vector<env::Disk*> pointers;
        for (DiskState& state : states) {
            disks.push_back(std::make_unique<SimDisk>(life, state, faults));
            pointers.push_back(disks.back().get());
        }
        target = std::make_unique<core::Target>(std::move(config), pointers, volume, clock);
    }
    ~TargetRun() {
        life.end();
        if (connection) connection->die();
        target.reset();
    }
    Life life;
    SimClock clock;
    SimVolume volume;
    std::vector<std::unique_ptr<SimDisk>> disks;
    std::unique_ptr<core::Target> target;
    std::shared_ptr<End> connection;
    bool open = false;
};

struct World::SourceRun {
    SourceRun(Executor& executor, SourceMachine& machine, Network& network,
              core::SourceConfig config)
        : life(executor),
          clock(life),
          random(executor.rng),
          tracker(life, machine),
          connector(life, network),
          source(std::make_unique<core::Source>(std::move(config), tracker, connector, clock,
                                                random)) {}
    ~SourceRun() {
        life.end();
        source.reset();
    }
    Life life;
    SimClock clock;
    SimRandom random;
    SimTracker tracker;
    SimConnector connector;
    std::unique_ptr<core::Source> source;
};

World::World(Options options)
    : options_(std::move(options)), executor_(options_.seed), network_(executor_, faults_) {
    Rng& rng = executor_.rng;
    faults_.removed_site = options_.mutation;
    const std::vector<std::uint64_t> sizes = {(32 + rng.below(64)) * block_bytes,
                                              (8 + rng.below(40)) * block_bytes + 3 * sector_bytes};
    source_ = std::make_unique<SourceMachine>(executor_, faults_, sizes);
    for (std::uint64_t size : sizes) {
        disks_.emplace_back(size + rng.below(2) * 16 * block_bytes);
        // What was there before is anything.
        for (auto& byte : disks_.back().durable) byte = std::byte{0xee};
        disks_.back().current = disks_.back().durable;
    }
    source_->pool_blocks = 4 + rng.below(60);
    source_->void_puts_back_released = rng.chance(50);
    source_->death_puts_back_unconfirmed = rng.chance(30);
    source_->hide_stale_release = options_.mutation == "tracker:stale-release-hidden";
    source_->ignore_mark = options_.mutation == "tracker:mark-ignored";
    source_->ignore_abandon = options_.mutation == "tracker:abandon-ignored";
    source_->hide_reasons = options_.mutation == "tracker:reasons-hidden";
    source_->fixed_incarnation = options_.mutation == "tracker:reboot-unseen";
    extent_ = (1 + rng.below(8)) * block_bytes;
    batch_ = (1 + rng.below(24)) * block_bytes;
    volume_.overstated = options_.seed % 4 == 0 ? 0 : 4096 * block_bytes;
    budget_ = (2 + rng.below(60)) * block_bytes;
    window_ = (2 + rng.below(30)) * block_bytes;
    frozen_limit_ = (2 + rng.below(60)) * block_bytes;
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
    config.session = 1;
    config.closing_budget = std::make_shared<core::ClosingBudget>(budget_);
    config.batch_bytes = batch_;
    config.window_bytes = window_;
    config.io_depth = 4;
    config.retention_age = std::chrono::seconds(12);
    // Most volumes are filled by somebody else just after they were asked.
    config.reserve_bytes = options_.seed % 4 == 0 ? 4096 : 0;
    config.space_retry = std::chrono::seconds(1);
    return config;
}

void World::say(const std::string& what) {
    if (options_.verbose) {
        std::printf("%10.3f ms  %s\n", static_cast<double>(executor_.now()) / 1e6, what.c_str());
    }
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

void World::start_source() {
    if (source_run_) return;
    core::SourceConfig config;
    config.protection = protection_id();
    config.session = session_;
    for (DiskIndex i = 0; i < source_->disk_count(); ++i) {
        config.disks.push_back({"source-" + std::to_string(i), source_->size(i)});
    }
    config.interval = std::chrono::milliseconds(400);
    config.extent_bytes = static_cast<std::uint32_t>(extent_);
    config.window_bytes = window_;
    config.reads_in_flight = 4;
    config.frozen_limit_bytes = frozen_limit_;
    config.compression = static_cast<int>(options_.seed % 2);
    config.silence_limit = std::chrono::seconds(6);
    config.retry_max = std::chrono::seconds(1);
    source_run_ = std::make_unique<SourceRun>(executor_, *source_, network_, std::move(config));
    source_run_->source->start();
    say("source daemon starts, session " + std::to_string(session_));
}

void World::stop_source() {
    observe();
    if (!source_run_) return;
    network_.break_all();
    source_run_.reset();
    source_->owner_died();
    say("source daemon is gone");
}

void World::start_target() {
    if (target_run_) return;
    target_run_ = std::make_unique<TargetRun>(executor_, disks_, volume_, faults_, target_config());
    for (auto& disk : target_run_->disks) disk->error_percent_of_thousand = disk_errors_;
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
    target_run_.reset();
    if (power) {
        for (DiskState& disk : disks_) disk.power_cut(executor_.rng, faults_);
        volume_.power_cut(executor_.rng, faults_);
    }
    say(power ? "target loses power" : "target daemon is killed");
    check_replica();
}

void World::observe() {
    if (!source_run_) return;
    const auto status = source_run_->source->status();
    acknowledged_ = std::max(acknowledged_, status.closed_epoch);
    if (status.live_acks_lost > 0) problem("acknowledged extents of a live pass were lost");
}

void World::application() {
    if (!busy_) return;
    const std::uint64_t burst = 1 + executor_.rng.below(6);
    for (std::uint64_t i = 0; i < burst; ++i) source_->app_write(executor_.rng);
    later(static_cast<std::int64_t>(executor_.rng.below(80 * ms)), [this] { application(); });
}

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
    Rng& rng = executor_.rng;
    switch (rng.below(14)) {
        case 0:
        case 1:
            ++faults_.hits["broken-connection"];
            network_.break_all();
            break;
        case 2:
            ++faults_.hits["network-down"];
            network_.up = false;
            network_.break_all();
            later(static_cast<std::int64_t>(rng.below(3 * second)), [this] { network_.up = true; });
            break;
        case 3:
            ++faults_.hits["void-pass"];
            source_->void_pass("simulated");
            break;
        case 4: source_->untracked_write(rng); break;
        case 5: {
            if (source_->bad_block) break;
            const auto disk = static_cast<DiskIndex>(rng.below(source_->disk_count()));
            source_->bad_block = std::pair(disk, rng.below(source_->size(disk) / block_bytes));
            source_->bad_since = executor_.now();
            later(static_cast<std::int64_t>(rng.below(2 * second)), [this] { heal(); });
            break;
        }
        case 6:
        case 10: {
            ++faults_.hits["small-volume"];
            volume_.capacity = volume_.used() + rng.below(2 * block_bytes);
            later(static_cast<std::int64_t>(rng.below(4 * second)),
                  [this] { volume_.capacity = UINT64_MAX; });
            break;
        }
        case 7: {
            disk_errors_ = 20;
            network_.corrupt_per_thousand = 30;
            executor_.slow = rng.chance(50);
            if (executor_.slow) ++faults_.hits["slow-disk"];
            if (target_run_) {
                for (auto& disk : target_run_->disks) disk->error_percent_of_thousand = 20;
            }
            later(static_cast<std::int64_t>(rng.below(3 * second)), [this] {
                disk_errors_ = 0;
                network_.corrupt_per_thousand = 0;
                executor_.slow = false;
                if (!target_run_) return;
                for (auto& disk : target_run_->disks) disk->error_percent_of_thousand = 0;
            });
            break;
        }
        case 8: main_failover(); break;
        case 9: (rng.chance(60) ? ambush_ : name_ambush_) = true; break;
        default: machine_fault();
    }
}

// Both ends at once, when a frozen pass has begun to be released in an epoch that has durable live
// passes: the one moment at which what was acknowledged is in nobody's memory.
void World::watch_for_ambush() {
    if (name_ambush_ && target_run_ && !failing_over_ && !volume_.pending.empty()) {
        // The daemon dies when a new epoch has a name in the cache alone.
        const auto& change = volume_.pending.back();
        if (change.add.starts_with("epoch-") && !change.file->current.empty()) {
            name_ambush_ = false;
            ++faults_.hits["name-ambush"];
            stop_target(false);
            later(second / 10, [this] { start_target(); });
            for (int i = 0; i < 30; ++i) later((100 + i * 50) * ms, [this] { check_replica(); });
        }
    }
    if (!ambush_ || failing_over_ || !source_run_ || !target_run_) return;
    const auto status = source_run_->source->status();
    if (!status.pass_open || status.open_epoch == 0) return;
    if (status.pass_kind == env::PassKind::live) {
        if (status.pass_bytes_done > 0) live_epoch_ = status.open_epoch;
        return;
    }
    if (live_epoch_ != status.open_epoch || status.pass_bytes_done == 0) return;
    if (executor_.rng.chance(95)) return;
    ambush_ = false;
    ++faults_.hits["ambush"];
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

void World::machine_fault() {
    Rng& rng = executor_.rng;
    const auto pause = [&] { return static_cast<std::int64_t>(rng.below(second)); };
    const std::uint64_t which = rng.below(8);
    const bool source = which < 3 || which == 6;
    const bool target = which >= 3;
    if (target && !failing_over_) {
        const bool power = rng.chance(60);
        ++faults_.hits[power ? "target-power" : "target-killed"];
        stop_target(power);
        later(pause(), [this] { start_target(); });
    }
    if (source) {
        stop_source();
        if (rng.chance(15)) {
            ++faults_.hits["source-power"];
            source_->reboot();
            say("source machine reboots");
        } else {
            ++faults_.hits["source-killed"];
        }
        later(pause(), [this] { start_source(); });
    }
}

// In the middle of it all: fail over, compare, and go back to replication under a new session.
void World::main_failover() {
    if (!target_run_ || !target_run_->open || failing_over_) return;
    failing_over_ = true;
    observe();
    const std::uint64_t acknowledged = acknowledged_;
    TargetRun* run = target_run_.get();
    ++session_;
    say("failover begins");
    run->target->failover(session_, [this, run, acknowledged](Result<core::FailoverResult> result) {
        if (!result) {
            if (result.error().code == ErrorCode::not_found && acknowledged != 0) {
                problem("failover finds no point, one was acknowledged");
            }
            // Fenced or not: the next session is good in any case.
            if (source_run_) stop_source();
            resume(run);
            return;
        }
        ++faults_.hits["failover"];
        ++report_.failovers;
        say("failed over to epoch " + std::to_string(result->point.epoch));
        if (result->point.epoch < acknowledged) problem("failover lost an acknowledged point");
        const std::string difference = compare(disks_, result->point);
        if (!difference.empty()) problem("after failover: " + difference);
        // The old source is still there, and must be refused.
        later(2 * second, [this, run] {
            if (source_run_ && source_run_->source->status().state != core::SourceState::fenced &&
                run->target->status().state == core::TargetState::receiving) {
                problem("a fenced source is received");
            }
            if (source_run_ && source_run_->source->status().state == core::SourceState::fenced) {
                ++faults_.hits["fenced"];
            }
            stop_source();
            resume(run);
        });
    });
}

void World::resume(TargetRun* run) {
    run->target->resume([this, run](Status status) {
        if (!status) {
            later(second, [this, run] { resume(run); });
            return;
        }
        failing_over_ = false;
        start_source();
    });
}

std::string World::compare(const std::vector<DiskState>& disks, const core::Point& point) {
    ++report_.checks;
    const auto at = source_->cuts().find(point.cut_time.ns);
    if (at == source_->cuts().end()) return "a point of a cut that never was";
    const Cut& cut = at->second;
    for (DiskIndex i = 0; i < cut.content.size(); ++i) {
        for (Block block = 0; block * block_bytes < cut.content[i].size(); ++block) {
            if (cut.loose[i].contains(block)) continue;
            if (source_->bad_block == std::optional(std::pair(i, block)) &&
                cut.over >= source_->bad_since) {
                continue;
            }
            const std::size_t from = block * block_bytes;
            const std::size_t to = std::min(cut.content[i].size(), from + block_bytes);
            if (!std::equal(cut.content[i].begin() + static_cast<std::ptrdiff_t>(from),
                            cut.content[i].begin() + static_cast<std::ptrdiff_t>(to),
                            disks[i].current.begin() + static_cast<std::ptrdiff_t>(from))) {
                return "epoch " + std::to_string(point.epoch) + ", disk " + std::to_string(i) +
                       ", block " + std::to_string(block) + " is not that of the cut";
            }
        }
    }
    return {};
}

// One attempt on a copy; `interrupted`: the power fails somewhere in it. True: it answered.
bool World::try_failover(std::vector<DiskState>& disks, VolumeState& volume, std::uint64_t seed,
                         bool interrupted, core::FailoverResult& result, std::string& problem,
                         bool fenced) {
    Executor executor(seed);
    Faults faults;
    faults.removed_site = faults_.removed_site;
    volume.capacity = UINT64_MAX;
    auto run = std::make_unique<TargetRun>(executor, disks, volume, faults, target_config());
    bool answered = false;
    const std::uint64_t session = session_ + 1;
    run->target->open([&](Status opened) {
        if (!opened) {
            problem = "recovery: " + opened.error().message;
            answered = true;
            return;
        }
        if (fenced && run->target->status().state != core::TargetState::failed_over) {
            problem = "a failover that was answered is forgotten";
            answered = true;
            return;
        }
        run->target->failover(session, [&](Result<core::FailoverResult> done) {
            answered = true;
            if (done) {
                result = std::move(*done);
            } else if (done.error().code != ErrorCode::not_found) {
                problem = "failover: " + done.error().message;
            }
        });
    });
    const std::uint64_t steps = interrupted ? executor.rng.below(120) : 1'000'000;
    for (std::uint64_t i = 0; i < steps && !answered; ++i) {
        if (!executor.step()) break;
    }
    const bool done = answered;
    if (!done && !interrupted) problem = "failover does not end";
    if (done && problem.empty() && result.point.epoch != 0 &&
        run->target->status().state != core::TargetState::failed_over) {
        problem = "not failed over after failover";
    }
    run.reset();
    if (interrupted || done) {
        for (DiskState& disk : disks) disk.power_cut(executor.rng, faults);
        volume.power_cut(executor.rng, faults);
    }
    for (const auto& [site, count] : faults.sites) report_.sites[site] += count;
    return done;
}

// What would be had if the power failed now, or the daemon died, and it was failed over?
void World::check_replica() {
    if (!report_.passed) return;
    observe();
    const std::uint64_t acknowledged = acknowledged_;
    std::vector<DiskState> disks = disks_;
    VolumeState volume = volume_.copy();
    Rng& rng = executor_.rng;
    if (rng.chance(70)) {
        for (DiskState& disk : disks) disk.power_cut(rng, faults_);
        volume.power_cut(rng, faults_);
    }
    std::string trouble;
    core::FailoverResult result;
    for (int i = 0; i < 3 && rng.chance(50); ++i) {
        ++faults_.hits["crash-in-failover"];
        (void)try_failover(disks, volume, rng.next(), true, result, trouble);
    }
    result = {};
    if (trouble.empty()) (void)try_failover(disks, volume, rng.next(), false, result, trouble);
    if (!trouble.empty()) return problem(trouble);
    if (result.point.epoch < acknowledged) {
        return problem("acknowledged epoch " + std::to_string(acknowledged) +
                       " is lost, there is " + std::to_string(result.point.epoch));
    }
    if (result.point.epoch == 0) return;
    const std::string difference = compare(disks, result.point);
    if (!difference.empty()) return problem("after recovery: " + difference);
    // Rolled back is rolled back: what the machine writes now is its own, and stays.
    core::FailoverResult again;
    (void)try_failover(disks, volume, rng.next(), false, again, trouble, true);
    if (!trouble.empty()) return problem("second failover: " + trouble);
    if (again.point.epoch != result.point.epoch || again.rolled_back_bytes != 0) {
        problem("a finished rollback was done again");
    }
}

void World::settle_down() {
    faulty_ = false;
    disk_errors_ = 0;
    network_.corrupt_per_thousand = 0;
    network_.up = true;
    volume_.capacity = UINT64_MAX;
    executor_.slow = false;
    heal();
    if (target_run_) {
        for (auto& disk : target_run_->disks) disk->error_percent_of_thousand = 0;
    }
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
        if (busy_ || !source_run_ || !target_run_ || failing_over_) continue;
        if (quiet_since == 0) quiet_since = executor_.now() + second;
        const auto status = source_run_->source->status();
        const auto cut = source_->cuts().find(status.last_cut.ns);
        if (cut != source_->cuts().end() && cut->second.begun > quiet_since) break;
    }
    if (!report_.passed) return;
    check_replica();
    const auto points = target_run_->target->points();
    if (points.empty()) return problem("no point at the end");
    const auto cut = source_->cuts().find(points.back().cut_time.ns);
    if (cut == source_->cuts().end() || cut->second.content != source_->now().content) {
        problem("the newest point is not the source");
    }
    report_.closed = points.back().epoch;
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
    while (report_.passed && !settled && executor_.step()) watch_for_ambush();
    if (report_.passed) finish();
    source_run_.reset();
    target_run_.reset();
    report_.hits = faults_.hits;
    for (const auto& [site, count] : faults_.sites) report_.sites[site] += count;
    return report_;
}

}  // namespace ebb::sim
