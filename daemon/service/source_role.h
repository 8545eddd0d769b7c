// SPDX-License-Identifier: Apache-2.0
// The source: runs a core::Source for each protection that the controller has given this machine,
// and remembers them over restarts. On the event loop.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "api/command.h"
#include "core/source.h"
#include "platform/event_loop.h"
#include "platform/netlink_tracker.h"
#include "platform/tls.h"
#include "platform/worker.h"
#include "service/config.h"
#include "service/role.h"

namespace ebb::service {

class SourceRole final : public Role {
public:
    // Takes up again what it was told before.
    static Result<std::unique_ptr<SourceRole>> start(
        platform::EventLoop& loop, const Config& config,
        std::shared_ptr<const platform::RevokedCertificates> revoked);
    ~SourceRole() override;

    [[nodiscard]] bool handles(const std::string& kind) const override;
    void run(const api::Command& command, env::Callback<api::Json> done) override;
    void fill(api::ExchangeRequest& request) override;
    void drop_connections() override;

private:
    // In order of construction: the source uses all above it.
    struct Protection {
        api::SourceProtectArgs args;
        std::unique_ptr<platform::NetlinkTracker> tracker;
        std::unique_ptr<platform::TlsConnector> connector;
        std::unique_ptr<core::Source> source;
        std::uint64_t bytes_before = 0;  // for the rate
        MonoTime asked_before;
        std::uint64_t rate = 0;
    };

    SourceRole(platform::EventLoop& loop, const Config& config, platform::TlsContext tls);
    void protect(const api::SourceProtectArgs& args, env::Callback<api::Json> done);
    Status begin(const api::SourceProtectArgs& args);
    void checkpoint(const api::CheckpointArgs& args, env::Callback<api::Json> done);
    void stop(const std::string& protection, env::StatusCallback done);
    void fence(const api::FenceArgs& args, env::Callback<api::Json> done);
    void shutdown(env::Callback<api::Json> done);
    Result<Protection*> find(const std::string& id);
    Status save() const;
    Status load();
    [[nodiscard]] api::SourceProtection describe_one(Protection& protection);

    platform::EventLoop& loop_;
    const Config config_;
    platform::TlsContext tls_;
    platform::LoopClock clock_;
    platform::SystemRandom random_;
    std::unique_ptr<platform::Worker> worker_;
    std::map<std::string, Protection> protections_;
    std::map<std::string, std::uint64_t> fenced_;  // protection: highest fenced session
};

}  // namespace ebb::service
