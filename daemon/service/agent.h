// SPDX-License-Identifier: Apache-2.0
// The agent's side of docs/control-protocol.md: tells the controller how things stand, gets
// commands, has the roles run them, and returns each result until it has arrived.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "platform/event_loop.h"
#include "platform/http.h"
#include "service/config.h"
#include "service/role.h"

namespace ebb::service {

// What the controller has said of revoked certificates; it outlives the daemon.
using Revoked = std::shared_ptr<platform::RevokedCertificates>;
Result<Revoked> load_revoked(const Config& config);

class Agent {
public:
    // The roles and the loop must outlive it.
    static Result<std::unique_ptr<Agent>> start(platform::EventLoop& loop, const Config& config,
                                                std::vector<Role*> roles, Revoked revoked);
    // The loop must not run any more, or run on another thread.
    ~Agent();

private:
    Agent(platform::EventLoop& loop, const Config& config, std::vector<Role*> roles,
          platform::TlsContext tls, Revoked revoked);
    void work();
    Status exchange();
    std::optional<api::ExchangeRequest> status();
    // True: others wait for it, and it is done at once or not soon.
    bool take(const api::Command& command);
    void run(const api::Command& command);
    [[nodiscard]] Role* role_of(const std::string& kind) const;
    void revoke(const std::vector<std::string>& serials);
    void finished(std::uint64_t id, Result<api::Json> value);
    bool pause(std::chrono::milliseconds time);

    platform::EventLoop& loop_;
    const Config config_;
    std::vector<Role*> roles_;
    platform::HttpClient http_;
    const std::string incarnation_;
    const Revoked revoked_;
    std::vector<std::string> revoked_before_;  // the thread's own
    std::shared_ptr<char> alive_ = std::make_shared<char>();

    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;                                // under mutex_
    bool news_ = false;                                    // under mutex_
    std::map<std::uint64_t, api::CommandResult> results_;  // under mutex_
    std::set<std::uint64_t> seen_;                         // the thread's own
    bool hurried_ = false;                                 // likewise
    std::thread thread_;
};

// Name, kernel and identity of this machine.
[[nodiscard]] api::MachineInfo machine_info(const std::string& name);

}  // namespace ebb::service
