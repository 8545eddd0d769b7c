// SPDX-License-Identifier: Apache-2.0
#include "service/controller_groups.h"

#include <algorithm>
#include <chrono>

#include "service/controller_health.h"

namespace ebb::service {

namespace {

using api::Json;
using api::text;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* group_kind = "group";
constexpr int attempts = 3;
constexpr milliseconds between_attempts{1'000};

std::vector<std::string> machines_of(const Json& group) {
    return group.value("machines", std::vector<std::string>{});
}

std::int64_t wall_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

Json new_group(const std::string& name) {
    return {{"group", name},
            {"machines", Json::array()},
            {"interval_ms", api::default_group_interval_ms},
            {"app_interval_ms", api::default_group_app_interval_ms},
            {"gate_ms", api::default_group_gate_ms},
            {"rpo_s", api::default_group_rpo_s}};
}

// What operators get to see of the document.
Json shown(Json group) {
    for (const char* key : {"newest", "newest_app"}) {
        if (group.contains(key) && group[key].is_object()) group[key].erase("of");
    }
    return group;
}

}  // namespace

ControllerGroups::ControllerGroups(ControllerStore& store, ControllerAgents& agents,
                                   ControllerJobs& jobs, ControllerProtections& protections,
                                   std::string own_name)
    : store_(store),
      agents_(agents),
      jobs_(jobs),
      protections_(protections),
      own_name_(std::move(own_name)),
      cuts_(store, agents, jobs) {}

Result<Json> ControllerGroups::group_of(const std::string& name) {
    auto group = store_.find(group_kind, name);
    if (!group) return std::unexpected(group.error());
    if (*group) return std::move(**group);
    return fail("E_GROUP_NOT_FOUND", ErrorCode::not_found, "there is no group " + name,
                "ebbctl group list shows them; ebbctl group set makes one");
}

// Jobs, events and problems are of either by name.
std::vector<Error> ControllerGroups::against_name(const std::string& name) {
    auto machine = store_.find("machine", name);
    if (!machine) return {machine.error()};
    if (!*machine && name != own_name_) return {};
    return {
        refusal("E_GROUP_NAME", name + " is the name of a machine", "Give the group another name")};
}

Result<std::vector<Error>> ControllerGroups::against_members(
    const std::string& group, const std::vector<std::string>& machines) {
    std::vector<Error> reasons;
    auto groups = store_.all(group_kind);
    if (!groups) return std::unexpected(groups.error());
    for (const auto& machine : machines) {
        bool is_member = false;
        for (const auto& [name, document] : *groups) {
            const auto theirs = machines_of(document);
            if (std::ranges::find(theirs, machine) == theirs.end()) continue;
            is_member = name == group;
            if (is_member) continue;
            reasons.push_back(refusal("E_GROUP_MEMBER", machine + " is in the group " + name,
                                      "Take it out there first: ebbctl group set, or delete"));
        }
        if (is_member) continue;  // one that is not protected any more stays
        auto protection = protections_.protection_of(machine);
        if (protection) continue;
        auto why = protection.error();
        if (why.name() == "E_NOT_PROTECTED") why.detail_code = "E_GROUP_MEMBER";
        reasons.push_back(std::move(why));
    }
    return reasons;
}

Outcome ControllerGroups::set(const api::GroupSetCall& call) {
    auto before = store_.find(group_kind, call.group);
    if (!before) return before.error();
    if (!*before && call.machines.empty()) {
        return Error{
            ErrorCode::invalid,
            "there is no group " + call.group + " yet",
            "Name its machines: ebbctl group set " + call.group + " --machine M --machine N",
            {}};
    }
    Outcome outcome;
    outcome.reasons = against_name(call.group);
    auto members = against_members(call.group, call.machines);
    if (!members) return members.error();
    std::ranges::move(*members, std::back_inserter(outcome.reasons));
    Json fields = Json::object();
    const auto give = [&](const char* key, const std::optional<std::uint64_t>& value) {
        if (value) fields[key] = *value;
    };
    give("interval_ms", call.interval_ms);
    give("app_interval_ms", call.app_interval_ms);
    give("gate_ms", call.gate_ms);
    give("rpo_s", call.rpo_s);
    auto machines = call.machines;
    std::ranges::sort(machines);
    auto group = *before ? **before : new_group(call.group);
    if (!machines.empty() && Json(machines) != group["machines"]) {
        fields.update({{"machines", machines},
                       {"since", now_seconds()},
                       {"newest", nullptr},
                       {"newest_app", nullptr}});
    }
    group.update(fields);
    outcome.value = shown(group);
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    if (!*before) {
        if (auto ok = store_.put(group_kind, call.group, group); !ok) return ok.error();
    }
    // A cut that ends now puts members of its own into the document.
    auto kept = store_.amend(group_kind, call.group, fields);
    if (!kept) return kept.error();
    cuts_.changed();
    return shown(std::move(*kept));
}

Outcome ControllerGroups::remove(const api::GroupCall& call) {
    auto group = group_of(call.group);
    if (!group) return group.error();
    if (call.dry_run) return Outcome();
    if (auto ok = store_.remove(group_kind, call.group); !ok) return ok.error();
    cuts_.changed();
    return Outcome();
}

Outcome ControllerGroups::checkpoint(const api::GroupCheckpointCall& call) {
    auto group = group_of(call.group);
    if (!group) return group.error();
    Outcome outcome;
    std::map<std::string, Error> errors;
    const auto protections = protections_of(*group, errors);
    outcome.reasons = against_common_cuts(*group, protections);
    for (const auto& machine : machines_of(*group)) {
        if (protections.contains(machine)) {
            for (const auto& agent : {machine, text(protections.at(machine), "target")}) {
                if (auto why = agent_problem(agent, agents_.find(agent)))
                    outcome.reasons.push_back(std::move(*why));
            }
        }
        if (auto ok = jobs_.idle(machine); !ok) outcome.reasons.push_back(ok.error());
    }
    drop_doubles(outcome.reasons);
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    ControllerJobs::Order order{"group-checkpoint",
                                call.group,
                                true,
                                {{"again", "See ebbctl group points " + call.group +
                                               " whether it was made, and make another"}}};
    order.aside = true;
    return jobs_.begin(order, [this, call](Job& job) { return checkpoint_steps(job, call); });
}

Status ControllerGroups::checkpoint_steps(Job& job, const api::GroupCheckpointCall& call) {
    Result<CutDone> done = fail(ErrorCode::cancelled, "cancelled");
    for (int attempt = 1; attempt <= attempts; ++attempt) {
        const auto tell = [&](const std::string& step, double percent) {
            const bool again = attempt > 1;
            job.step(again ? step + " (attempt " + std::to_string(attempt) + ")" : step, percent);
        };
        done = cuts_.cut(call.group, {call.name, call.app}, [&job] { return job.ending(); }, tell);
        // What else it is will be no better for being tried again.
        if (done || done.error().name() != "E_COMMON_CUT") break;
        job.progress({{"notice", api::encode(api::to_info(done.error()))}});
        const auto until = steady_clock::now() + between_attempts;
        while (attempt < attempts && !job.ending() && steady_clock::now() < until) {
            agents_.wait_for_news(std::chrono::ceil<milliseconds>(until - steady_clock::now()));
        }
    }
    if (!done) return std::unexpected(done.error());
    job.progress({{"value", api::encode_common(done->point)}, {"held_ms", done->held_ms}});
    if (done->degraded) return std::unexpected(*done->degraded);
    if (done->after) return std::unexpected(*done->after);
    return {};
}

Result<Json> ControllerGroups::all(const Json& protections) {
    auto groups = store_.all(group_kind);
    if (!groups) return std::unexpected(groups.error());
    Protections by_machine;
    for (const auto& protection : protections)
        by_machine.emplace(text(protection, "machine"), protection);
    Json list = Json::array();
    for (auto& [name, group] : *groups)
        list.push_back(
            with_group_health(std::move(group), by_machine, cuts_.course(name), wall_ns()));
    return list;
}

}  // namespace ebb::service
