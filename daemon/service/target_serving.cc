// SPDX-License-Identifier: Apache-2.0
// Points that are read while replication goes on: NBD exports, one for each disk, named
// MACHINE/NAME/INDEX.
#include <algorithm>
#include <filesystem>

#include "api/points.h"
#include "base/uuid_text.h"
#include "platform/event_loop.h"
#include "platform/file_store.h"
#include "service/command_args.h"
#include "service/point_value.h"
#include "service/target_role.h"

namespace ebb::service {

namespace {

std::string export_name(const std::string& machine, const std::string& name, std::size_t index) {
    return machine + "/" + name + "/" + std::to_string(index);
}

// By name.
template <class Servings>
bool in_use(const Servings& servings, std::uint64_t epoch) {
    return std::ranges::any_of(servings,
                               [&](const auto& item) { return item.second.point.epoch == epoch; });
}

std::vector<api::TargetDiskChoice> in_order(std::vector<api::TargetDiskChoice> disks) {
    std::ranges::sort(disks, {}, &api::TargetDiskChoice::index);
    return disks;
}

}  // namespace

Result<platform::NbdServer*> TargetRole::nbd() {
    if (nbd_) return nbd_.get();
    const auto& settings = config_.target.nbd;
    auto server = std::make_unique<platform::NbdServer>(
        loop_,
        platform::NbdHandlers{[this] { return nbd_exports(); },
                              [this](const std::string& name, std::uint64_t offset,
                                     std::shared_ptr<Buffer> into, env::StatusCallback done) {
                                  nbd_read(name, offset, std::move(into), std::move(done));
                              }});
    const auto folder = std::filesystem::path(settings.socket).parent_path().string();
    if (auto ok = platform::make_directories(folder); !ok) return std::unexpected(ok.error());
    if (auto ok = server->listen_unix(settings.socket); !ok) return std::unexpected(ok.error());
    if (!settings.address.empty()) {
        auto ok = server->listen_tcp(settings.address, settings.port);
        if (!ok) return std::unexpected(ok.error());
    }
    nbd_ = std::move(server);
    return nbd_.get();
}

std::string TargetRole::uri_of(const std::string& name) const {
    const auto& settings = config_.target.nbd;
    if (settings.address.empty()) return "nbd+unix:///" + name + "?socket=" + settings.socket;
    std::string host = settings.host.empty() ? settings.address : settings.host;
    if (host.find(':') != std::string::npos) host = "[" + host + "]";
    return "nbd://" + host + ":" + std::to_string(nbd_ ? nbd_->port() : settings.port) + "/" + name;
}

std::vector<format::NbdExport> TargetRole::nbd_exports() const {
    std::vector<format::NbdExport> all;
    for (const auto& [id, protection] : protections_) {
        if (!protection->opened()) continue;
        for (const auto& [name, serving] : protection->servings) {
            for (const auto& disk : protection->args.disks)
                all.push_back({export_name(protection->args.machine, name, disk.index), disk.size});
        }
    }
    return all;
}

void TargetRole::nbd_read(const std::string& name, std::uint64_t offset,
                          std::shared_ptr<Buffer> into, env::StatusCallback done) {
    for (const auto& [id, protection] : protections_) {
        if (!protection->opened()) continue;
        for (const auto& [served_as, serving] : protection->servings) {
            for (const auto& disk : protection->args.disks) {
                if (export_name(protection->args.machine, served_as, disk.index) != name) continue;
                return protection->target->read_served(serving.point.epoch, disk.index, offset,
                                                       std::move(into), std::move(done));
            }
        }
    }
    loop_.post([done = std::move(done)]() mutable {
        done(fail(ErrorCode::not_found, "the point is not served any more"));
    });
}

void TargetRole::drop_clients(const Protection& protection, const std::string& name) {
    if (!nbd_) return;
    for (const auto& disk : protection.args.disks)
        nbd_->drop(export_name(protection.args.machine, name, disk.index));
}

void TargetRole::serve(const api::ServeArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    if (!found) return done(std::unexpected(found.error()));
    const Shared protection = *found;
    if (protection->failed_over) {
        return done(fail(ErrorCode::refused,
                         "the machine is failed over: its points are not served",
                         "Go to another point: ebbctl change-point"));
    }
    open(protection,
         [this, protection, args, done = std::move(done)](const Status& status) mutable {
             if (!status) return done(std::unexpected(status.error()));
             serve_point(protection, args, std::move(done));
         });
}

void TargetRole::serve_point(const Shared& protection, const api::ServeArgs& args,
                             env::Callback<api::Json> done) {
    const auto points = protection->target->points();
    const auto found = std::ranges::find_if(points, [&](const core::Point& point) {
        return args.point == api::latest_point ? point.epoch == points.back().epoch
                                               : args.point == std::to_string(point.epoch);
    });
    if (found == points.end()) {
        return done(fail("E_NO_POINT", ErrorCode::refused,
                         "there is no recovery point of epoch " + args.point,
                         "See which there are: ebbctl point list"));
    }
    // One that is there under this name makes room.
    end_servings(
        protection, args.name, {},
        [this, alive = std::weak_ptr(alive_), protection, args, point = point_value(*found),
         done = std::move(done)]() mutable {
            if (alive.expired()) return;
            if (!protection->opened())
                return done(fail(ErrorCode::busy, "the protection is being closed"));
            protection->target->serve(
                point.epoch, [this, alive, protection, name = args.name, point,
                              done = std::move(done)](const Status& status) mutable {
                    if (alive.expired()) return;
                    if (!status) {
                        if (protection->opened() && !in_use(protection->servings, point.epoch))
                            protection->target->unserve(point.epoch, [](const Status&) {});
                        return done(std::unexpected(status.error()));
                    }
                    served(protection, name, point, std::move(done));
                });
        });
}

void TargetRole::served(const Shared& protection, const std::string& name, const api::Point& point,
                        env::Callback<api::Json> done) {
    if (!protection->opened()) return done(fail(ErrorCode::busy, "the protection is being closed"));
    auto server = nbd();
    if (!server) {
        if (!in_use(protection->servings, point.epoch))
            protection->target->unserve(point.epoch, [](const Status&) {});
        return done(std::unexpected(server.error()));
    }
    const auto core = protection->target->status().served;
    const auto found = std::ranges::find(core, point.epoch, &core::PointReaderStatus::epoch);
    const std::uint64_t number = found == core.end() ? 0 : found->serving;
    const auto id = to_text(platform::SystemRandom().uuid());
    protection->servings[name] = {point, id, number};
    api::ServeValue value{point, id, {}};
    for (const auto& disk : in_order(protection->args.disks)) {
        value.exports.push_back({disk.index, disk.source_id, disk.target_id, disk.size,
                                 uri_of(export_name(protection->args.machine, name, disk.index))});
    }
    done(api::encode(value));
}

void TargetRole::unserve(const api::UnserveArgs& args, env::Callback<api::Json> done) {
    auto found = find(args.protection);
    // Where there is no protection nothing of it is served.
    if (!found) return done(api::Json::object());
    end_servings(*found, args.name, args.keep,
                 [done = std::move(done)]() mutable { done(api::Json::object()); });
}

// `done` when nothing of them is read any more.
void TargetRole::end_servings(const Shared& protection, const std::string& name,
                              const std::string& keep, std::move_only_function<void()> done) {
    std::vector<std::uint64_t> epochs;
    std::erase_if(protection->servings, [&](const auto& item) {
        if (name.empty() ? item.first == keep : item.first != name) return false;
        drop_clients(*protection, item.first);
        epochs.push_back(item.second.point.epoch);
        return true;
    });
    std::erase_if(epochs, [&](auto epoch) { return in_use(protection->servings, epoch); });
    if (epochs.empty() || !protection->opened()) return done();
    struct Round {
        std::size_t left;
        std::move_only_function<void()> done;
    };
    const auto round = std::make_shared<Round>(epochs.size(), std::move(done));
    for (const auto epoch : epochs) {
        protection->target->unserve(epoch, [round](const Status&) {
            if (--round->left == 0) round->done();
        });
    }
}

// The core's target as it is now is asked: whoever has read it wants to know whether that was it.
void TargetRole::tell_served(const api::ServedArgs& args, env::Callback<api::Json> done) {
    const auto found = find(args.protection);
    if (!found || !(*found)->opened() || !(*found)->servings.contains(args.name)) {
        return done(fail("E_POINT_NOT_SERVED", ErrorCode::not_found,
                         "no point is served as " + args.name,
                         "Serve it again: ebbctl point serve"));
    }
    done(api::encode(describe_serving(**found, args.name)));
}

api::ServedPoint TargetRole::describe_serving(const Protection& protection,
                                              const std::string& name) const {
    const auto& serving = protection.servings.at(name);
    api::ServedPoint one{name, serving.point.epoch, serving.id, 0, 0, {}};
    for (const auto& disk : protection.args.disks)
        one.clients += nbd_->clients(export_name(protection.args.machine, name, disk.index));
    const auto core = protection.target->status().served;
    const auto found = std::ranges::find(core, one.epoch, &core::PointReaderStatus::epoch);
    if (found == core.end() || found->serving != serving.number) {
        one.error = api::to_info({ErrorCode::stale,
                                  "the point was given up, and is served anew under another name",
                                  "Serve it again", "E_POINT_GIVEN_UP"});
        return one;
    }
    one.index_bytes = found->index_bytes;
    if (found->error) one.error = api::to_info(*found->error);
    return one;
}

void TargetRole::describe_served(const Protection& protection, api::TargetProtection& told) const {
    for (const auto& [name, serving] : protection.servings)
        told.served.push_back(describe_serving(protection, name));
}

}  // namespace ebb::service
