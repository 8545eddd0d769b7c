// SPDX-License-Identifier: Apache-2.0
#include "service/group_health.h"

#include <algorithm>

#include "api/error.h"
#include "api/operator.h"

namespace ebb::service {

namespace {

using api::Json;
using api::text;

constexpr double ns_per_second = 1e9;
constexpr double ms_per_second = 1e3;

double number(const Json& object, const char* key) {
    return static_cast<double>(object.value(key, std::uint64_t{0}));
}

double seconds_since(double ns, std::int64_t now_ns) {
    return std::max(0.0, (static_cast<double>(now_ns) - ns) / ns_per_second);
}

std::string whole(double value) {
    return std::to_string(static_cast<long>(value));
}

// Of a group that makes cuts regularly.
std::optional<Error> cuts_problem(const Json& group, const GroupCourse& course, double age,
                                  double limit) {
    const auto name = text(group, "group");
    const std::string why = course.why ? course.why->message : "";
    if (course.failures >= failures_told) {
        return refusal("E_COMMON_CUT",
                       std::to_string(course.failures) + " common cuts of " + name +
                           " have failed in a row: " + why,
                       course.why->remedy);
    }
    if (age <= limit) return std::nullopt;
    const bool has_one = group.value("newest", Json()).is_object();
    return refusal(
        "E_COMMON_CUT",
        (has_one ? "the newest point that the machines of " + name + " have in common is " +
                       whole(age) + " s old, " + whole(limit) + " are allowed"
                 : "the machines of " + name + " have no point in common") +
            (why.empty() ? "" : ": " + why),
        "Make one, and see why it fails: ebbctl checkpoint --group " + name + " --wait");
}

std::optional<Error> app_problem(const Json& group, double age) {
    const double interval = number(group, "app_interval_ms") / ms_per_second;
    if (interval <= 0 || age <= 2 * interval) return std::nullopt;
    const auto name = text(group, "group");
    return refusal(
        "E_APP_OLD",
        group.value("newest_app", Json()).is_object()
            ? "the newest application-consistent point that the machines of " + name +
                  " have in common is " + whole(age / 60) + " min old"
            : "the machines of " + name + " have no application-consistent point in common",
        "Make one, and see why it fails: ebbctl checkpoint --group " + name + " --app --wait");
}

}  // namespace

std::vector<Error> against_common_cuts(const Json& group, const Protections& protections) {
    std::vector<Error> reasons;
    const auto name = text(group, "group");
    for (const auto& machine : group.value("machines", std::vector<std::string>{})) {
        const auto found = protections.find(machine);
        const auto state =
            found == protections.end() ? std::string() : text(found->second, "state");
        if (state == "protected") continue;
        reasons.push_back(refusal(
            "E_GROUP_MEMBER",
            machine + " of the group " + name +
                (state.empty() ? " is not protected" : " is in the state " + state) +
                ": no common points are made",
            state == "initial-sync" ? "Wait for the end of its initial sync: ebbctl jobs"
                                    : "Protect it again, or leave it out: ebbctl group set " +
                                          name + " --machine ..."));
    }
    return reasons;
}

Json point_there(const Json& group, const char* key, const Protections& protections) {
    auto point = group.value(key, Json());
    if (!point.is_object()) return {};
    for (const auto& machine : group.value("machines", std::vector<std::string>{})) {
        const auto found = protections.find(machine);
        if (found == protections.end()) return {};
        const auto& protection = found->second;
        if (text(point["of"], machine.c_str()) != text(protection, "id")) return {};
        // The commit has closed its points.
        if (text(protection, "state") == "failed-back") return {};
        const auto epoch = point["epochs"].value(machine, std::uint64_t{0});
        if (epoch < protection.value("oldest_epoch", std::uint64_t{0})) return {};
    }
    point.erase("of");
    return point;
}

Json with_group_health(Json group, const Protections& protections, const GroupCourse& course,
                       std::int64_t now_ns) {
    for (const char* key : {"newest", "newest_app"})
        group[key] = point_there(group, key, protections);
    // What has just been made is given time.
    const double since = number(group, "since") * ns_per_second;
    const auto age_of = [&](const char* key) {
        const auto& point = group[key];
        return seconds_since(point.is_object() ? number(point, "time_ns") : since, now_ns);
    };
    const double age = age_of("newest");
    const double app_age = age_of("newest_app");
    const double interval = number(group, "interval_ms") / ms_per_second;
    const double limit = std::max(number(group, "rpo_s"), 3 * interval);
    if (group["newest"].is_object()) group["rpo_seconds"] = age;
    if (group["newest_app"].is_object()) group["app_seconds"] = app_age;
    group["rpo_limit_s"] = limit;
    auto reasons = against_common_cuts(group, protections);
    if (reasons.empty() && interval > 0) {
        if (auto why = cuts_problem(group, course, age, limit)) reasons.push_back(std::move(*why));
    }
    if (reasons.empty()) {
        if (auto why = app_problem(group, app_age)) reasons.push_back(std::move(*why));
    }
    group["problems"] = Json::array();
    for (const auto& why : reasons) {
        auto problem = api::encode(api::to_info(why));
        problem["severity"] = "warning";
        group["problems"].push_back(std::move(problem));
    }
    group["health"] = reasons.empty() ? "ok" : "warning";
    return group;
}

}  // namespace ebb::service
