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
    return {agent.last, agent.site, silent.count(), agent.revoked};
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
    agent.seen = true;
    agent.heard = std::chrono::steady_clock::now();
    ++news_;
    changed_.notify_all();
    changed_.wait_for(lock, hold, [&] { return stopping_ || !agent.pending.empty(); });
    api::ExchangeAnswer answer;
    answer.site = site;
    for (const auto& [id, command] : agent.pending) answer.commands.push_back(command);
    return answer;
}

Result<api::Json> ControllerAgents::call(const std::string& name, const std::string& kind,
                                         api::Json args, std::chrono::milliseconds patience,
                                         const GiveUp& give_up) {
    std::unique_lock lock(mutex_);
    const auto found = agents_.find(name);
    if (found != agents_.end() && found->second.revoked) {
        return fail("E_REVOKED", ErrorCode::denied, "the certificate of " + name + " is revoked",
                    "Join it anew: ebbctl token create --machine " + name);
    }
    if (found == agents_.end() || !found->second.seen) {
        return fail("E_AGENT_NOT_REGISTERED", ErrorCode::not_found,
                    "the agent of " + name + " has not registered since the controller started",
                    "Wait and retry; if it lasts, see whether ebbd runs on " + name);
    }
    auto& agent = found->second;
    if (view(agent).seconds_silent > silent_seconds) {
        return fail("E_AGENT_SILENT", ErrorCode::timeout, "the agent of " + name + " is silent",
                    "See whether ebbd runs on " + name + " and reaches the controller");
    }
    const auto id = next_id_++;
    agent.pending[id] = {id, kind, std::move(args)};
    changed_.notify_all();
    const auto ended = [&] { return stopping_ || (give_up && give_up()); };
    const bool answered =
        changed_.wait_for(lock, patience, [&] { return ended() || agent.results.contains(id); });
    const auto result = agent.results.find(id);
    if (result == agent.results.end()) {
        agent.pending.erase(id);
        if (answered) return fail(ErrorCode::cancelled, "cancelled while " + name + " was at work");
        return fail(ErrorCode::timeout, name + " has not answered to " + kind,
                    "See whether ebbd runs on " + name + " and reaches the controller");
    }
    auto taken = std::move(result->second);
    agent.results.erase(result);
    if (taken.ok) return std::move(taken.value);
    return std::unexpected(taken.error ? api::from_info(*taken.error)
                                       : Error{ErrorCode::protocol, "no error given", {}, {}});
}

void ControllerAgents::wait_for_news(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    const auto before = news_;
    changed_.wait_for(lock, limit, [&] { return stopping_ || news_ != before; });
}

void ControllerAgents::wake() {
    const std::lock_guard lock(mutex_);
    ++news_;
    changed_.notify_all();
}

std::map<std::string, AgentView> ControllerAgents::all() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, AgentView> views;
    for (const auto& [name, agent] : agents_) {
        if (agent.seen || agent.revoked) views.emplace(name, view(agent));
    }
    return views;
}

std::optional<AgentView> ControllerAgents::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = agents_.find(name);
    if (found == agents_.end() || (!found->second.seen && !found->second.revoked))
        return std::nullopt;
    return view(found->second);
}

void ControllerAgents::set_revoked(const std::string& name, bool revoked) {
    const std::lock_guard lock(mutex_);
    auto& agent = agents_[name];
    agent.revoked = revoked;
    if (revoked) agent.seen = false;
    if (revoked) agent.last = {};
    ++news_;
    changed_.notify_all();
}

void ControllerAgents::stop() {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
}

}  // namespace ebb::service
