// SPDX-License-Identifier: Apache-2.0
// The controller's view of its agents: what each last said, commands on their way to it, results.
// Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
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
    bool revoked = false;  // its certificate is: what it said is of no interest any more
};

class ControllerAgents {
public:
    // An exchange of the agent of that name; waits a little if there is no command for it.
    api::ExchangeAnswer exchange(const std::string& name, const std::string& site,
                                 api::ExchangeRequest request);
    // Whether whoever waits has lost interest; asked again at each wake().
    using GiveUp = std::function<bool()>;
    // Sends a command and waits for its result. E_TIMEOUT, E_CANCELLED by stop() or `give_up`,
    // E_AGENT_NOT_REGISTERED when the agent has never been heard of, E_AGENT_SILENT.
    Result<api::Json> call(const std::string& name, const std::string& kind, api::Json args,
                           std::chrono::milliseconds patience, const GiveUp& give_up = {});
    // Returns when something was heard of an agent, wake() was called, or the time has passed.
    void wait_for_news(std::chrono::milliseconds limit);
    void wake();
    [[nodiscard]] std::map<std::string, AgentView> all() const;
    [[nodiscard]] std::optional<AgentView> find(const std::string& name) const;
    // Whether its certificate is revoked.
    void set_revoked(const std::string& name, bool revoked);
    void stop();

    static constexpr double silent_seconds = 60;

private:
    struct Agent {
        api::ExchangeRequest last;
        std::string site;
        bool seen = false;
        bool revoked = false;
        std::chrono::steady_clock::time_point heard;
        std::map<std::uint64_t, api::Command> pending;
        std::map<std::uint64_t, api::CommandResult> results;
    };

    static AgentView view(const Agent& agent);

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool stopping_ = false;
    std::uint64_t news_ = 0;
    std::uint64_t next_id_;
    std::map<std::string, Agent> agents_;

public:
    ControllerAgents();
};

}  // namespace ebb::service
