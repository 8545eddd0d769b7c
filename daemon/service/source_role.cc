// SPDX-License-Identifier: Apache-2.0
#include "service/source_role.h"

#include <sys/reboot.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>

#include "base/uuid_text.h"
#include "platform/file_store.h"
#include "platform/netlink_tracker.h"
#include "platform/write_gate.h"
#include "service/command_args.h"
#include "service/image_export.h"
#include "service/source_disks.h"
#include "service/source_maps.h"

namespace ebb::service {

namespace {

constexpr std::chrono::seconds shutdown_delay{2};  // for the result to reach the controller
constexpr Duration rate_interval = std::chrono::milliseconds(500);
constexpr Duration application_look = std::chrono::seconds(1);
constexpr Duration application_retry = std::chrono::minutes(10);

api::SourceState to_api(core::SourceState state) {
    switch (state) {
        case core::SourceState::stopped: return api::SourceState::stopped;
        case core::SourceState::connecting: return api::SourceState::connecting;
        case core::SourceState::initial_sync: return api::SourceState::initial_sync;
        case core::SourceState::replicating: return api::SourceState::replicating;
        case core::SourceState::fenced: return api::SourceState::fenced;
        case core::SourceState::error: return api::SourceState::error;
    }
    return api::SourceState::error;
}

api::ReplicaValue to_api(const core::VerifyResult& result, const std::vector<std::string>& ids) {
    static constexpr api::DifferenceKind kinds[] = {
        api::DifferenceKind::differs, api::DifferenceKind::persists,
        api::DifferenceKind::unreadable, api::DifferenceKind::unreadable_there,
        api::DifferenceKind::unsettled};
    api::ReplicaValue value;
    value.first_epoch = result.first_epoch;
    value.last_epoch = result.last_epoch;
    value.cut_time_ns = result.cut_time.ns;
    value.equal_bytes = result.equal_bytes;
    value.discarded_bytes = result.discarded_bytes;
    value.repaired_bytes = result.repaired_bytes;
    value.different_bytes = result.different_bytes;
    for (const auto& difference : result.differences) {
        value.differences.push_back({kinds[static_cast<std::size_t>(difference.kind)],
                                     difference.disk, ids.at(difference.disk), difference.offset,
                                     difference.length});
    }
    return value;
}

api::Pace to_api(core::Pace pace) {
    switch (pace) {
        case core::Pace::kept: return api::Pace::kept;
        case core::Pace::on_demand: return api::Pace::on_demand;
        case core::Pace::disconnected: return api::Pace::disconnected;
        case core::Pace::target_waits: return api::Pace::target_waits;
        case core::Pace::quiescing: return api::Pace::quiescing;
        case core::Pace::voids: return api::Pace::voids;
        case core::Pace::link: return api::Pace::link;
    }
    return api::Pace::kept;
}

api::CheckpointValue to_value(const core::CheckpointResult& result) {
    api::CheckpointValue value;
    value.epoch = result.epoch;
    value.cut_time_ns = result.cut_time.ns;
    if (result.kind == format::PointKind::application) value.kind = api::PointKind::app;
    if (result.degraded) value.degraded = api::to_info(*result.degraded);
    if (result.alone) value.alone = api::to_info(*result.alone);
    value.gate_ns = static_cast<std::uint64_t>(result.gate.closed.count());
    value.gate_held = result.gate.held;
    return value;
}

std::uint64_t milliseconds_of(Duration duration) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

ApplicationSettings application_settings(const SourceSettings& settings) {
    return {settings.app_scripts, std::chrono::seconds(settings.app_script_seconds),
            std::chrono::seconds(settings.app_freeze_seconds)};
}

std::uint32_t group_of(const std::string& protection) {
    return static_cast<std::uint32_t>(std::hash<std::string>{}(protection) | 1);
}

// Finds the disks by their ids.
Result<std::vector<platform::TrackDisk>> find_disks(const platform::BlockTable& table,
                                                    std::vector<api::SourceDiskChoice> disks) {
    std::ranges::sort(disks, {}, &api::SourceDiskChoice::index);
    std::vector<platform::TrackDisk> track;
    for (const auto& disk : disks) {
        const auto id = platform::normal_id(disk.stable_id);
        const auto found = std::ranges::find_if(table.devices(), [&](const auto& item) {
            return item.second.physical && platform::normal_id(item.second.wwid) == id;
        });
        if (found == table.devices().end()) {
            return fail("E_DISK_NOT_FOUND", ErrorCode::not_found, "there is no disk " + id,
                        "Attach it: replication goes on by itself");
        }
        if (auto path = check_no_path(table, found->second); !path)
            return std::unexpected(path.error());
        if (found->second.size != disk.size) {
            return fail("E_DISK_RESIZED", ErrorCode::refused,
                        id + " has " + std::to_string(found->second.size) + " bytes, not " +
                            std::to_string(disk.size),
                        "Protect the machine anew");
        }
        track.push_back({id, table.node(found->second), disk.size, {}, {}});
    }
    return track;
}

}  // namespace

SourceSurroundings::SourceSurroundings()
    : attach([](platform::EventLoop& loop, std::uint32_t group,
                const std::vector<platform::TrackDisk>& disks,
                const std::shared_ptr<platform::RestartRecord>& restarts)
                 -> Result<std::unique_ptr<platform::DiskTracker>> {
          auto tracker = platform::NetlinkTracker::open(loop, group, disks, restarts);
          if (!tracker) return std::unexpected(tracker.error());
          return std::move(*tracker);
      }),
      detach_group(platform::NetlinkTracker::detach_group) {}

SourceRole::SourceRole(platform::EventLoop& loop, const Config& config, platform::TlsContext tls,
                       SourceSurroundings surroundings)
    : loop_(loop),
      config_(config),
      tls_(std::move(tls)),
      clock_(loop),
      cpus_(loop),
      surroundings_(std::move(surroundings)),
      exporter_(std::make_unique<platform::Worker>(loop, 1, "ebb-export")),
      attacher_(std::make_unique<platform::Worker>(loop, 1, "ebb-attach")),
      looker_(std::make_unique<platform::Worker>(loop, 1, "ebb-look")),
      applications_(std::make_unique<ApplicationPoints>(loop, application_settings(config.source),
                                                        surroundings_.applications)) {}

SourceRole::~SourceRole() = default;

Result<std::unique_ptr<SourceRole>> SourceRole::start(
    platform::EventLoop& loop, const Config& config,
    std::shared_ptr<const platform::RevokedCertificates> revoked, SourceSurroundings surroundings) {
    auto tls = platform::make_tls_context(config.identity(), platform::TlsSide::client, true,
                                          std::move(revoked));
    if (!tls) return std::unexpected(tls.error());
    // Also when the module is not there: this boot is one that it does not know.
    auto restarts = platform::RestartRecord::open(config.state + "/restarts", config.source.dumps);
    if (!restarts) return std::unexpected(restarts.error());
    std::unique_ptr<SourceRole> role(
        new SourceRole(loop, config, std::move(*tls), std::move(surroundings)));
    role->restarts_ = std::move(*restarts);
    if (auto ok = role->load(); !ok) return std::unexpected(ok.error());
    role->applications_->recover();
    role->look();
    for (const auto& [id, protection] : role->protections_) role->begin(protection, [](Status) {});
    role->retry_later();
    role->make_application_points();
    return role;
}

bool SourceRole::handles(const std::string& kind) const {
    return kind.starts_with("source.");
}

// A cut is led while writes are held.
bool SourceRole::writes(const std::string& kind) const {
    return kind != api::command::source_cut;
}

void SourceRole::run(const api::Command& command, env::Callback<api::Json> done) {
    using namespace api;
    const auto& kind = command.kind;
    if (kind == command::source_protect) {
        with_args<SourceProtectArgs>(command, done,
                                     [this](auto& a, auto d) { protect(a, std::move(d)); });
    } else if (kind == command::source_checkpoint) {
        with_args<CheckpointArgs>(command, done,
                                  [this](auto& a, auto d) { checkpoint(a, std::move(d)); });
    } else if (kind == command::source_cut) {
        with_args<CutArgs>(command, done, [this](auto& a, auto d) { cut(a, std::move(d)); });
    } else if (kind == command::source_interval) {
        with_args<IntervalArgs>(command, done,
                                [this](auto& a, auto d) { interval(a, std::move(d)); });
    } else if (kind == command::source_verify) {
        with_args<VerifyArgs>(command, done, [this](auto& a, auto d) { verify(a, std::move(d)); });
    } else if (kind == command::source_stop) {
        with_args<ProtectionArgs>(
            command, done, [this](auto& a, auto d) { stop(a.protection, plain(std::move(d))); });
    } else if (kind == command::source_fence) {
        with_args<FenceArgs>(command, done, [this](auto& a, auto d) { fence(a, std::move(d)); });
    } else if (kind == command::source_shutdown) {
        shutdown(std::move(done));
    } else {
        done(fail(ErrorCode::unsupported, "a source does not know " + kind));
    }
}

void SourceRole::protect(const api::SourceProtectArgs& args, env::Callback<api::Json> done) {
    const auto fenced = fenced_.find(args.protection);
    if (fenced != fenced_.end() && args.session <= fenced->second)
        return done(fail(ErrorCode::fenced, "this machine was failed over from"));
    const auto existing = protections_.find(args.protection);
    const bool known = existing != protections_.end();
    if (known && existing->second->stage == Stage::beginning) {
        existing->second->waiting.push_back([this, args, done = std::move(done)](Status) mutable {
            protect(args, std::move(done));
        });
        return;
    }
    if (known && existing->second->stage == Stage::running &&
        existing->second->args.session == args.session)
        return done(api::Json::object());
    auto protection = std::make_shared<Protection>();
    protection->args = args;
    protection->known = known;
    const auto before = known ? existing->second : nullptr;
    protections_[args.protection] = protection;
    const auto go = [this, protection](env::StatusCallback answer) {
        begin(protection, [this, protection, answer = std::move(answer)](Status status) mutable {
            if (!status && !protection->known) protections_.erase(protection->args.protection);
            if (status) protection->known = true;
            auto saved = save();
            answer(status ? std::move(saved) : std::move(status));
        });
    };
    if (!before) return go(plain(std::move(done)));
    // Nobody else begins it meanwhile.
    protection->stage = Stage::ending;
    end(before, [protection, go, done = std::move(done)](Status status) mutable {
        protection->stage = Stage::resting;
        if (!status) return done(std::unexpected(status.error()));
        go(plain(std::move(done)));
    });
}

void SourceRole::begin(const Shared& protection, env::StatusCallback done) {
    if (protection->stage == Stage::running) return done({});
    if (protection->stage == Stage::ending)
        return done(fail(ErrorCode::busy, "replication is being ended"));
    protection->waiting.push_back(std::move(done));
    if (protection->stage == Stage::beginning) return;
    protection->stage = Stage::beginning;
    using Tracker = std::unique_ptr<platform::DiskTracker>;
    attacher_->submit<Tracker>(
        [this, disks = protection->args.disks,
         group = group_of(protection->args.protection)]() -> Result<Tracker> {
            auto table = platform::BlockTable::load(surroundings_.paths);
            if (!table) return std::unexpected(table.error());
            auto track = find_disks(*table, disks);
            if (!track) return std::unexpected(track.error());
            if (auto ok =
                    give_maps(config_.source, surroundings_.map_config, *table, group, *track);
                !ok)
                return std::unexpected(ok.error());
            return surroundings_.attach(loop_, group, *track, restarts_);
        },
        [this, protection](Result<Tracker> tracker) {
            if (!tracker) return begun(protection, std::unexpected(tracker.error()));
            run_source(protection, std::move(*tracker));
        });
}

void SourceRole::run_source(const Shared& protection,
                            std::unique_ptr<platform::DiskTracker> tracker) {
    const auto& args = protection->args;
    const auto uuid = parse_uuid(args.protection);
    if (!uuid) return begun(protection, fail(ErrorCode::invalid, "the protection's id is no UUID"));
    core::SourceConfig source;
    auto disks = args.disks;
    std::ranges::sort(disks, {}, &api::SourceDiskChoice::index);
    for (const auto& disk : disks)
        source.disks.push_back({platform::normal_id(disk.stable_id), disk.size});
    source.protection = *uuid;
    source.session = args.session;
    source.full = args.full;
    source.compare = args.compare;
    source.interval = std::chrono::milliseconds(args.interval_ms);
    protection->tracker = std::move(tracker);
    // Devices may have come while it was attached.
    witnessed_.reset();
    protection->connector = std::make_unique<platform::TlsConnector>(
        loop_, tls_, args.target.host, args.target.port, args.target.name);
    protection->source = std::make_unique<core::Source>(
        source, *protection->tracker, *protection->connector, clock_, random_, cpus_);
    protection->source->start();
    protection->asked_before = clock_.now();
    begun(protection, {});
}

void SourceRole::begun(const Shared& protection, const Status& status) {
    if (!status && (!protection->error || protection->error->message != status.error().message)) {
        std::cerr << "ebbd: protection " << protection->args.protection << ": "
                  << status.error().name() << ": " << status.error().message << "\n";
    }
    protection->stage = status ? Stage::running : Stage::resting;
    protection->error.reset();
    if (!status) protection->error = status.error();
    for (auto& done : std::exchange(protection->waiting, {})) done(status);
}

// The module or a disk may come late.
void SourceRole::retry_later() {
    clock_.schedule(surroundings_.retry, [this] {
        // What begins is written down.
        if (platform::WriteGate::of_this_process().closed()) return retry_later();
        for (const auto& [id, protection] : std::map(protections_)) {
            if (protection->stage == Stage::resting) begin(protection, [](Status) {});
        }
        retry_later();
    });
}

void SourceRole::interval(const api::IntervalArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    auto& protection = **found;
    protection.args.interval_ms = args.interval_ms;
    if (args.app_interval_ms) protection.args.app_interval_ms = *args.app_interval_ms;
    if (protection.source)
        protection.source->set_interval(std::chrono::milliseconds(args.interval_ms));
    plain(std::move(done))(save());
}

void SourceRole::checkpoint(const api::CheckpointArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    auto& protection = **found;
    if (!protection.source) {
        if (protection.error) return done(std::unexpected(*protection.error));
        return done(fail(ErrorCode::busy, "replication has not begun yet"));
    }
    if (args.common && protection.rendezvous)
        return done(
            fail(ErrorCode::busy, "another common cut goes on", "Try again when it is over"));
    core::CheckpointRequest request;
    request.name = args.name;
    if (auto ok = prepare_export(args, protection, request); !ok)
        return done(std::unexpected(ok.error()));
    if (args.app && applications_->busy())
        return done(std::unexpected(ApplicationPoints::is_busy()));
    if (args.common) done = meet(*args.common, *found, request, std::move(done));
    if (args.app) return application_point(args, *found, std::move(request), std::move(done));
    crash_point(*found, std::move(request), std::move(done));
}

void SourceRole::crash_point(const Shared& protection, core::CheckpointRequest request,
                             env::Callback<api::Json> done) {
    protection->source->checkpoint(
        std::move(request),
        [done = std::move(done)](Result<core::CheckpointResult> result) mutable {
            if (!result) return done(std::unexpected(result.error()));
            done(api::encode(to_value(*result)));
        });
}

void SourceRole::application_point(const api::CheckpointArgs& args, const Shared& protection,
                                   core::CheckpointRequest request, env::Callback<api::Json> done) {
    ApplicationPoints::Request wanted{args.protection, args.name, {}, {}};
    for (const auto& disk : protection->args.disks) wanted.disks.insert(disk.stable_id);
    if (args.common) {
        wanted.meet = [rendezvous = protection->rendezvous](env::StatusCallback go) {
            rendezvous->prepared(std::move(go));
        };
    }
    auto quiesce = applications_->begin(wanted);
    if (!quiesce) return done(std::unexpected(quiesce.error()));
    request.quiesce = std::move(*quiesce);
    protection->app.running = true;
    protection->source->checkpoint(
        std::move(request), [this, id = args.protection, done = std::move(done)](
                                Result<core::CheckpointResult> result) mutable {
            applications_->end([this, id, result = std::move(result), done = std::move(done)](
                                   Result<ApplicationPoints::Outcome> outcome) mutable {
                if (result) return checkpointed(id, *result, *outcome, std::move(done));
                application_failed(id, result.error());
                done(std::unexpected(result.error()));
            });
        });
}

void SourceRole::verify(const api::VerifyArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    auto& protection = **found;
    if (!protection.source) {
        if (protection.error) return done(std::unexpected(*protection.error));
        return done(fail(ErrorCode::busy, "replication has not begun yet"));
    }
    if (protection.verify && protection.verify->run == args.run) return done(api::Json::object());
    if (protection.source->status().verify.running)
        return done(fail(ErrorCode::busy, "another verification goes on"));
    protection.verify = api::VerifyStatus{args.run, 0, 0, {}, {}};
    const auto mib = args.mib_per_s != 0 ? args.mib_per_s : config_.source.verify_mib_per_s;
    protection.source->verify({.repair = args.repair, .bytes_per_s = mib << 20},
                              [shared = *found](Result<core::VerifyResult> result) {
                                  std::vector<std::string> ids;
                                  for (const auto& disk : shared->args.disks)
                                      ids.push_back(platform::normal_id(disk.stable_id));
                                  if (!result) {
                                      shared->verify->error = api::to_info(result.error());
                                  } else {
                                      shared->verify->result = to_api(*result, ids);
                                  }
                              });
    done(api::Json::object());
}

Status SourceRole::prepare_export(const api::CheckpointArgs& args, Protection& protection,
                                  core::CheckpointRequest& request) {
    if (args.export_.empty()) return {};
    std::vector<core::SourceDisk> disks;
    std::set<std::string> tracked;
    for (const auto& disk : protection.args.disks) {
        disks.push_back({disk.stable_id, disk.size});
        tracked.insert(platform::normal_id(disk.stable_id));
    }
    auto table = platform::BlockTable::load({});
    if (!table) return std::unexpected(table.error());
    if (auto ok = check_export_folder(*table, args.export_, tracked); !ok) return ok;
    request.whole = true;
    request.on_image = [this, tracker = protection.tracker.get(), args, disks](
                           core::CheckpointRequest::Image image, env::StatusCallback finished) {
        auto job = std::make_shared<ImageExport>(*tracker, *exporter_, args.export_,
                                                 args.protection, disks);
        job->start(image, std::move(finished));
    };
    return {};
}

void SourceRole::checkpointed(const std::string& id, const core::CheckpointResult& result,
                              const ApplicationPoints::Outcome& outcome,
                              env::Callback<api::Json> done) {
    auto value = to_value(result);
    value.flushed = outcome.flushed;
    if (!outcome.post) value.post = api::to_info(outcome.post.error());
    if (const auto wrong = value.degraded ? value.degraded : value.post)
        application_failed(id, api::from_info(*wrong));
    const auto found = protections_.find(id);
    if (found != protections_.end()) {
        auto& app = found->second->app;
        app.running = false;
        app.flushed = outcome.flushed;
        if (!value.degraded) app.last_ns = result.cut_time.ns;
        if (!value.degraded && !value.post) app.error.reset();
        if (auto saved = save(); !saved) std::cerr << "ebbd: " << saved.error().message << "\n";
    }
    done(api::encode(value));
}

void SourceRole::application_failed(const std::string& id, const Error& error) {
    std::cerr << "ebbd: protection " << id << ": no application-consistent point: " << error.name()
              << ": " << error.message << "\n";
    const auto found = protections_.find(id);
    if (found == protections_.end()) return;
    auto& protection = *found->second;
    protection.app.running = false;
    protection.app.error = api::to_info(error);
    const Duration interval = std::chrono::milliseconds(protection.args.app_interval_ms);
    protection.app_not_before = clock_.now() + std::min(interval, application_retry);
}

bool SourceRole::application_point_due(const Protection& protection) const {
    if (!protection.source || protection.args.app_interval_ms == 0 || applications_->busy() ||
        clock_.now() < protection.app_not_before)
        return false;
    if (protection.source->status().state != core::SourceState::replicating) return false;
    const auto since = clock_.wall().ns - protection.app.last_ns;
    const auto interval = static_cast<std::int64_t>(protection.args.app_interval_ms) * 1'000'000;
    // A clock that was set back does not put it off.
    return protection.app.last_ns == 0 || since >= interval || since < 0;
}

void SourceRole::make_application_points() {
    clock_.schedule(application_look, [this] { make_application_points(); });
    for (const auto& [id, protection] : std::map(protections_)) {
        if (protection->stage != Stage::running || !application_point_due(*protection)) continue;
        api::CheckpointArgs args;
        args.protection = id;
        args.app = true;
        checkpoint(args, [](const Result<api::Json>&) {});
    }
}

void SourceRole::stop(const std::string& id, env::StatusCallback done) {
    const auto found = protections_.find(id);
    if (found == protections_.end()) return done({});
    const Shared protection = found->second;
    if (protection->stage == Stage::ending)
        return done(fail(ErrorCode::busy, "replication is being ended"));
    if (protection->stage == Stage::beginning) {
        protection->waiting.push_back(
            [this, id, done = std::move(done)](Status) mutable { stop(id, std::move(done)); });
        return;
    }
    protections_.erase(found);
    auto saved = save();
    end(protection, [saved, done = std::move(done)](Status gone) mutable {
        done(saved ? std::move(gone) : std::move(saved));
    });
}

void SourceRole::end(const Shared& protection, env::StatusCallback done) {
    const bool rested = !protection->source;
    protection->stage = Stage::ending;
    if (rested) {
        // An earlier run may have left some of its disks attached.
        attacher_->submit<void>(
            [this, group = group_of(protection->args.protection)]() -> Status {
                auto gone = surroundings_.detach_group(group);
                // Without the module there is nothing attached.
                if (!gone && gone.error().code != ErrorCode::not_found) return gone;
                return take_maps(config_.source, surroundings_.map_config, group);
            },
            std::move(done));
        return;
    }
    leave(*protection, {ErrorCode::cancelled, "replication is being ended", {}, {}});
    protection->source->stop([this, protection, done = std::move(done)](Status) mutable {
        protection->tracker->detach(
            [this, protection, done = std::move(done)](Status gone) mutable {
                const auto group = group_of(protection->args.protection);
                auto taken = take_maps(config_.source, surroundings_.map_config, group);
                done(gone ? std::move(taken) : std::move(gone));
                // Not from inside its own callback.
                loop_.post([protection] { protection->source.reset(); });
            });
    });
}

void SourceRole::fence(const api::FenceArgs& args, env::Callback<api::Json> done) {
    auto& session = fenced_[args.protection];
    session = std::max(session, args.session);
    // The fence first: it holds whatever becomes of the rest.
    if (auto saved = save(); !saved) return done(std::unexpected(saved.error()));
    stop(args.protection, plain(std::move(done)));
}

void SourceRole::shutdown(env::Callback<api::Json> done) {
    done(api::Json::object());
    clock_.schedule(shutdown_delay, [] {
        std::error_code error;
        if (std::filesystem::exists("/run/systemd/system", error)) {
            const char* const argv[] = {"systemctl", "poweroff", nullptr};
            ::execvp(argv[0], const_cast<char* const*>(argv));
        }
        ::sync();
        ::reboot(RB_POWER_OFF);
    });
}

Result<SourceRole::Shared> SourceRole::find(const std::string& id) {
    const auto found = protections_.find(id);
    if (found == protections_.end())
        return fail(ErrorCode::not_found, "this machine has no protection " + id);
    return found->second;
}

Status SourceRole::save() const {
    api::Json list = api::Json::array();
    std::map<std::string, std::int64_t> app;
    for (const auto& [id, protection] : protections_) {
        if (!protection->known) continue;
        if (protection->app.last_ns != 0) app[id] = protection->app.last_ns;
        auto args = protection->args;
        args.full = args.compare = false;  // a gap is found by the module's incarnation
        list.push_back(api::encode(args));
    }
    if (auto ok = platform::make_directories(config_.state); !ok) return ok;
    return platform::replace_file(
        config_.state + "/source.json",
        api::dump({{"protections", list}, {"fenced", fenced_}, {"application_points", app}}) + "\n",
        platform::private_mode);
}

Status SourceRole::load() {
    auto text = platform::read_file(config_.state + "/source.json");
    if (!text && text.error().code == ErrorCode::not_found) return {};
    if (!text) return std::unexpected(text.error());
    auto json = api::parse(*text);
    if (!json) return std::unexpected(json.error());
    fenced_ = json->value("fenced", std::map<std::string, std::uint64_t>{});
    const auto app = json->value("application_points", std::map<std::string, std::int64_t>{});
    for (const auto& item : json->value("protections", api::Json::array())) {
        auto args = api::decode_args<api::SourceProtectArgs>(item);
        if (!args) return std::unexpected(args.error());
        const auto fenced = fenced_.find(args->protection);
        if (fenced != fenced_.end() && args->session <= fenced->second) continue;
        auto protection = std::make_shared<Protection>();
        protection->args = *args;
        protection->known = true;
        if (const auto cut = app.find(args->protection); cut != app.end())
            protection->app.last_ns = cut->second;
        protections_[args->protection] = std::move(protection);
    }
    return {};
}

// What the machine has; asked again for each status.
void SourceRole::look() {
    if (looking_) return;
    looking_ = true;
    // A volume may be made, moved, or got another table, of which nobody tells.
    const bool choose = !config_.source.map.empty() &&
                        (!witnessed_ || clock_.now() - *witnessed_ >= surroundings_.choose_again);
    if (choose) witnessed_ = clock_.now();
    looker_->submit<Inventory>(
        [this, choose]() -> Result<Inventory> {
            Inventory found;
            found.module = module_status();
            if (auto table = platform::BlockTable::load(surroundings_.paths)) {
                found.disks = list_source_disks(*table);
                if (choose) found.witnesses = all_witnesses(*table);
            }
            found.warnings = look_at_initramfs();
            return found;
        },
        [this](Result<Inventory> found) {
            looking_ = false;
            if (!found) return;
            for (const auto& [id, protection] : protections_) {
                if (found->witnesses && protection->tracker)
                    protection->tracker->set_witnesses(*found->witnesses);
            }
            inventory_ = std::move(*found);
        });
}

// Any thread.
std::vector<api::ErrorInfo> SourceRole::look_at_initramfs() const {
    const auto wanted = platform::load_map_config(surroundings_.map_config);
    if (config_.source.map.empty() || !wanted) return {};
    std::string kernels;
    for (const auto& release : platform::outdated_initramfs(*wanted, surroundings_.initramfs))
        kernels += (kernels.empty() ? "" : ", ") + release;
    if (kernels.empty()) return {};
    return {{"E_INITRAMFS_OLD",
             "the initramfs of " + config_.name + " does not attach all protected disks (" +
                 kernels + "): after a restart they would be gone over as a whole",
             "Make it anew there: update-initramfs -u -k all, or dracut --force --regenerate-all"}};
}

void SourceRole::drop_connections() {
    for (const auto& [id, protection] : protections_) {
        if (protection->connector) protection->connector->drop();
    }
}

bool SourceRole::fill(api::ExchangeRequest& request) {
    if (!inventory_) return false;
    request.roles.push_back(api::Role::source);
    api::SourceStatus status;
    status.clock_ns = clock_.wall().ns;
    status.module = inventory_->module;
    status.disks = inventory_->disks;
    status.warnings = inventory_->warnings;
    for (const auto& [id, protection] : protections_)
        status.protections.push_back(describe_one(*protection));
    for (const auto& [id, session] : fenced_) {
        if (protections_.contains(id)) continue;
        api::SourceProtection fenced;
        fenced.id = id;
        fenced.state = api::SourceState::fenced;
        status.protections.push_back(std::move(fenced));
    }
    request.source = std::move(status);
    look();
    return true;
}

api::SourceProtection SourceRole::describe_resting(const Protection& protection) {
    api::SourceProtection p;
    p.id = protection.args.protection;
    p.state = protection.error ? api::SourceState::error : api::SourceState::connecting;
    if (protection.error) p.error = api::to_info(*protection.error);
    return p;
}

api::SourceProtection SourceRole::describe_one(Protection& protection) {
    if (!protection.source) return describe_resting(protection);
    const auto core = protection.source->status();
    const auto now = clock_.now();
    const Duration since = now - protection.asked_before;
    if (since >= rate_interval) {
        protection.rate = static_cast<std::uint64_t>(
            static_cast<double>(core.bytes_acknowledged - protection.bytes_before) * 1e9 /
            static_cast<double>(since.count()));
        protection.bytes_before = core.bytes_acknowledged;
        protection.asked_before = now;
    }
    api::SourceProtection p;
    p.id = protection.args.protection;
    p.state = to_api(core.state);
    if (core.pass_open) {
        p.pass =
            core.pass_kind == env::PassKind::live ? api::PassName::live : api::PassName::frozen;
    }
    p.bytes_total = core.pass_bytes_total;
    p.bytes_done = core.pass_bytes_done;
    p.rate_bytes_per_s = protection.rate;
    p.compared_bytes = core.compared_bytes;
    p.same_bytes = core.same_bytes;
    p.open_epoch = core.open_epoch;
    p.closed_epoch = core.closed_epoch;
    p.last_cut_ns = core.last_cut.ns;
    p.cuts_begun = core.cuts_begun;
    p.cuts_closed = core.cuts_closed;
    p.cuts_void = core.cuts_void;
    p.held = core.held;
    p.verify = protection.verify;
    if (p.verify && core.verify.running) {
        p.verify->total = core.verify.bytes_total;
        p.verify->done = core.verify.bytes_done;
    }
    p.held_max_ns = static_cast<std::uint64_t>(core.held_max.count());
    p.preserved = core.preserved;
    p.resync_required = core.resync_reasons;
    p.interval_ms = milliseconds_of(core.interval);
    p.effective_interval_ms = milliseconds_of(core.effective_interval);
    p.pace = to_api(core.pace);
    p.epoch_ms = milliseconds_of(core.epoch_time);
    p.epoch_bytes = core.epoch_bytes;
    p.app = protection.app;
    p.app.interval_ms = protection.args.app_interval_ms;
    if (core.notice) p.error = api::to_info(*core.notice);
    if (core.has_error) p.error = api::to_info(core.error);
    return p;
}

}  // namespace ebb::service
