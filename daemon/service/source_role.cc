// SPDX-License-Identifier: Apache-2.0
#include "service/source_role.h"

#include <sys/reboot.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "platform/file_store.h"
#include "service/command_args.h"
#include "service/image_export.h"
#include "service/source_disks.h"
#include "service/uuid_text.h"

namespace ebb::service {

namespace {

constexpr std::chrono::seconds shutdown_delay{2};  // for the result to reach the controller
constexpr Duration rate_interval = std::chrono::milliseconds(500);

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

}  // namespace

SourceRole::SourceRole(platform::EventLoop& loop, const Config& config, platform::TlsContext tls)
    : loop_(loop),
      config_(config),
      tls_(std::move(tls)),
      clock_(loop),
      worker_(std::make_unique<platform::Worker>(loop, 1, "ebb-export")) {}

SourceRole::~SourceRole() = default;

Result<std::unique_ptr<SourceRole>> SourceRole::start(
    platform::EventLoop& loop, const Config& config,
    std::shared_ptr<const platform::RevokedCertificates> revoked) {
    auto tls = platform::make_tls_context(config.identity(), platform::TlsSide::client, true,
                                          std::move(revoked));
    if (!tls) return std::unexpected(tls.error());
    std::unique_ptr<SourceRole> role(new SourceRole(loop, config, std::move(*tls)));
    if (auto ok = role->load(); !ok) return std::unexpected(ok.error());
    return role;
}

bool SourceRole::handles(const std::string& kind) const {
    return kind.starts_with("source.");
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
    } else if (kind == command::source_interval) {
        with_args<IntervalArgs>(command, done, [this](auto& a, auto d) {
            auto found = find(a.protection);
            if (!found) return d(std::unexpected(found.error()));
            (*found)->args.interval_ms = a.interval_ms;
            (*found)->source->set_interval(std::chrono::milliseconds(a.interval_ms));
            plain(std::move(d))(save());
        });
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
    if (existing != protections_.end() && existing->second.args.session == args.session)
        return done(api::Json::object());
    const auto go = [this, args](env::StatusCallback answer) {
        auto ok = begin(args);
        if (ok) ok = save();
        answer(std::move(ok));
    };
    if (existing == protections_.end()) return go(plain(std::move(done)));
    stop(args.protection, [go, done = std::move(done)](Status status) mutable {
        if (!status) return done(std::unexpected(status.error()));
        go(plain(std::move(done)));
    });
}

Status SourceRole::begin(const api::SourceProtectArgs& args) {
    const auto uuid = parse_uuid(args.protection);
    if (!uuid) return fail(ErrorCode::invalid, "the protection's id is no UUID");
    auto table = platform::BlockTable::load({});
    if (!table) return std::unexpected(table.error());
    auto disks = args.disks;
    std::ranges::sort(disks, {}, &api::SourceDiskChoice::index);
    std::vector<platform::TrackDisk> track;
    core::SourceConfig source;
    for (const auto& disk : disks) {
        const auto id = platform::normal_id(disk.stable_id);
        const auto found = std::ranges::find_if(table->devices(), [&](const auto& item) {
            return item.second.physical && platform::normal_id(item.second.wwid) == id;
        });
        if (found == table->devices().end())
            return fail("E_DISK_NOT_FOUND", ErrorCode::not_found, "there is no disk " + id);
        if (found->second.size != disk.size) {
            return fail("E_DISK_RESIZED", ErrorCode::refused,
                        id + " has " + std::to_string(found->second.size) + " bytes, not " +
                            std::to_string(disk.size),
                        "Protect the machine anew");
        }
        track.push_back({id, table->node(found->second), disk.size});
        source.disks.push_back({id, disk.size});
    }
    source.protection = *uuid;
    source.session = args.session;
    source.full = args.full;
    source.interval = std::chrono::milliseconds(args.interval_ms);

    Protection protection;
    protection.args = args;
    const auto group = static_cast<std::uint32_t>(std::hash<std::string>{}(args.protection) | 1);
    auto tracker = platform::NetlinkTracker::open(loop_, group, track);
    if (!tracker) return std::unexpected(tracker.error());
    protection.tracker = std::move(*tracker);
    protection.connector = std::make_unique<platform::TlsConnector>(
        loop_, tls_, args.target.host, args.target.port, args.target.name);
    protection.source = std::make_unique<core::Source>(source, *protection.tracker,
                                                       *protection.connector, clock_, random_);
    protection.source->start();
    protection.asked_before = clock_.now();
    protections_.insert_or_assign(args.protection, std::move(protection));
    return {};
}

void SourceRole::checkpoint(const api::CheckpointArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    auto& protection = **found;
    core::CheckpointRequest request;
    request.name = args.name;
    if (!args.export_.empty()) {
        std::vector<core::SourceDisk> disks;
        for (const auto& disk : protection.args.disks) disks.push_back({disk.stable_id, disk.size});
        request.whole = true;
        request.on_image = [this, tracker = protection.tracker.get(), args, disks](
                               core::CheckpointRequest::Image image, env::StatusCallback finished) {
            auto job = std::make_shared<ImageExport>(*tracker, *worker_, args.export_,
                                                     args.protection, disks);
            job->start(image, std::move(finished));
        };
    }
    protection.source->checkpoint(
        std::move(request),
        [done = std::move(done)](Result<core::CheckpointResult> result) mutable {
            if (!result) return done(std::unexpected(result.error()));
            done(api::Json{{"epoch", result->epoch}, {"cut_time_ns", result->cut_time.ns}});
        });
}

void SourceRole::stop(const std::string& id, env::StatusCallback done) {
    const auto found = protections_.find(id);
    if (found == protections_.end()) return done({});
    auto ended = std::make_shared<Protection>(std::move(found->second));
    protections_.erase(found);
    auto saved = save();
    ended->source->stop([this, ended, saved, done = std::move(done)](Status) mutable {
        ended->tracker->detach([this, ended, saved, done = std::move(done)](Status gone) mutable {
            done(saved ? std::move(gone) : std::move(saved));
            // Not from inside its own callback.
            loop_.post([ended] { ended->source.reset(); });
        });
    });
}

void SourceRole::fence(const api::FenceArgs& args, env::Callback<api::Json> done) {
    auto& session = fenced_[args.protection];
    session = std::max(session, args.session);
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

Result<SourceRole::Protection*> SourceRole::find(const std::string& id) {
    const auto found = protections_.find(id);
    if (found == protections_.end())
        return fail(ErrorCode::not_found, "this machine has no protection " + id);
    return &found->second;
}

Status SourceRole::save() const {
    api::Json list = api::Json::array();
    for (const auto& [id, protection] : protections_) {
        auto args = protection.args;
        args.full = false;  // a gap is found by the module's incarnation
        list.push_back(api::encode(args));
    }
    if (auto ok = platform::make_directories(config_.state); !ok) return ok;
    return platform::replace_file(config_.state + "/source.json",
                                  api::dump({{"protections", list}, {"fenced", fenced_}}) + "\n",
                                  platform::private_mode);
}

Status SourceRole::load() {
    auto text = platform::read_file(config_.state + "/source.json");
    if (!text && text.error().code == ErrorCode::not_found) return {};
    if (!text) return std::unexpected(text.error());
    auto json = api::parse(*text);
    if (!json) return std::unexpected(json.error());
    fenced_ = json->value("fenced", std::map<std::string, std::uint64_t>{});
    for (const auto& item : json->value("protections", api::Json::array())) {
        auto args = api::decode_args<api::SourceProtectArgs>(item);
        if (!args) return std::unexpected(args.error());
        if (auto ok = begin(*args); !ok)
            std::cerr << "ebbd: protection " << args->protection << ": " << ok.error().message
                      << "\n";
    }
    return {};
}

void SourceRole::drop_connections() {
    for (auto& [id, protection] : protections_) protection.connector->drop();
}

void SourceRole::fill(api::ExchangeRequest& request) {
    request.roles.push_back(api::Role::source);
    api::SourceStatus status;
    status.module = module_status();
    if (auto table = platform::BlockTable::load({})) status.disks = list_source_disks(*table);
    for (auto& [id, protection] : protections_)
        status.protections.push_back(describe_one(protection));
    for (const auto& [id, session] : fenced_) {
        if (protections_.contains(id)) continue;
        api::SourceProtection fenced;
        fenced.id = id;
        fenced.state = api::SourceState::fenced;
        status.protections.push_back(std::move(fenced));
    }
    request.source = std::move(status);
}

api::SourceProtection SourceRole::describe_one(Protection& protection) {
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
    p.open_epoch = core.open_epoch;
    p.closed_epoch = core.closed_epoch;
    p.last_cut_ns = core.last_cut.ns;
    p.cuts_begun = core.cuts_begun;
    p.cuts_closed = core.cuts_closed;
    p.cuts_void = core.cuts_void;
    p.held = core.held;
    p.held_max_ns = static_cast<std::uint64_t>(core.held_max.count());
    p.preserved = core.preserved;
    p.resync_required = core.resync_reasons;
    if (core.notice) p.error = api::to_info(*core.notice);
    if (core.has_error) p.error = api::to_info(core.error);
    return p;
}

}  // namespace ebb::service
