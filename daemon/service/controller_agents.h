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
    // When the next exchange of the agent is answered while a command is under way there.
    enum class Haste {
        none,   // as without one: its result may wait for the end of an exchange
        brief,  // at once, so that its result need not wait
    };
    // A command on its way, its result when it is there. Of one thread; `agents` must outlive it.
    // Sent again until then, or until this ends.
    class Call {
    public:
        Call(ControllerAgents& agents, std::string name, const std::string& kind, api::Json args,
             Haste haste = Haste::none);
        Call(Call&& other) noexcept;
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;
        Call& operator=(Call&&) = delete;
        ~Call();

        [[nodiscard]] const std::string& name() const { return name_; }
        // As of the last wait(): null if there was none yet. As ControllerAgents::call().
        [[nodiscard]] const Result<api::Json>* result() const {
            return result_ ? &*result_ : nullptr;
        }

    private:
        friend class ControllerAgents;

        ControllerAgents* agents_;
        std::string name_;
        std::string kind_;
        std::uint64_t id_ = 0;  // 0: it was not sent, or has ended
        std::optional<Result<api::Json>> result_;
    };
    using Calls = std::vector<Call>;
    enum class Until { all_ended, one_failed };  // the second: also as soon as one has failed

    // An exchange of the agent of that name; waits a little if there is nothing new for it.
    api::ExchangeAnswer exchange(const std::string& name, const std::string& site,
                                 api::ExchangeRequest request);
    // Whether whoever waits has lost interest; asked again at each wake().
    using GiveUp = std::function<bool()>;
    // Waits for the results of commands under way; E_TIMEOUT for those that have none after
    // `patience`, E_CANCELLED by stop() or `give_up`. Returns early by `until`, or when one of
    // `beside` has ended, whose results are taken too: then some of `calls` may have none.
    void wait(Calls& calls, std::chrono::milliseconds patience, const GiveUp& give_up = {},
              Until until = Until::all_ended, Calls* beside = nullptr);
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
    struct Pending {
        api::Command command;
        Haste haste = Haste::none;
        std::string given_to;  // incarnation that has had it; empty: none
    };
    struct Agent {
        api::ExchangeRequest last;
        std::string site;
        bool seen = false;
        bool revoked = false;
        std::chrono::steady_clock::time_point heard;
        std::map<std::uint64_t, Pending> pending;
        std::map<std::uint64_t, api::CommandResult> results;
    };

    static AgentView view(const Agent& agent);
    Result<std::uint64_t> begin(const std::string& name, const std::string& kind, api::Json args,
                                Haste haste);
    void forget(const Call& call);
    // With the mutex.
    void take(Call& call);

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
