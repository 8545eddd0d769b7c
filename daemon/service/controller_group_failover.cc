// SPDX-License-Identifier: Apache-2.0
// The points that the machines of a group have; all of them failed over, tried, or taken back, to
// one moment.
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

Result<ControllerGroups::Epochs> ControllerGroups::choose(const std::string& group,
                                                          const std::string& point,
                                                          const Points& points, Outcome& outcome) {
    Epochs epochs;
    for (const auto& [machine, there] : points) epochs[machine] = 0;
    if (point == api::latest_point) return epochs;
    auto common = api::choose_common_point(api::common_points(points), point);
    if (!common) {
        auto why = std::move(common.error());
        why.message += " of " + group;
        return std::unexpected(std::move(why));
    }
    outcome.value["common"] = api::encode_common(*common);
    return common->epochs;
}

Outcome ControllerGroups::move(const std::string& name, const std::string& point, bool dry_run,
                               const Move& move) {
    auto group = group_of(name);
    if (!group) return group.error();
    Outcome outcome;
    std::map<std::string, Error> errors;
    const auto protections = protections_of(*group, errors);
    for (auto& [machine, why] : errors) outcome.reasons.push_back(std::move(why));
    errors.clear();
    const auto points = move.to_point ? points_of(protections, errors) : Points{};
    for (const auto& [machine, protection] : protections) {
        auto against = move.against(protection);
        // Where the target cannot be reached that is among them.
        if (against.empty() && errors.contains(machine)) against.push_back(errors.at(machine));
        std::ranges::move(against, std::back_inserter(outcome.reasons));
    }
    Epochs epochs;
    const bool all = errors.empty() && protections.size() == machines_of(*group).size();
    if (move.to_point && all) {
        auto chosen = choose(name, point, points, outcome);
        if (!chosen) outcome.reasons.push_back(chosen.error());
        if (chosen) epochs = std::move(*chosen);
    }
    for (const auto& [machine, epoch] : epochs) {
        if (!move.against_point || epoch == 0) continue;
        if (auto why = move.against_point(protections.at(machine), epoch))
            outcome.reasons.push_back(std::move(*why));
    }
    drop_doubles(outcome.reasons);
    if (dry_run || !outcome.reasons.empty()) return outcome;
    return begin_each(move.words, name, machines_of(*group), [&](const std::string& machine) {
        std::uint64_t epoch = 0;
        if (move.to_point) {
            epoch = epochs.at(machine);
            const auto& there = points.at(machine);
            if (epoch == 0 && move.names_newest && !there.empty()) epoch = there.back().epoch;
        }
        return move.begin(protections.at(machine), epoch);
    });
}

Outcome ControllerGroups::failover(const api::GroupFailoverCall& call) {
    Move move;
    move.words = {"failovers", "E_GROUP_FAILOVER", "ebbctl failover MACHINE --point EPOCH"};
    move.against = [&](const Json& protection) {
        return protections_.against_failover(protection, call.unreachable);
    };
    move.against_point = against_way;
    move.begin = [&](const Json& protection, std::uint64_t epoch) {
        return protections_.begin_failover(protection, call.unreachable, {{}, epoch},
                                           {{"group", call.group}});
    };
    return this->move(call.group, call.point, call.dry_run, move);
}

Outcome ControllerGroups::change_point(const api::GroupMoveCall& call) {
    Move move;
    move.words = {"changes of the point", "E_GROUP_PARTLY",
                  "ebbctl change-point MACHINE --point EPOCH"};
    move.names_newest = true;
    move.against = [&](const Json& protection) { return protections_.against_change(protection); };
    move.begin = [&](const Json& protection, std::uint64_t epoch) {
        return protections_.begin_change(protection, epoch, {{"group", call.group}});
    };
    return this->move(call.group, call.point, call.dry_run, move);
}

Outcome ControllerGroups::rollback(const api::GroupMoveCall& call) {
    Move move;
    move.words = {"rollbacks", "E_GROUP_PARTLY", "ebbctl rollback MACHINE"};
    move.to_point = false;
    move.against = [&](const Json& protection) {
        return protections_.against_rollback(protection);
    };
    move.begin = [&](const Json& protection, std::uint64_t /*epoch*/) {
        return protections_.begin_rollback(protection, {{"group", call.group}});
    };
    return this->move(call.group, {}, call.dry_run, move);
}

Outcome ControllerGroups::test_failover(const api::GroupMoveCall& call) {
    Move move;
    move.words = {"test failovers", "E_GROUP_PARTLY", "ebbctl test-failover MACHINE --point EPOCH"};
    if (call.clean)
        move.words = {"ends of test failovers", "E_GROUP_PARTLY",
                      "ebbctl test-failover MACHINE --clean"};
    move.names_newest = true;
    move.to_point = !call.clean;
    move.against = [&](const Json& protection) {
        return call.clean ? protections_.against_clean(protection)
                          : protections_.against_test(protection);
    };
    move.begin = [&](const Json& protection, std::uint64_t epoch) {
        const Json more{{"group", call.group}};
        return call.clean ? protections_.begin_clean(protection, more)
                          : protections_.begin_test(protection, epoch, more);
    };
    return this->move(call.group, call.point, call.dry_run, move);
}

Outcome begin_each(const BeginWords& words, const std::string& group,
                   const std::vector<std::string>& machines,
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
    outcome.reasons = {
        refusal(words.code,
                "of the group " + group + " " + words.what + " were begun of " + begun +
                    ", but not of " + not_begun,
                "Follow those (ebbctl job watch), and begin the others by themselves" +
                    (words.alone.ends_with("EPOCH")
                         ? ", to the same point: ebbctl group points " + group + ", "
                         : ": ") +
                    words.alone)};
    return outcome;
}

}  // namespace ebb::service
