// SPDX-License-Identifier: Apache-2.0
// Points are given names after they were made, so that they are kept, and lose them again.
#include <algorithm>

#include "api/command.h"
#include "api/points.h"
#include "service/controller_protections.h"

namespace ebb::service {

namespace {

using api::text;
using std::chrono::milliseconds;

constexpr milliseconds patience{60'000};

// What stands against the name; empty: it is to be taken off.
std::optional<Error> against_name(const std::vector<api::Point>& points, const api::Point& point,
                                  const std::string& name) {
    const std::string epoch = std::to_string(point.epoch);
    if (name.empty()) {
        if (!point.name.empty()) return std::nullopt;
        return refusal("E_POINT_NOT_NAMED", "the point of epoch " + epoch + " bears no name",
                       "Nothing keeps it; ebbctl point list shows the names");
    }
    if (!point.name.empty() && point.name != name) {
        return refusal("E_POINT_NAMED",
                       "the point of epoch " + epoch + " is called " + point.name + " already",
                       "Take that name off first: ebbctl point unpin");
    }
    const auto other = std::ranges::find_if(points, [&](const api::Point& one) {
        return one.name == name && one.epoch != point.epoch;
    });
    if (other == points.end()) return std::nullopt;
    return refusal("E_NAME_TAKEN",
                   "the point of epoch " + std::to_string(other->epoch) + " is called " + name,
                   "Give this one another name");
}

}  // namespace

Outcome ControllerProtections::pin_point(const api::PinCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    return name_point("pin-point", *protection, call.point, call.name, call.dry_run);
}

Outcome ControllerProtections::unpin_point(const api::UnpinCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    return name_point("unpin-point", *protection, call.point, {}, call.dry_run);
}

Outcome ControllerProtections::name_point(const std::string& kind, const api::Json& protection,
                                          const std::string& words, const std::string& name,
                                          bool dry_run) {
    Outcome outcome;
    const auto machine = text(protection, "machine");
    const auto state = text(protection, "state");
    if (state != "protected" && state != "initial-sync") {
        outcome.reasons.push_back(
            refusal("E_STATE", machine + " is in the state " + state,
                    "Points are named while the machine is protected; see ebbctl"));
    }
    const auto target = text(protection, "target");
    check_joined(target, agents_.find(target), outcome.reasons);
    std::uint64_t epoch = 0;
    if (outcome.reasons.empty()) {
        auto points = points_of(protection);
        auto point = points ? api::choose_point(*points, words) : std::unexpected(points.error());
        if (!point) {
            outcome.reasons.push_back(point.error());
        } else {
            outcome.value["point"] = api::encode(*point);
            epoch = point->epoch;
            if (auto why = against_name(*points, *point, name))
                outcome.reasons.push_back(std::move(*why));
        }
    }
    if (dry_run || !outcome.reasons.empty()) return outcome;
    ControllerJobs::Order order{
        kind, machine, false, {{"again", "See ebbctl point list " + machine + ", and try again"}}};
    order.aside = true;
    const api::Json args{{"protection", protection["id"]}, {"epoch", epoch}, {"name", name}};
    return begin(order, protection, [this, target, args](Job& job) -> Status {
        job.step("noting it on " + target, 50);
        auto answer = this->call(job, target, api::command::target_name, args, patience);
        if (!answer) return std::unexpected(answer.error());
        auto value = api::decode<api::NameValue>(*answer);
        if (!value) return std::unexpected(value.error());
        job.progress({{"value", *answer}});
        return {};
    });
}

}  // namespace ebb::service
