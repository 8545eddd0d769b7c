// SPDX-License-Identifier: Apache-2.0
#include "service/target_role.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

#include "format/message.h"
#include "platform/file_store.h"
#include "service/command_args.h"
#include "service/uuid_text.h"

namespace ebb::service {

namespace {

api::Point to_api(const core::Point& point) {
    api::Point p;
    p.epoch = point.epoch;
    p.name = point.name;
    p.cut_time_ns = point.cut_time.ns;
    p.closed_time_ns = point.closed_time.ns;
    p.bytes = point.undo_bytes;
    return p;
}

api::TargetState to_api(core::TargetState state) {
    switch (state) {
        case core::TargetState::closed:
        case core::TargetState::waiting: return api::TargetState::waiting;
        case core::TargetState::receiving: return api::TargetState::receiving;
        case core::TargetState::failed_over: return api::TargetState::failed_over;
        case core::TargetState::no_space: return api::TargetState::no_space;
        case core::TargetState::error: return api::TargetState::error;
    }
    return api::TargetState::error;
}

Status write_text(const std::filesystem::path& file, const std::string& text) {
    std::ofstream out(file);
    out << text << std::flush;
    if (out) return {};
    return fail(ErrorCode::io, "cannot write to " + file.string());
}

}  // namespace

TargetRole::TargetRole(platform::EventLoop& loop, const Config& config)
    : loop_(loop), config_(config), clock_(loop) {}

TargetRole::~TargetRole() = default;

Result<std::unique_ptr<TargetRole>> TargetRole::start(
    platform::EventLoop& loop, const Config& config,
    std::shared_ptr<const platform::RevokedCertificates> revoked) {
    std::unique_ptr<TargetRole> role(new TargetRole(loop, config));
    if (auto ok = role->load(); !ok) return std::unexpected(ok.error());
    if (auto ok = role->listen(std::move(revoked)); !ok) return std::unexpected(ok.error());
    return role;
}

Status TargetRole::listen(std::shared_ptr<const platform::RevokedCertificates> revoked) {
    auto tls = platform::make_tls_context(config_.identity(), platform::TlsSide::server, true,
                                          std::move(revoked));
    if (!tls) return std::unexpected(tls.error());
    auto acceptor = platform::TlsAcceptor::open(
        loop_, *tls, config_.target.address, config_.target.port,
        [this](std::shared_ptr<env::Connection> connection) { route(std::move(connection)); });
    if (!acceptor) return std::unexpected(acceptor.error());
    acceptor_ = std::move(*acceptor);
    return {};
}

bool TargetRole::handles(const std::string& kind) const {
    return kind.starts_with("target.");
}

void TargetRole::run(const api::Command& command, env::Callback<api::Json> done) {
    using namespace api;
    const auto& kind = command.kind;
    if (kind == command::target_check) {
        with_args<TargetPrepareArgs>(command, done, [this](auto& a, auto d) {
            CheckValue value;
            for (const auto& reason : examine(a).reasons) value.reasons.push_back(to_info(reason));
            d(encode(value));
        });
    } else if (kind == command::target_prepare) {
        with_args<TargetPrepareArgs>(command, done,
                                     [this](auto& a, auto d) { prepare(a, std::move(d)); });
    } else if (kind == command::target_points) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { points(a.protection, std::move(d)); });
    } else if (kind == command::target_failover) {
        with_args<TargetFailoverArgs>(command, done,
                                      [this](auto& a, auto d) { failover(a, std::move(d)); });
    } else if (kind == command::target_resume) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { resume(a.protection, std::move(d)); });
    } else if (kind == command::target_commit || kind == command::target_disable) {
        with_args<ProtectionArgs>(command, done,
                                  [this](auto& a, auto d) { give_up(a.protection, std::move(d)); });
    } else if (kind == command::target_rescan) {
        Status status;
        std::error_code error;
        for (const auto& entry :
             std::filesystem::directory_iterator("/sys/class/scsi_host", error)) {
            if (auto ok = write_text(entry.path() / "scan", "- - -\n"); !ok) status = ok;
        }
        plain(std::move(done))(std::move(status));
    } else if (kind == command::target_forget) {
        with_args<DiskIdsArgs>(command, done, [this](auto& a, auto d) { forget(a, std::move(d)); });
    } else {
        done(fail(ErrorCode::unsupported, "a target does not know " + kind));
    }
}

std::vector<std::string> TargetRole::owned_disks() const {
    std::vector<std::string> ids;
    for (const auto& [id, protection] : protections_) {
        for (const auto& disk : protection->args.disks) ids.push_back(disk.target_id);
    }
    return ids;
}

// The disks' nodes in order of index, and every reason against writing to them.
TargetRole::Verdict TargetRole::examine(const api::TargetPrepareArgs& args) const {
    std::vector<Error> reasons;
    platform::VolumeRules rules;
    for (const auto& path : config_.target.install_paths)
        rules.reserved.push_back({path, platform::ReservedPath::Use::install});
    for (const auto& path : config_.target.cache_paths)
        rules.reserved.push_back({path, platform::ReservedPath::Use::cache});
    rules.target_disks = owned_disks();
    for (const auto& disk : args.disks) rules.target_disks.push_back(disk.target_id);
    auto volume = platform::check_retention_volume(host_, rules, args.retention);
    if (!volume) reasons.push_back(volume.error());
    auto disks = args.disks;
    std::ranges::sort(disks, {}, &api::TargetDiskChoice::index);
    const platform::DiskRules disk_rules{args.retention, owned_disks()};
    std::vector<std::string> nodes;
    for (const auto& disk : disks) {
        auto verdict = platform::check_target_disk(host_, disk_rules,
                                                   {disk.target_id, disk.size, args.overwrite});
        if (!verdict) {
            reasons.push_back(verdict.error());
            continue;
        }
        reasons.insert(reasons.end(), verdict->reasons.begin(), verdict->reasons.end());
        nodes.push_back(verdict->disk.node);
    }
    for (const auto& disk : args.disks) {
        for (const auto& [id, other] : protections_) {
            if (id == args.protection) continue;
            for (const auto& used : other->args.disks) {
                if (platform::normal_id(used.target_id) != platform::normal_id(disk.target_id))
                    continue;
                reasons.push_back(
                    {ErrorCode::busy,
                     disk.target_id + " is the replica of a disk of " + other->args.machine,
                     "Choose another disk, or disable that protection", "E_DISK_TAKEN"});
            }
        }
    }
    return {std::move(nodes), std::move(reasons)};
}

// The nodes; the first of all reasons as the error's code, all of them as its sentence.
Result<std::vector<std::string>> TargetRole::check(const api::TargetPrepareArgs& args) const {
    auto [nodes, reasons] = examine(args);
    if (reasons.empty()) return nodes;
    Error all = reasons.front();
    for (std::size_t i = 1; i < reasons.size(); ++i) {
        all.message += "; " + std::string(reasons[i].name()) + ": " + reasons[i].message;
    }
    return std::unexpected(all);
}

void TargetRole::prepare(const api::TargetPrepareArgs& args, env::Callback<api::Json> done) {
    const auto existing = protections_.find(args.protection);
    if (existing != protections_.end()) {
        if (existing->second->args.session == args.session) return done(api::Json::object());
        return done(fail(ErrorCode::busy, "the protection is prepared already"));
    }
    auto nodes = check(args);
    if (!nodes) return done(std::unexpected(nodes.error()));
    auto protection = std::make_shared<Protection>();
    protection->args = args;
    if (auto ok = attach(*protection, *nodes); !ok) {
        unmark(args.protection);
        return done(std::unexpected(ok.error()));
    }
    protections_[args.protection] = protection;
    open(protection, [this, id = args.protection, done = std::move(done)](Status status) mutable {
        if (!status) {
            protections_.erase(id);
            unmark(id);
        }
        if (status) status = save();
        plain(std::move(done))(std::move(status));
    });
}

// A mark that is left keeps a disk from others, no more: the next start removes it.
void TargetRole::unmark(const std::string& id) {
    if (auto ok = marks_.remove(id); !ok)
        std::cerr << "ebbd: protection " << id << ": " << ok.error().message << "\n";
}

// Whatever happens from here on, nobody but this daemon takes the disks: they are marked first.
Status TargetRole::attach(Protection& protection, const std::vector<std::string>& nodes) {
    if (auto ok = marks_.add(protection.args.protection, nodes); !ok) return ok;
    const std::string folder = protection.args.retention + "/" + protection.args.protection;
    auto volume = platform::DirectoryVolume::open(loop_, folder);
    if (!volume) return std::unexpected(volume.error());
    for (const auto& node : nodes) {
        auto disk = platform::AioDisk::open(loop_, {.path = node});
        if (!disk) return std::unexpected(disk.error());
        protection.disks.push_back(std::move(*disk));
    }
    protection.volume = std::move(*volume);
    return {};
}

// Makes the core's target on what is attached.
void TargetRole::open(const Shared& protection, env::StatusCallback done) {
    const auto& args = protection->args;
    const auto uuid = parse_uuid(args.protection);
    if (!uuid) return done(fail(ErrorCode::invalid, "the protection's id is no UUID"));
    core::TargetConfig target;
    target.protection = *uuid;
    target.session = args.session;
    target.retention_age = std::chrono::hours(config_.target.retention_hours);
    target.retention_bytes = config_.target.retention_limit_mib << 20;
    auto disks = args.disks;
    std::ranges::sort(disks, {}, &api::TargetDiskChoice::index);
    for (const auto& disk : disks)
        target.disks.push_back(
            {platform::normal_id(disk.source_id), platform::normal_id(disk.target_id), disk.size});
    std::vector<env::Disk*> pointers;
    for (const auto& disk : protection->disks) pointers.push_back(disk.get());
    protection->target =
        std::make_unique<core::Target>(target, std::move(pointers), *protection->volume, clock_);
    protection->target->open([protection, done = std::move(done)](Status status) mutable {
        protection->opened = status.has_value();
        protection->has_error = !status;
        if (!status) protection->error = status.error();
        done(std::move(status));
    });
}

// Lets go of disks and volume.
void TargetRole::close(const Shared& protection, env::StatusCallback done) {
    protection->opened = false;
    const auto release = [this, protection](env::StatusCallback answer) {
        loop_.post([protection, answer = std::move(answer)]() mutable {
            protection->target.reset();
            protection->disks.clear();
            protection->volume.reset();
            answer({});
        });
    };
    if (!protection->target) return release(std::move(done));
    protection->target->close(
        [release, done = std::move(done)](Status) mutable { release(std::move(done)); });
}

void TargetRole::points(const std::string& id, env::Callback<api::Json> done) {
    auto found = find(id);
    if (!found) return done(std::unexpected(found.error()));
    api::PointsValue value;
    if ((*found)->opened) {
        for (const auto& point : (*found)->target->points()) value.points.push_back(to_api(point));
    } else if ((*found)->failed_over) {
        value.points.push_back((*found)->failed_over_to);
    } else {
        const auto closed = fail(ErrorCode::busy, "the protection is not open yet");
        return done((*found)->has_error ? std::unexpected((*found)->error) : closed);
    }
    done(api::encode(value));
}

void TargetRole::failover(const api::TargetFailoverArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    if (protection->failed_over && !protection->opened) {
        api::FailoverValue again{protection->failed_over_to, 0};
        return done(api::encode(again));
    }
    if (!protection->opened) return done(fail(ErrorCode::busy, "the protection is not open yet"));
    protection->target->failover(
        args.session, [this, protection, session = args.session,
                       done = std::move(done)](Result<core::FailoverResult> result) mutable {
            if (!result) return done(std::unexpected(result.error()));
            protection->failed_over = true;
            protection->failed_over_to = to_api(result->point);
            protection->args.session = session;
            api::FailoverValue value{protection->failed_over_to, result->rolled_back_bytes};
            close(protection, [this, value, done = std::move(done)](Status) mutable {
                if (auto ok = save(); !ok) return done(std::unexpected(ok.error()));
                done(api::encode(value));
            });
        });
}

void TargetRole::resume(const std::string& id, env::Callback<api::Json> done) {
    auto found = find(id);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    if (!protection->failed_over) return done(api::Json::object());
    auto nodes = check(protection->args);
    if (!nodes) return done(std::unexpected(nodes.error()));
    if (auto ok = attach(*protection, *nodes); !ok) return done(std::unexpected(ok.error()));
    open(protection, [this, protection, done = std::move(done)](Status status) mutable {
        if (!status) return done(std::unexpected(status.error()));
        protection->target->resume(
            [this, protection, done = std::move(done)](Status resumed) mutable {
                if (resumed) protection->failed_over = false;
                if (resumed) resumed = save();
                plain(std::move(done))(std::move(resumed));
            });
    });
}

// Commit and disable: the points go, the disks stay as they are.
void TargetRole::give_up(const std::string& id, env::Callback<api::Json> done) {
    auto found = find(id);
    if (!found) return done(api::Json::object());
    const Shared& protection = *found;
    close(protection, [this, id, protection, done = std::move(done)](Status) mutable {
        const auto folder = protection->args.retention + "/" + id;
        auto volume = platform::DirectoryVolume::open(loop_, folder);
        if (!volume) return done(std::unexpected(volume.error()));
        protection->volume = std::move(*volume);
        core::Target::erase(*protection->volume, [this, id, protection, folder,
                                                  done = std::move(done)](Status status) mutable {
            if (status) {
                protections_.erase(id);
                status = save();
            }
            if (status) unmark(id);
            loop_.post([protection, folder] {
                protection->volume.reset();
                std::error_code ignored;
                std::filesystem::remove_all(folder, ignored);  // its lock file is left
            });
            plain(std::move(done))(std::move(status));
        });
    });
}

void TargetRole::forget(const api::DiskIdsArgs& args, env::Callback<api::Json> done) {
    for (const auto& [id, protection] : protections_) {
        for (const auto& disk : protection->args.disks) {
            const auto same = [&](const std::string& other) {
                return platform::normal_id(other) == platform::normal_id(disk.target_id);
            };
            if (protection->opened && std::ranges::any_of(args.disks, same))
                return done(fail(ErrorCode::busy, disk.target_id + " is replicated to"));
        }
    }
    auto table = platform::BlockTable::load({});
    if (!table) return done(std::unexpected(table.error()));
    Status status;
    for (const auto& wanted : args.disks) {
        for (const auto& [name, device] : table->devices()) {
            if (!device.physical || device.wwid.empty() ||
                platform::normal_id(device.wwid) != platform::normal_id(wanted))
                continue;
            if (auto ok = write_text(device.path + "/device/delete", "1\n"); !ok) status = ok;
        }
    }
    plain(std::move(done))(std::move(status));
}

// The first frame says which protection a source is for.
void TargetRole::route(std::shared_ptr<env::Connection> connection) {
    auto* raw = connection.get();
    raw->start(
        [this, weak = std::weak_ptr(connection)](env::Frame first) {
            const auto held = weak.lock();
            if (!held) return;
            held->pause();
            // The handlers are replaced next, not from inside of one.
            loop_.post([this, held, first = std::move(first)]() mutable {
                hand_over(held, std::move(first));
            });
        },
        [connection](const Error&) {});
}

void TargetRole::hand_over(const std::shared_ptr<env::Connection>& connection, env::Frame first) {
    const auto hello = format::decode_hello(first);
    if (!hello) return connection->close();
    const auto found = protections_.find(to_text(hello->protection));
    if (found == protections_.end() || !found->second->opened ||
        found->second->args.source_name != connection->peer())
        return connection->close();
    found->second->target->accept(connection, std::move(first));
    connection->resume();
}

Result<TargetRole::Shared> TargetRole::find(const std::string& id) {
    const auto found = protections_.find(id);
    if (found == protections_.end())
        return fail(ErrorCode::not_found, "this target has no protection " + id);
    return found->second;
}

Status TargetRole::save() const {
    api::Json list = api::Json::array();
    for (const auto& [id, protection] : protections_) {
        api::Json item{{"args", api::encode(protection->args)},
                       {"failed_over", protection->failed_over}};
        if (protection->failed_over) item["point"] = api::encode(protection->failed_over_to);
        list.push_back(item);
    }
    if (auto ok = platform::make_directories(config_.state); !ok) return ok;
    return platform::replace_file(config_.state + "/target.json",
                                  api::dump({{"protections", list}}) + "\n",
                                  platform::private_mode);
}

Status TargetRole::load() {
    auto text = platform::read_file(config_.state + "/target.json");
    if (!text && text.error().code == ErrorCode::not_found) return {};
    if (!text) return std::unexpected(text.error());
    auto json = api::parse(*text);
    if (!json) return std::unexpected(json.error());
    for (const auto& item : json->value("protections", api::Json::array())) {
        auto args = api::decode_args<api::TargetPrepareArgs>(item.value("args", api::Json()));
        if (!args) return std::unexpected(args.error());
        auto protection = std::make_shared<Protection>();
        protection->args = *args;
        protection->failed_over = item.value("failed_over", false);
        if (item.contains("point")) {
            auto point = api::decode<api::Point>(item["point"]);
            if (point) protection->failed_over_to = *point;
        }
        protections_[args->protection] = protection;
    }
    std::set<std::string> known;
    for (const auto& [id, protection] : protections_) known.insert(id);
    if (auto ok = marks_.keep(known); !ok)
        std::cerr << "ebbd: " << platform::replica_marks_folder << ": " << ok.error().message
                  << "\n";
    // All are known, hence owned, before any is checked.
    for (auto& [id, protection] : protections_) {
        if (protection->failed_over) continue;
        auto nodes = check(protection->args);
        const Status ok =
            nodes ? attach(*protection, *nodes) : Status(std::unexpected(nodes.error()));
        if (ok) {
            open(protection, [](Status) {});
            continue;
        }
        protection->has_error = true;
        protection->error = ok.error();
        std::cerr << "ebbd: protection " << id << ": " << ok.error().message << "\n";
    }
    return {};
}

void TargetRole::drop_connections() {
    acceptor_->drop();
}

void TargetRole::fill(api::ExchangeRequest& request) {
    request.roles.push_back(api::Role::target);
    api::TargetStatus status;
    status.data_address = {config_.target.host.empty() ? config_.name : config_.target.host,
                           acceptor_->port()};
    platform::VolumeRules rules;
    rules.default_path = config_.target.retention;
    rules.target_disks = owned_disks();
    for (const auto& path : config_.target.install_paths)
        rules.reserved.push_back({path, platform::ReservedPath::Use::install});
    if (auto volumes = platform::list_retention_volumes(host_, rules)) {
        for (const auto& v : *volumes) {
            api::TargetVolume out{v.path, v.device, v.fs, v.size, v.available, v.usable(), {}};
            for (const auto& reason : v.reasons) out.reasons.push_back(api::to_info(reason));
            status.volumes.push_back(std::move(out));
        }
    }
    if (auto disks =
            platform::list_target_disks(host_, {config_.target.retention, owned_disks()})) {
        for (const auto& d : *disks) {
            api::TargetDisk out{d.stable_id, d.name,     d.size, d.controller,
                                d.pci,       d.usable(), {},     {}};
            for (const auto& reason : d.reasons) out.reasons.push_back(api::to_info(reason));
            for (const auto& [id, protection] : protections_) {
                for (const auto& used : protection->args.disks) {
                    if (platform::normal_id(used.target_id) == d.stable_id) out.in_use_by = id;
                }
            }
            status.disks.push_back(std::move(out));
        }
    }
    status.retention_age_s = config_.target.retention_hours * 3600;
    status.retention_limit_bytes = config_.target.retention_limit_mib << 20;
    for (const auto& [id, protection] : protections_)
        status.protections.push_back(describe_one(*protection));
    request.target = std::move(status);
}

api::TargetProtection TargetRole::describe_one(const Protection& protection) const {
    api::TargetProtection p;
    p.id = protection.args.protection;
    p.retention = protection.args.retention;
    if (protection.failed_over) {
        p.state = api::TargetState::failed_over;
        p.newest_point = protection.failed_over_to;
        p.points = 1;
    } else if (protection.opened) {
        const auto core = protection.target->status();
        p.state = to_api(core.state);
        p.open_epoch = core.open_epoch;
        if (core.has_point) p.newest_point = to_api(core.newest);
        p.points = core.points;
        if (const auto points = protection.target->points(); !points.empty())
            p.oldest_point_ns = points.front().cut_time.ns;
        p.retention_bytes = core.retention_bytes;
        p.rollback_bytes = core.rollback_bytes;
        if (core.has_error) p.error = api::to_info(core.error);
        if (core.state == core::TargetState::no_space) {
            p.error = api::to_info(
                {ErrorCode::no_space,
                 "replication is paused: the retention volume " + protection.args.retention +
                     " is full, and the newest recovery point is not given up",
                 "Make room on the volume or enlarge it; replication goes on by itself",
                 {}});
        }
    }
    if (protection.has_error) {
        p.state = api::TargetState::error;
        p.error = api::to_info(protection.error);
    }
    return p;
}

}  // namespace ebb::service
