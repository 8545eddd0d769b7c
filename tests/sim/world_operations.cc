// SPDX-License-Identifier: Apache-2.0
// What operators do in the middle of it all, and a stranger who knocks.
#include <algorithm>

#include "format/message.h"
#include "world.h"

namespace ebb::sim {

// Copies the whole image of a cut, as of the cut.
struct World::Export : std::enable_shared_from_this<World::Export> {
    bool whole = false;
    bool fails = false;  // is made to
    bool complete = false;
    bool failed = false;
    std::vector<Bytes> content;
    std::int64_t cut_time = 0;

    void start(SimTracker& from, const SourceMachine& machine,
               const core::CheckpointRequest::Image& of, env::StatusCallback callback) {
        tracker_ = &from;
        image_ = of;
        done_ = std::move(callback);
        cut_time = image_.cut_time.ns;
        complete = failed = false;
        disk_ = 0;
        offset_ = 0;
        content.clear();
        for (DiskIndex i = 0; i < machine.disk_count(); ++i) content.emplace_back(machine.size(i));
        next();
    }

private:
    void next() {
        while (disk_ < content.size() && offset_ == content[disk_].size()) {
            ++disk_;
            offset_ = 0;
        }
        if (disk_ == content.size()) {
            complete = true;
            return done_(Status{});
        }
        const std::size_t size =
            std::min<std::size_t>(chunk_bytes, content[disk_].size() - offset_);
        tracker_->read(image_.pass, disk_, offset_,
                       std::span(content[disk_]).subspan(offset_, size),
                       [self = shared_from_this(), size](Status status) mutable {
                           if (status && self->fails) status = fail(ErrorCode::io, "made to fail");
                           if (!status) {
                               self->failed = true;
                               return self->done_(std::move(status));
                           }
                           self->offset_ += size;
                           self->next();
                       });
    }

    static constexpr std::size_t chunk_bytes = 16 * block_bytes;
    SimTracker* tracker_ = nullptr;
    core::CheckpointRequest::Image image_;
    env::StatusCallback done_;
    DiskIndex disk_ = 0;
    std::size_t offset_ = 0;
};

// Applications that come to rest, or do not; and a watchdog that lets them go on too early.
struct World::Quiesced : std::enable_shared_from_this<World::Quiesced> {
    explicit Quiesced(World& world) : world_(world) {
        Rng& rng = world.executor_.rng;
        before_fails_ = rng.chance(25);
        after_fails_ = rng.chance(25);
        takes_ = static_cast<std::int64_t>(rng.below(400)) * ms;
    }

    core::CheckpointRequest::Quiesce hooks() {
        const auto self = shared_from_this();
        return {[self](env::StatusCallback ready) { self->before(std::move(ready)); },
                [self](bool cut, env::StatusCallback done) { self->after(cut, std::move(done)); }};
    }

    // Empty, or what is wrong with the answer to the request.
    [[nodiscard]] std::string judge(const core::CheckpointResult& result) const {
        if (still_) return "a checkpoint is answered while applications are still at rest";
        const bool good = !before_fails_ && !after_fails_;
        const bool app = result.kind == format::PointKind::application;
        if (app == result.degraded.has_value()) return "a point's kind is not what its answer says";
        if (app && !good) return "a point is application-consistent though nothing was at rest";
        // Given up too often is the only other reason.
        if (!app && good && result.degraded->code != ErrorCode::stale)
            return "a point is crash-consistent for no reason";
        // A clock that was set meanwhile tells nothing.
        const bool told = step_ == world_.source_->clock_stepped;
        if (app && told && (result.cut_time.ns < from_ || result.cut_time.ns > to_))
            return "an application-consistent point was cut while nothing was at rest";
        world_.hit(app ? "app-point" : "app-point-degraded");
        return {};
    }

private:
    // The source's, of which cut times are.
    [[nodiscard]] std::int64_t clock() const {
        return world_.executor_.now() + wall_start + world_.source_->clock_stepped;
    }
    void before(env::StatusCallback ready) {
        world_.later(takes_, [self = shared_from_this(), ready = std::move(ready)]() mutable {
            if (self->before_fails_) return ready(fail(ErrorCode::refused, "a script failed"));
            self->still_ = true;
            self->from_ = self->clock();
            self->step_ = self->world_.source_->clock_stepped;
            ready({});
        });
    }
    void after(bool /*cut*/, env::StatusCallback done) {
        if (!still_) world_.problem("applications that are not at rest are told to go on");
        still_ = false;
        to_ = clock();
        const bool fails = after_fails_;
        world_.later(0, [done = std::move(done), fails]() mutable {
            if (fails) return done(fail(ErrorCode::timeout, "thawed too early"));
            done({});
        });
    }

    World& world_;
    bool before_fails_ = false;
    bool after_fails_ = false;
    bool still_ = false;
    std::int64_t takes_ = 0;
    std::int64_t step_ = 0;  // of that clock, at the beginning
    std::int64_t from_ = 0;
    std::int64_t to_ = 0;
};

void World::checkpoint() {
    if (!source_run_ || disabling_) return;
    Rng& rng = executor_.rng;
    core::CheckpointRequest request;
    if (rng.chance(70)) request.name = "named-" + std::to_string(++checkpoints_);
    auto exported = std::make_shared<Export>();
    if (rng.chance(60)) {
        request.whole = exported->whole = true;
        exported->fails = rng.chance(35);
        request.on_image = [this, exported](core::CheckpointRequest::Image image,
                                            env::StatusCallback done) {
            exported->start(source_run_->tracker, *source_, image, std::move(done));
        };
    }
    std::shared_ptr<Quiesced> quiesced;
    if (rng.chance(60)) {
        quiesced = std::make_shared<Quiesced>(*this);
        request.quiesce = quiesced->hooks();
    }
    const std::string name = request.name;
    source_run_->source->checkpoint(std::move(request), [this, exported, quiesced, name](
                                                            Result<core::CheckpointResult> result) {
        if (result && quiesced) {
            const std::string wrong = quiesced->judge(*result);
            if (!wrong.empty()) problem(wrong);
        }
        checkpointed(*exported, name, std::move(result));
    });
}

void World::checkpointed(const Export& exported, const std::string& name,
                         Result<core::CheckpointResult> result) {
    if (!result) {
        const auto code = result.error().code;
        const bool ended = code == ErrorCode::cancelled || code == ErrorCode::fenced;
        if (!ended && !exported.failed) problem("checkpoint: " + result.error().message);
        if (exported.failed) hit("failed-export");
        return;
    }
    hit("checkpoint");
    // Of a target that was put back it may be gone already.
    if (!name.empty() && !put_back_) {
        hit("named-point");
        // It may have been named otherwise before the source heard of it.
        named_.try_emplace(result->epoch, std::set{name});
        kinds_[result->epoch] = result->kind;
    }
    if (!exported.whole) return;
    hit("whole-export");
    if (!exported.complete || exported.cut_time != result->cut_time.ns) {
        return problem("a checkpoint is answered without its image");
    }
    std::vector<const Bytes*> disks;
    for (const Bytes& content : exported.content) disks.push_back(&content);
    const std::string difference = compare(disks, result->cut_time.ns);
    if (!difference.empty()) problem("exported image: " + difference);
}

// In the middle of it all: fail over, compare, and go back to replication under a new session.
void World::main_failover() {
    if (!target_run_ || !target_run_->open || operation_) return;
    operation_ = true;
    older_.reset();
    observe();
    const std::uint64_t acknowledged = acknowledged_;
    TargetRun* run = target_run_.get();
    if (run->target->status().rollback_bytes > 0) hit("failover-in-delta");
    ++session_;
    say("failover begins");
    run->target->failover(session_, [this, run, acknowledged](Result<core::FailoverResult> result) {
        if (result) return failed_over(*result, acknowledged);
        if (result.error().code == ErrorCode::not_found && acknowledged != 0) {
            problem("failover finds no point, one was acknowledged");
        }
        // Fenced or not: the next session is good in any case.
        if (source_run_) stop_source();
        resume(run);
    });
}

void World::failed_over(const core::FailoverResult& result, std::uint64_t acknowledged) {
    hit("failover");
    ++report_.failovers;
    say("failed over to epoch " + std::to_string(result.point.epoch));
    if (result.point.epoch < acknowledged) problem("failover lost an acknowledged point");
    const std::string difference = compare(disks_, result.point);
    if (!difference.empty()) problem("after failover: " + difference);
    // The old source is still there, and must be refused.
    later(2 * second, [this, run = target_run_.get()] {
        const bool fenced =
            source_run_ && source_run_->source->status().state == core::SourceState::fenced;
        if (source_run_ && !fenced && run->target->status().state == core::TargetState::receiving) {
            problem("a fenced source is received");
        }
        if (fenced) hit("fenced");
        stop_source();
        leave_failover(run);
    });
}

// The operator looks at some other points before.
void World::leave_failover(TargetRun* run) {
    if (executor_.rng.chance(40) || run->target->status().state != core::TargetState::failed_over)
        return resume(run);
    if (executor_.rng.chance(50)) {
        hit("small-volume");
        volume_.capacity = volume_.used() + executor_.rng.below(8 * block_bytes);
        later(4 * second, [this] { volume_.capacity = UINT64_MAX; });
    }
    core::FailoverResult here;
    here.point.epoch = run->target->status().point;
    wander(*run->target, disks_, 1 + executor_.rng.below(4), executor_.rng, here,
           [this, run](const auto& result) { moved(result, run, run->target->status().point); });
}

void World::moved(const Result<core::FailoverResult>& result, TargetRun* run,
                  std::uint64_t before) {
    if (!result) {
        const ErrorCode code = result.error().code;
        if (code != ErrorCode::no_space && code != ErrorCode::io)
            problem("changing the point: " + result.error().message);
        // Nothing has changed.
        for (const core::Point& point : run->target->points()) {
            if (code != ErrorCode::no_space || point.epoch != before) continue;
            hit("no-room-to-rewind");
            const std::string difference = compare(disks_, point);
            if (!difference.empty()) problem("not moved: " + difference);
        }
    }
    resume(run);
}

void World::resume(TargetRun* run) {
    run->target->resume([this, run](Status status) {
        if (!status) {
            later(second, [this, run] { resume(run); });
            return;
        }
        operation_ = false;
        start_source();
    });
}

void World::trim() {
    if (!target_run_ || !target_run_->open || operation_) return;
    TargetRun* run = target_run_.get();
    run->target->trim([this, run](Status status) {
        if (!status) return;
        hit("trim");
        const auto after = run->target->points();
        if (after.empty() && acknowledged_ != 0) return problem("trimming left no point");
        const auto now = run->target->status();
        if (retention_ != 0 && after.size() > 1 && now.open_epoch == 0 &&
            now.retention_bytes > retention_ && !now.merging && now.served.empty() &&
            certifying_ != run &&
            std::ranges::none_of(after, [](const auto& point) { return !point.name.empty(); })) {
            problem("trimming left more than may be kept");
        }
    });
}

// A point's name is taken off, or it is given one, by an operator.
void World::name_point() {
    if (!target_run_ || !target_run_->open || operation_ || naming_) return;
    Rng& rng = executor_.rng;
    auto points = target_run_->target->points();
    const bool off = rng.chance(50);
    if (off) std::erase_if(points, [](const core::Point& point) { return point.name.empty(); });
    if (points.empty()) return;
    const core::Point point = points[rng.below(points.size())];
    const std::string name = off ? "" : "pinned-" + std::to_string(++checkpoints_);
    naming_ = true;
    auto& allowed = named_.try_emplace(point.epoch, std::set{point.name}).first->second;
    allowed.insert(name);
    kinds_[point.epoch] = point.kind;
    target_run_->target->name_point(
        point.epoch, name,
        [this, epoch = point.epoch, before = point.name, name](Result<core::Point> result) {
            named(epoch, before, name, result);
        });
    if (!rng.chance(40)) return;
    const bool power = rng.chance(70);
    later(static_cast<std::int64_t>(rng.below(3 * ms)), [this, power] {
        if (!naming_ || !target_run_ || operation_) return;
        stop_target(power);
        later(second / 10, [this] { start_target(); });
    });
}

void World::named(std::uint64_t epoch, std::string before, const std::string& name,
                  const Result<core::Point>& result) {
    naming_ = false;
    if (disabling_) return;
    if (result) {
        hit(name.empty() ? "unpinned" : "pinned");
        if (result->name != name || result->epoch != epoch)
            problem("a point that was named is called '" + result->name + "'");
        named_[epoch] = {name};
        // Whatever happens from here on.
        if (executor_.rng.chance(60)) later(0, [this] { check_replica(); });
        return;
    }
    const ErrorCode code = result.error().code;
    // It had no name: else it is not given up.
    if (code == ErrorCode::not_found && !before.empty()) problem("a point with a name is gone");
    if (code == ErrorCode::no_space) {
        hit("no-room-for-a-name");
        named_[epoch] = {std::move(before)};
    }
    if (code == ErrorCode::corrupt) problem("naming a point: " + result.error().message);
}

// The protection is given up, and begun anew on the same disks.
void World::disable() {
    if (!target_run_ || !target_run_->open || operation_) return;
    operation_ = true;
    older_.reset();
    hit("disable");
    observe();
    disabling_ = true;
    const auto close = [this] {
        stop_source();
        source_->detach();
        acknowledged_ = 0;
        named_.clear();
        marked_.clear();
        told_.clear();
        seen_.clear();
        target_run_->target->close([this](Status) {
            later(0, [this] {
                reading_.reset();
                target_run_.reset();
                naming_ = marking_ = false;
                erase();
            });
        });
    };
    if (!source_run_) return close();
    source_run_->source->stop([this, close](Status status) {
        // What it could not put back there the death of its owner does.
        if (!status && !status.error().message.ends_with("as simulated"))
            problem("stop: " + status.error().message);
        later(0, close);
    });
}

// The daemon dies, or the power fails, in the middle of it, and it is done again.
void World::erase() {
    Rng& rng = executor_.rng;
    bool done = false;
    for (int attempt = 0; !done; ++attempt) {
        VolumeState state = volume_.copy();
        Executor executor(rng.next());
        Life life(executor);
        SimVolume volume(life, state, faults_);
        core::Target::erase(volume, [&](Status status) {
            done = true;
            if (!status) problem("erase: " + status.error().message);
        });
        const bool interrupted = attempt < 3 && rng.chance(60);
        const std::uint64_t steps = interrupted ? executor.rng.below(40) : UINT64_MAX;
        for (std::uint64_t i = 0; i < steps && !done; ++i) {
            if (!executor.step()) break;
        }
        volume_ = state.copy();
        if (!done) hit("crash-in-erase");
        if (rng.chance(60)) volume_.power_cut(rng, faults_);
        bool epochs = false, ours = false, owned = done;
        for (const auto& [name, file] : volume_.names) {
            epochs = epochs || name.starts_with("epoch-");
            ours = ours || name.starts_with("meta") || name.starts_with("session") ||
                   name.starts_with("names");
        }
        if (done && (epochs || ours)) problem("erased, and something is left");
        // The rest of it happens to nobody.
        while (!done && executor.step()) continue;
        done = owned;
        core::Target::read_ownership(
            volume, [&](Result<core::Ownership> owner) { owned = owner.has_value(); });
        state = volume_.copy();
        while (executor.step()) continue;
        if (epochs && !owned) problem("points are left that nobody owns");
    }
    first_session_ = ++session_;
    disabling_ = operation_ = false;
    start_target();
    later(second / 10, [this] { start_source(); });
}

// Somebody with a certificate who has no business here.
void World::stranger() {
    if (!target_run_ || !target_run_->open || !network_.up) return;
    Rng& rng = executor_.rng;
    format::Hello hello;
    hello.protection = target_config().protection;
    hello.session = session_;
    for (const auto& disk : target_config().disks)
        hello.disks.push_back({disk.source_id, disk.size});
    std::uint64_t sequence = 0;
    std::vector<env::Frame> frames;
    switch (rng.below(7)) {
        case 0: hello.session = rng.below(target_run_->target->status().session); break;
        case 1: hello.protection.bytes[3] ^= std::byte{1}; break;
        case 2: hello.disks.pop_back(); break;
        case 3: hello.disks.front().size += sector_bytes; break;
        case 4: hello.version_min = hello.version_max = 9; break;
        case 5: sequence = 1 + rng.below(5); break;
        default: {
            env::Frame garbage(rng.below(300));
            for (auto& byte : garbage) byte = static_cast<std::byte>(rng.next());
            frames.push_back(std::move(garbage));
            frames.push_back(format::encode(format::PassEnd{1, 1, {}, 0, {}, {}, {}}, 0));
        }
    }
    if (frames.empty()) frames.push_back(format::encode(hello, sequence));
    frames.push_back(format::encode(format::EpochBegin{acknowledged_ + 1, {}, true}, sequence + 1));
    auto end = network_.connect();
    if (!end) return;
    hit("stranger");
    stranger_ = end;
    end->start(
        [this](const env::Frame& frame) {
            const auto header = format::frame_of(frame);
            if (!header || header->type == format::FrameType::refused ||
                header->type == format::FrameType::ping) {
                return;
            }
            problem("a stranger is answered");
        },
        [](const Error&) {});
    for (auto& frame : frames) end->send(std::move(frame));
}

}  // namespace ebb::sim
