// SPDX-License-Identifier: Apache-2.0
// The controller's view of its agents: what each last said, commands on their way to it, results.
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/agent.h"

namespace ebb::service {

struct AgentView {
    api::ExchangeRequest last;  // without results
    std::string site;
    double seconds_silent = 0;
};

class ControllerAgents {
public:
    // An exchange of the agent of that name; waits a little if there is no command for it.
    api::ExchangeAnswer exchange(const std::string& name, const std::string& site,
                                 api::ExchangeRequest request);
    // Sends a command and waits for its result. E_TIMEOUT, E_CANCELLED by stop(),
    // E_AGENT_NOT_REGISTERED when the agent has never been heard of.
    Result<api::Json> call(const std::string& name, const std::string& kind, api::Json args,
                           std::chrono::milliseconds patience);
    [[nodiscard]] std::map<std::string, AgentView> all() const;
    [[nodiscard]] std::optional<AgentView> find(const std::string& name) const;
    void stop();

private:
    struct Agent {
        api::ExchangeRequest last;
        std::string site;
        std::chrono::steady_clock::time_point heard;
        std::map<std::uint64_t, api::Command> pending;
        std::map<std::uint64_t, api::CommandResult> results;
    };

    static AgentView view(const Agent& agent);

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool stopping_ = false;
    std::uint64_t next_id_;
    std::map<std::string, Agent> agents_;

public:
    ControllerAgents();
};

}  // namespace ebb::service
