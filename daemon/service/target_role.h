// SPDX-License-Identifier: Apache-2.0
// The master target: checks volumes and disks, runs a core::Target for each protection, routes
// sources to them, and remembers them over restarts. On the event loop.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "api/command.h"
#include "core/target.h"
#include "platform/aio_disk.h"
#include "platform/directory_volume.h"
#include "platform/event_loop.h"
#include "platform/replica_marks.h"
#include "platform/target_checks.h"
#include "platform/tls.h"
#include "service/config.h"
#include "service/role.h"

namespace ebb::service {

class TargetRole final : public Role {
public:
    // Takes up again what it was told before, and listens for sources.
    static Result<std::unique_ptr<TargetRole>> start(
        platform::EventLoop& loop, const Config& config,
        std::shared_ptr<const platform::RevokedCertificates> revoked);
    ~TargetRole() override;

    [[nodiscard]] bool handles(const std::string& kind) const override;
    void run(const api::Command& command, env::Callback<api::Json> done) override;
    void fill(api::ExchangeRequest& request) override;
    void drop_connections() override;

private:
    // In order of construction: the target uses all above it.
    struct Protection {
        api::TargetPrepareArgs args;
        bool failed_over = false;
        api::Point failed_over_to;
        bool opened = false;
        Error error;
        bool has_error = false;
        std::unique_ptr<platform::DirectoryVolume> volume;
        std::vector<std::unique_ptr<platform::AioDisk>> disks;
        std::unique_ptr<core::Target> target;
    };
    using Shared = std::shared_ptr<Protection>;

    TargetRole(platform::EventLoop& loop, const Config& config);
    Status listen(std::shared_ptr<const platform::RevokedCertificates> revoked);
    void prepare(const api::TargetPrepareArgs& args, env::Callback<api::Json> done);
    struct Verdict {
        std::vector<std::string> nodes;
        std::vector<Error> reasons;
    };
    [[nodiscard]] Verdict examine(const api::TargetPrepareArgs& args) const;
    [[nodiscard]] Result<std::vector<std::string>> check(const api::TargetPrepareArgs& args) const;
    Status attach(Protection& protection, const std::vector<std::string>& nodes);
    void unmark(const std::string& id);
    void open(const Shared& protection, env::StatusCallback done);
    void close(const Shared& protection, env::StatusCallback done);
    void points(const std::string& id, env::Callback<api::Json> done);
    void failover(const api::TargetFailoverArgs& args, env::Callback<api::Json> done);
    void resume(const std::string& id, env::Callback<api::Json> done);
    void give_up(const std::string& id, env::Callback<api::Json> done);
    void forget(const api::DiskIdsArgs& args, env::Callback<api::Json> done);
    void route(std::shared_ptr<env::Connection> connection);
    void hand_over(const std::shared_ptr<env::Connection>& connection, env::Frame first);
    Result<Shared> find(const std::string& id);
    Status save() const;
    Status load();
    [[nodiscard]] std::vector<std::string> owned_disks() const;
    [[nodiscard]] api::TargetProtection describe_one(const Protection& protection) const;

    platform::EventLoop& loop_;
    const Config config_;
    platform::LoopClock clock_;
    platform::TargetHost host_;
    platform::ReplicaMarks marks_;
    std::map<std::string, Shared> protections_;
    std::unique_ptr<platform::TlsAcceptor> acceptor_;
};

}  // namespace ebb::service
