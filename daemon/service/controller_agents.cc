// SPDX-License-Identifier: Apache-2.0
#include "service/controller_agents.h"

namespace ebb::service {

namespace {

// Results must not wait long behind an exchange without commands.
constexpr std::chrono::milliseconds hold{500};

}  // namespace

// Ids grow over restarts of the controller too: agents never run one twice.
ControllerAgents::ControllerAgents()
    : next_id_(static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                              std::chrono::system_clock::now().time_since_epoch())
                                              .count())) {}

AgentView ControllerAgents::view(const Agent& agent) {
    const std::chrono::duration<double> silent = std::chrono::steady_clock::now() - agent.heard;
    return {agent.last, agent.site, silent.count()};
}

api::ExchangeAnswer ControllerAgents::exchange(const std::string& name, const std::string& site,
                                               api::ExchangeRequest request) {
    std::unique_lock lock(mutex_);
    auto& agent = agents_[name];
    for (auto& result : request.results) {
        if (agent.pending.erase(result.id) > 0) agent.results[result.id] = std::move(result);
    }
    request.results.clear();
    agent.last = std::move(request);
    agent.site = site;
    agent.heard = std::chrono::steady_clock::now();
    changed_.notify_all();
    changed_.wait_for(lock, hold, [&] { return stopping_ || !agent.pending.empty(); });
    api::ExchangeAnswer answer;
    answer.site = site;
    for (const auto& [id, command] : agent.pending) answer.commands.push_back(command);
    return answer;
}

Result<api::Json> ControllerAgents::call(const std::string& name, const std::string& kind,
                                         api::Json args, std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    const auto found = agents_.find(name);
    if (found == agents_.end()) {
        return fail("E_AGENT_NOT_REGISTERED", ErrorCode::not_found,
                    "the agent of " + name + " has not registered", "Wait, and try again");
    }
    auto& agent = found->second;
    const auto id = next_id_++;
    agent.pending[id] = {id, kind, std::move(args)};
    changed_.notify_all();
    const bool answered =
        changed_.wait_for(lock, patience, [&] { return stopping_ || agent.results.contains(id); });
    const auto result = agent.results.find(id);
    if (result == agent.results.end()) {
        agent.pending.erase(id);
        if (answered) return fail(ErrorCode::cancelled, "the controller ends");
        return fail(ErrorCode::timeout, name + " has not answered to " + kind,
                    "See whether ebbd runs there and reaches the controller");
    }
    auto taken = std::move(result->second);
    agent.results.erase(result);
    if (taken.ok) return std::move(taken.value);
    return std::unexpected(taken.error ? api::from_info(*taken.error)
                                       : Error{ErrorCode::protocol, "no error given", {}, {}});
}

std::map<std::string, AgentView> ControllerAgents::all() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, AgentView> views;
    for (const auto& [name, agent] : agents_) views.emplace(name, view(agent));
    return views;
}

std::optional<AgentView> ControllerAgents::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = agents_.find(name);
    if (found == agents_.end()) return std::nullopt;
    return view(found->second);
}

void ControllerAgents::stop() {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
}

}  // namespace ebb::service
