// SPDX-License-Identifier: Apache-2.0
#include "service/controller_agents.h"

#include <algorithm>
#include <utility>

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
    const auto incarnation = request.incarnation;
    agent.last = std::move(request);
    agent.site = site;
    agent.seen = true;
    agent.heard = std::chrono::steady_clock::now();
    ++news_;
    changed_.notify_all();
    // What the agent has had already is no reason to answer: it would come back at once, and be in
    // its pause between exchanges when there is something new.
    changed_.wait_for(lock, hold, [&] {
        return stopping_ || std::ranges::any_of(agent.pending, [&](const auto& one) {
                   return one.second.given_to != incarnation || one.second.haste == Haste::brief;
               });
    });
    api::ExchangeAnswer answer;
    answer.site = site;
    for (auto& [id, pending] : agent.pending) {
        pending.given_to = incarnation;
        answer.commands.push_back(pending.command);
    }
    return answer;
}

Result<std::uint64_t> ControllerAgents::begin(const std::string& name, const std::string& kind,
                                              api::Json args, Haste haste) {
    const std::lock_guard lock(mutex_);
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
    agent.pending[id] = {{id, kind, std::move(args)}, haste, {}};
    changed_.notify_all();
    return id;
}

void ControllerAgents::forget(const Call& call) {
    const std::lock_guard lock(mutex_);
    auto& agent = agents_[call.name_];
    agent.pending.erase(call.id_);
    agent.results.erase(call.id_);
}

void ControllerAgents::take(Call& call) {
    if (call.id_ == 0) return;
    auto& agent = agents_[call.name_];
    const auto found = agent.results.find(call.id_);
    if (found == agent.results.end()) return;
    auto& result = found->second;
    if (result.ok)
        call.result_ = std::move(result.value);
    else
        call.result_ =
            std::unexpected(result.error ? api::from_info(*result.error)
                                         : Error{ErrorCode::protocol, "no error given", {}, {}});
    agent.results.erase(found);
    call.id_ = 0;
}

ControllerAgents::Call::Call(ControllerAgents& agents, std::string name, const std::string& kind,
                             api::Json args, Haste haste)
    : agents_(&agents), name_(std::move(name)), kind_(kind) {
    auto id = agents.begin(name_, kind, std::move(args), haste);
    if (id)
        id_ = *id;
    else
        result_ = std::unexpected(std::move(id.error()));
}

ControllerAgents::Call::Call(Call&& other) noexcept
    : agents_(other.agents_),
      name_(std::move(other.name_)),
      kind_(std::move(other.kind_)),
      id_(std::exchange(other.id_, 0)),
      result_(std::move(other.result_)) {}

ControllerAgents::Call::~Call() {
    if (id_ != 0) agents_->forget(*this);
}

void ControllerAgents::wait(Calls& calls, std::chrono::milliseconds patience, const GiveUp& give_up,
                            Until until, Calls* beside) {
    std::unique_lock lock(mutex_);
    const auto ended = [](const Call& one) { return one.result() != nullptr; };
    const auto failed = [](const Call& one) { return one.result() && !*one.result(); };
    const auto enough = [&] {
        for (auto& one : calls) take(one);
        if (beside != nullptr)
            for (auto& one : *beside) take(one);
        if (std::ranges::all_of(calls, ended)) return true;
        if (until == Until::one_failed && std::ranges::any_of(calls, failed)) return true;
        return beside != nullptr && std::ranges::any_of(*beside, ended);
    };
    bool cancelled = false;
    const bool in_time = changed_.wait_for(lock, patience, [&] {
        if (enough()) return true;
        cancelled = stopping_ || (give_up && give_up());
        return cancelled;
    });
    if (in_time && !cancelled) return;
    for (auto& one : calls) {
        if (one.result_) continue;
        agents_[one.name_].pending.erase(one.id_);
        one.id_ = 0;
        one.result_ =
            cancelled
                ? fail(ErrorCode::cancelled, "cancelled while " + one.name_ + " was at work")
                : fail(ErrorCode::timeout, one.name_ + " has not answered to " + one.kind_,
                       "See whether ebbd runs on " + one.name_ + " and reaches the controller");
    }
}

Result<api::Json> ControllerAgents::call(const std::string& name, const std::string& kind,
                                         api::Json args, std::chrono::milliseconds patience,
                                         const GiveUp& give_up) {
    Calls one;
    one.emplace_back(*this, name, kind, std::move(args));
    wait(one, patience, give_up);
    return std::move(*one.front().result_);
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
