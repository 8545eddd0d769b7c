// SPDX-License-Identifier: Apache-2.0
// The points that the machines of a group have, and the failover of all of them to one moment.
#include <algorithm>
#include <set>

#include "api/points.h"
#include "service/controller_groups.h"

namespace ebb::service {

namespace {

using api::Json;
using api::text;
using std::chrono::milliseconds;

constexpr milliseconds points_patience{60'000};

std::vector<std::string> machines_of(const Json& group) {
    return group.value("machines", std::vector<std::string>{});
}

// A failover that was begun goes on to the point that it was begun for.
std::optional<Error> against_way(const Json& protection, std::uint64_t epoch) {
    if (text(protection, "state") != "failing-over" || !protection.contains("point")) return {};
    const auto there = protection["point"].value("epoch", std::uint64_t{0});
    if (there == epoch) return {};
    const auto machine = text(protection, "machine");
    return refusal("E_STATE",
                   "the failover of " + machine + " has not ended; it goes to its epoch " +
                       std::to_string(there) + ", which is of another moment",
                   "Run it again (ebbctl failover " + machine +
                       "), then take it to the point of the others: ebbctl change-point");
}

}  // namespace

void drop_doubles(std::vector<Error>& reasons) {
    std::set<std::pair<std::string, std::string>> told;
    std::erase_if(reasons, [&](const Error& why) {
        return !told.emplace(std::string(why.name()), why.message).second;
    });
}

Protections ControllerGroups::protections_of(const Json& group,
                                             std::map<std::string, Error>& errors) {
    Protections all;
    for (const auto& machine : machines_of(group)) {
        auto protection = protections_.protection_of(machine);
        if (protection)
            all.emplace(machine, std::move(*protection));
        else
            errors.emplace(machine, std::move(protection.error()));
    }
    return all;
}

ControllerGroups::Points ControllerGroups::points_of(const Protections& protections,
                                                     std::map<std::string, Error>& errors) {
    Points points;
    std::vector<std::string> asked;
    ControllerAgents::Calls calls;
    for (const auto& [machine, protection] : protections) {
        points[machine];
        if (text(protection, "state") == "failed-back") continue;  // the commit has closed them
        asked.push_back(machine);
        calls.emplace_back(agents_, text(protection, "target"), api::command::target_points,
                           Json{{"protection", protection["id"]}});
    }
    agents_.wait(calls, points_patience);
    for (std::size_t i = 0; i < calls.size(); ++i) {
        const auto& answer = *calls[i].result();
        auto value = answer ? api::decode<api::PointsValue>(*answer)
                            : Result<api::PointsValue>(std::unexpected(answer.error()));
        if (value)
            points[asked[i]] = std::move(value->points);
        else
            errors.emplace(asked[i], std::move(value.error()));
    }
    return points;
}

Outcome ControllerGroups::points(const api::GroupCall& call) {
    auto group = group_of(call.group);
    if (!group) return group.error();
    Outcome outcome;
    std::map<std::string, Error> errors;
    const auto points = points_of(protections_of(*group, errors), errors);
    for (auto& [machine, why] : errors) outcome.reasons.push_back(std::move(why));
    drop_doubles(outcome.reasons);
    outcome.value["points"] = Json::array();
    for (const auto& common : api::common_points(points))
        outcome.value["points"].push_back(api::encode_common(common));
    return outcome;
}

Result<std::map<std::string, std::uint64_t>> ControllerGroups::choose(
    const api::GroupFailoverCall& call, const Points& points, Outcome& outcome) {
    std::map<std::string, std::uint64_t> epochs;
    if (call.point == api::latest_point) return epochs;
    auto common = api::choose_common_point(api::common_points(points), call.point);
    if (!common) {
        auto why = std::move(common.error());
        why.message += " of " + call.group;
        return std::unexpected(std::move(why));
    }
    outcome.value["common"] = api::encode_common(*common);
    return common->epochs;
}

Outcome ControllerGroups::failover(const api::GroupFailoverCall& call) {
    auto group = group_of(call.group);
    if (!group) return group.error();
    Outcome outcome;
    std::map<std::string, Error> errors;
    const auto protections = protections_of(*group, errors);
    for (auto& [machine, why] : errors) outcome.reasons.push_back(std::move(why));
    errors.clear();
    const auto points = points_of(protections, errors);
    for (const auto& [machine, protection] : protections) {
        auto against = protections_.against_failover(protection, call.unreachable);
        // Where the target cannot be reached that is among them.
        if (against.empty() && errors.contains(machine)) against.push_back(errors.at(machine));
        std::ranges::move(against, std::back_inserter(outcome.reasons));
    }
    std::map<std::string, std::uint64_t> epochs;
    if (errors.empty() && protections.size() == machines_of(*group).size()) {
        auto chosen = choose(call, points, outcome);
        if (!chosen) outcome.reasons.push_back(chosen.error());
        if (chosen) epochs = std::move(*chosen);
    }
    for (const auto& [machine, epoch] : epochs) {
        if (auto why = against_way(protections.at(machine), epoch))
            outcome.reasons.push_back(std::move(*why));
    }
    drop_doubles(outcome.reasons);
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin_each(call.group, machines_of(*group), [&](const std::string& machine) {
        const auto found = epochs.find(machine);
        return protections_.begin_failover(protections.at(machine), call.unreachable,
                                           {{}, found == epochs.end() ? 0 : found->second},
                                           {{"group", call.group}});
    });
}

Outcome begin_each(const std::string& group, const std::vector<std::string>& machines,
                   const std::function<Outcome(const std::string& machine)>& begin) {
    Outcome outcome;
    outcome.value["jobs"] = Json::array();
    std::string begun, not_begun;
    for (const auto& machine : machines) {
        auto one = begin(machine);
        if (one.reasons.empty()) {
            begun += (begun.empty() ? "" : ", ") + machine + " (job " +
                     std::to_string(one.value.value("id", std::uint64_t{0})) + ")";
            outcome.value["jobs"].push_back(std::move(one.value));
            continue;
        }
        const auto& why = one.reasons.front();
        not_begun += (not_begun.empty() ? "" : "; ") + machine + ": " + why.message + " (" +
                     std::string(why.name()) + ")";
        outcome.reasons.push_back(why);
    }
    if (not_begun.empty() || begun.empty()) return outcome;
    outcome.reasons = {refusal(
        "E_GROUP_FAILOVER",
        "of the group " + group + " failovers were begun of " + begun + ", but not of " + not_begun,
        "Follow those (ebbctl job watch), and begin the others by "
        "themselves, to the same point: ebbctl group points " +
            group + ", ebbctl failover MACHINE --point EPOCH")};
    return outcome;
}

}  // namespace ebb::service
