// SPDX-License-Identifier: Apache-2.0
// Failover and commit. A failover that did not come to its end leaves the state failing-over and is
// run again: each step finds out whether it has been taken.
#include <algorithm>

#include "api/command.h"
#include "api/points.h"
#include "platform/block_table.h"
#include "service/controller_health.h"
#include "service/controller_protections.h"

namespace ebb::service {

namespace {

using api::text;
using provider::PowerState;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds command_patience{60'000};
constexpr milliseconds failover_patience{600'000};
constexpr milliseconds shutdown_patience{20'000};
constexpr milliseconds off_patience{60'000};
constexpr milliseconds look_again{200};

// What the target's last word on its part says against a failover: nothing may be learned only when
// the source is off already.
void check_replica(const api::Json& protection, const AgentView& there,
                   std::vector<Error>& reasons) {
    const auto machine = text(protection, "machine");
    const auto target = text(protection, "target");
    const auto* part = target_part(there, text(protection, "id"));
    if (part == nullptr) {
        reasons.push_back(refusal("E_NOT_REPLICATING",
                                  target + " knows nothing of the protection of " + machine,
                                  "If its state is lost, protect the machine anew"));
        return;
    }
    if (part->state == api::TargetState::error) {
        reasons.push_back(part->error ? api::from_info(*part->error)
                                      : refusal("E_STATE", target + " reports an error",
                                                "See the log of ebbd on " + target));
    }
    if (!part->newest_point) {
        reasons.push_back(refusal("E_NO_POINT", machine + " has no recovery point yet",
                                  "Wait for the end of the initial sync: ebbctl jobs"));
    }
    for (const auto& disk : protection["disks"]) {
        const auto id = platform::normal_id(text(disk, "target_id"));
        const auto is_it = [&](const auto& d) { return platform::normal_id(d.stable_id) == id; };
        if (std::ranges::any_of(there.last.target->disks, is_it)) continue;
        reasons.push_back(refusal("E_DISK_NOT_FOUND",
                                  "the replica " + id + " is not attached to " + target,
                                  "Attach it there; ebbctl disks lists what is"));
    }
}

// The epoch to which a change of the point was on its way; 0: none was.
std::uint64_t moving_to(const api::Json& protection) {
    return protection.value("moving_to", std::uint64_t{0});
}

// Of a failover that was begun: from here on the home machine may run.
bool was_starting(const api::Json& protection) {
    return text(protection, "state") == "failing-over" && protection.value("starting", false);
}

}  // namespace

Error no_provider() {
    return refusal("E_NO_PROVIDER", "the controller has no hypervisor to ask",
                   "Name the machines in its configuration (serve.qemu), and restart it");
}

std::vector<Error> ControllerProtections::against_failover(const api::Json& protection,
                                                           bool unreachable) {
    std::vector<Error> reasons;
    const auto machine = text(protection, "machine");
    const auto target = text(protection, "target");
    const auto state = text(protection, "state");
    const bool again = state == "failing-over";
    if (state != "protected" && state != "initial-sync" && state != "rolling-back" && !again) {
        reasons.push_back(refusal("E_STATE", machine + " is in the state " + state,
                                  "A failover needs the state protected; see ebbctl"));
    }
    const auto there = agents_.find(target);
    check_joined(target, there, reasons);
    if (!again && there && !there->revoked) check_replica(protection, *there, reasons);
    if (auto ok = jobs_.idle(machine); !ok) reasons.push_back(ok.error());
    if (provider_ == nullptr) {
        reasons.push_back(no_provider());
        return reasons;
    }
    const auto home = text(protection, "home_vm");
    if (auto power = provider_->power_state(home); !power) {
        reasons.push_back(power.error());
    } else if (*power != PowerState::off && !was_starting(protection)) {
        reasons.push_back(
            refusal("E_HOME_RUNS", home + " is not off: it would share its disks", "Power it off"));
    }
    if (auto power = provider_->power_state(text(protection, "target_vm")); !power)
        reasons.push_back(power.error());
    if (!unreachable) {
        if (auto power = provider_->power_state(text(protection, "cloud_vm")); !power) {
            reasons.push_back(power.error());
            reasons.back().remedy += "; or, if the source is gone, --source-unreachable";
        }
    }
    return reasons;
}

Outcome ControllerProtections::failover(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    outcome.reasons = against_failover(*protection, call.unreachable);
    if (outcome.reasons.empty() && !call.point.empty()) {
        auto point = point_of(*protection, call.point);
        if (point) outcome.value["point"] = api::encode(*point);
        if (!point) outcome.reasons.push_back(point.error());
    }
    if (call.dry_run && call.point.empty()) {
        const auto there = agents_.find(text(*protection, "target"));
        if (const auto* part = target_part(there, text(*protection, "id"))) {
            if (part->newest_point) outcome.value["point"] = api::encode(*part->newest_point);
            outcome.value["rollback_bytes"] = part->rollback_bytes;
        }
    }
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin_failover(*protection, call.unreachable, {call.point, 0}, api::Json::object());
}

Outcome ControllerProtections::begin_failover(const api::Json& protection, bool unreachable,
                                              const Wanted& wanted, const api::Json& more) {
    return begin({"failover", text(protection, "machine"), false, more}, protection,
                 [this, document = protection, unreachable, wanted](Job& job) {
                     const auto epoch = moving_to(document);
                     if (epoch != 0) return change_steps(job, document, epoch);
                     return failover_steps(job, document, unreachable, wanted);
                 });
}

// Asked, then forced; returns when the hypervisor says that nothing of it runs.
Status ControllerProtections::source_off(Job& job, const api::Json& protection, bool unreachable) {
    const auto vm = text(protection, "cloud_vm");
    if (unreachable) {
        job.progress({{"source_off", "not asked: said to be unreachable"}});
        return {};
    }
    job.step("shutting the source down", 5);
    auto power = provider_->power_state(vm);
    if (!power || *power != PowerState::off) {
        auto asked = call(job, text(protection, "machine"), api::command::source_shutdown,
                          api::Json::object(), shutdown_patience);
        const auto deadline = steady_clock::now() + (asked ? off_patience : milliseconds(0));
        for (;;) {
            power = provider_->power_state(vm);
            if (power && *power == PowerState::off) break;
            if (job.stopping()) return fail(ErrorCode::cancelled, "the controller ends");
            if (steady_clock::now() > deadline) break;
            agents_.wait_for_news(look_again);
        }
    }
    if (power && *power == PowerState::off) {
        job.progress({{"source_off", "proved: the hypervisor runs it no more"}});
        return {};
    }
    job.step("powering the source off", 10);
    if (auto forced = provider_->force_power_off(vm); !forced) return forced;
    job.progress({{"source_off", "proved: forced, the hypervisor runs it no more"}});
    return {};
}

Result<std::vector<api::Point>> ControllerProtections::points_of(const api::Json& protection) {
    auto answer = agents_.call(text(protection, "target"), api::command::target_points,
                               {{"protection", protection["id"]}}, command_patience);
    if (!answer) return std::unexpected(answer.error());
    auto value = api::decode<api::PointsValue>(*answer);
    if (!value) return std::unexpected(value.error());
    return std::move(value->points);
}

Result<api::Point> ControllerProtections::point_of(const api::Json& protection,
                                                   const std::string& words) {
    auto points = points_of(protection);
    if (!points) return std::unexpected(points.error());
    return api::choose_point(*points, words);
}

// The target is there, has the journal open, and the point to go to: its own word, now.
Result<api::Point> ControllerProtections::ask_replica(Job& job, const api::Json& protection,
                                                      const Wanted& wanted) {
    job.step("asking the target for its points", 1);
    auto answer = call(job, text(protection, "target"), api::command::target_points,
                       {{"protection", protection["id"]}}, command_patience);
    if (!answer) return std::unexpected(answer.error());
    auto value = api::decode<api::PointsValue>(*answer);
    if (!value) return std::unexpected(value.error());
    if (value->points.empty()) {
        return fail("E_NO_POINT", ErrorCode::refused,
                    text(protection, "target") + " has no recovery point that can be returned to",
                    "Nothing was done. See ebbctl, and the log of ebbd there");
    }
    if (wanted.epoch != 0) return api::point_of_epoch(value->points, wanted.epoch);
    return api::choose_point(value->points, wanted.words);
}

Status ControllerProtections::failover_steps(Job& job, const api::Json& protection,
                                             bool unreachable, const Wanted& wanted) {
    const bool begun = text(protection, "state") == "failing-over";
    std::string point(api::latest_point);
    if (!begun) {
        auto found = ask_replica(job, protection, wanted);
        if (!found) return std::unexpected(found.error());
        // The newest may be a newer one when the source is off; after half a rollback the target
        // takes it for the one where it is.
        const bool newest =
            wanted.epoch == 0 && (wanted.words.empty() || wanted.words == api::latest_point);
        if (!newest || text(protection, "state") == "rolling-back")
            point = std::to_string(found->epoch);
    }
    if (auto ok = source_off(job, protection, unreachable); !ok) return ok;
    if (!begun) {
        job.step("rolling back to the point, fencing the source", 40);
        const auto session = protection.value("session", std::uint64_t{1}) + 1;
        if (auto ok = go_to_point(job, protection, session, point); !ok) return ok;
    }
    if (!was_starting(protection)) {
        if (auto ok = give_disks_back(job, protection); !ok) return ok;
    }
    return start_home(job, protection);
}

Status ControllerProtections::go_to_point(Job& job, const api::Json& protection,
                                          std::uint64_t session, const std::string& point) {
    const auto begun = steady_clock::now();
    auto result = call(job, text(protection, "target"), api::command::target_failover,
                       {{"protection", protection["id"]}, {"session", session}, {"point", point}},
                       failover_patience);
    if (!result) return std::unexpected(result.error());
    const std::chrono::duration<double> took = steady_clock::now() - begun;
    auto ok = set(protection, {{"session", session},
                               {"state", "failing-over"},
                               {"starting", false},
                               {"moving_to", 0},
                               {"point", (*result)["point"]}});
    if (!ok) return ok;
    job.progress({{"value", *result}, {"failover_seconds", took.count()}});
    return {};
}

std::vector<Error> ControllerProtections::against_change(const api::Json& protection) {
    std::vector<Error> reasons;
    const auto machine = text(protection, "machine");
    const auto state = text(protection, "state");
    if (state != "commit-pending" && !(state == "failing-over" && moving_to(protection) != 0)) {
        reasons.push_back(refusal("E_STATE", machine + " is in the state " + state,
                                  "Another point can be chosen between failover and commit"));
    }
    check_movable(protection, reasons);
    return reasons;
}

void ControllerProtections::check_movable(const api::Json& protection,
                                          std::vector<Error>& reasons) {
    const auto target = text(protection, "target");
    check_joined(target, agents_.find(target), reasons);
    if (auto ok = jobs_.idle(text(protection, "machine")); !ok) reasons.push_back(ok.error());
    if (provider_ == nullptr) {
        reasons.push_back(no_provider());
        return;
    }
    for (const char* vm : {"home_vm", "target_vm"}) {
        if (auto power = provider_->power_state(text(protection, vm)); !power)
            reasons.push_back(power.error());
    }
    for (const auto& disk : protection["disks"]) {
        auto ok = provider_->may_attach(text(protection, "target_vm"), text(disk, "target_id"));
        if (!ok) reasons.push_back(ok.error());
    }
}

Outcome ControllerProtections::change_point(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    outcome.reasons = against_change(*protection);
    std::uint64_t epoch = 0;
    if (outcome.reasons.empty()) {
        auto point = point_of(*protection, call.point);
        if (point) {
            outcome.value["point"] = api::encode(*point);
            epoch = point->epoch;
        } else {
            outcome.reasons.push_back(point.error());
        }
    }
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin_change(*protection, epoch, api::Json::object());
}

Outcome ControllerProtections::begin_change(const api::Json& protection, std::uint64_t epoch,
                                            const api::Json& more) {
    return begin({"change-point", text(protection, "machine"), false, more}, protection,
                 [this, document = protection, epoch](Job& job) {
                     return change_steps(job, document, epoch);
                 });
}

// What the machine has written since the failover goes with its delta.
Status ControllerProtections::change_steps(Job& job, const api::Json& protection,
                                           std::uint64_t epoch) {
    auto ok =
        set(protection, {{"state", "failing-over"}, {"starting", false}, {"moving_to", epoch}});
    if (!ok) return ok;
    if (ok = leave_home(job, protection); !ok) return ok;
    if (ok = take_disks_back(job, protection); !ok) return ok;
    job.step("taking the disks to the point", 40);
    const auto session = protection.value("session", std::uint64_t{1});
    auto moved = go_to_point(job, protection, session, std::to_string(epoch));
    if (!moved && moved.error().code != ErrorCode::no_space) return moved;
    if (!moved) {
        // The disks are where they were: the machine starts there again.
        ok = go_to_point(job, protection, session, std::string(api::latest_point));
        if (!ok) return ok;
    }
    if (ok = give_disks_back(job, protection); !ok) return ok;
    if (ok = start_home(job, protection); !ok) return ok;
    return moved;
}

Status ControllerProtections::take_disks_back(Job& job, const api::Json& protection) {
    job.step("attaching the disks to the target", 20);
    for (const auto& disk : protection["disks"]) {
        auto ok = provider_->attach_disk(text(protection, "target_vm"), text(disk, "target_id"));
        if (!ok) return ok;
    }
    auto seen = call(job, text(protection, "target"), api::command::target_rescan,
                     api::Json::object(), command_patience);
    if (!seen) return std::unexpected(seen.error());
    return {};
}

Status ControllerProtections::give_disks_back(Job& job, const api::Json& protection) {
    job.step("detaching the disks from the target", 60);
    api::Json ids = api::Json::array();
    for (const auto& disk : protection["disks"]) ids.push_back(disk["target_id"]);
    auto forgotten = call(job, text(protection, "target"), api::command::target_forget,
                          {{"disks", ids}}, command_patience);
    if (!forgotten) return std::unexpected(forgotten.error());
    for (const auto& disk : ids) {
        auto ok = provider_->detach_disk(text(protection, "target_vm"), disk.get<std::string>());
        if (!ok) return ok;
    }
    return {};
}

Status ControllerProtections::start_home(Job& job, const api::Json& protection) {
    job.step("starting the machine on a delta above its disks", 80);
    const auto home = text(protection, "home_vm");
    auto power = provider_->power_state(home);
    if (!power) return std::unexpected(power.error());
    // It runs only if this failover has started it: the delta stays as it is then.
    if (*power == PowerState::off) {
        if (auto ok = set(protection, {{"starting", true}}); !ok) return ok;
        if (auto ok = provider_->start_on_delta(home); !ok) return ok;
        power = provider_->power_state(home);
        if (!power) return std::unexpected(power.error());
    }
    if (*power != PowerState::running) {
        return fail("E_HOME_NOT_RUNNING", ErrorCode::io, home + " does not run",
                    "See what the hypervisor says of it, then run the failover again");
    }
    return set(protection, {{"state", "commit-pending"}, {"starting", false}});
}

Outcome ControllerProtections::commit(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    const auto state = text(*protection, "state");
    if (state != "commit-pending") {
        outcome.reasons.push_back(
            refusal("E_STATE", call.machine + " is in the state " + state,
                    "A commit needs the state commit-pending, which a failover leads to"));
    }
    check_joined(text(*protection, "target"), agents_.find(text(*protection, "target")),
                 outcome.reasons);
    if (auto ok = jobs_.idle(call.machine); !ok) outcome.reasons.push_back(ok.error());
    const auto home = text(*protection, "home_vm");
    if (provider_ == nullptr) {
        outcome.reasons.push_back(no_provider());
    } else if (auto power = provider_->power_state(home); !power) {
        outcome.reasons.push_back(power.error());
    } else if (*power != PowerState::running && state == "commit-pending") {
        outcome.reasons.push_back(refusal("E_HOME_NOT_RUNNING", home + " does not run",
                                          "Its delta is merged while it runs: power it on"));
    }
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin({"commit", call.machine, false, api::Json::object()}, *protection,
                 [this, document = *protection](Job& job) { return commit_steps(job, document); });
}

Status ControllerProtections::commit_steps(Job& job, const api::Json& protection) {
    job.step("merging the delta into the disks", 10);
    if (auto ok = provider_->commit_delta(text(protection, "home_vm")); !ok) return ok;
    job.step("closing the recovery points", 80);
    auto done = call(job, text(protection, "target"), api::command::target_commit,
                     {{"protection", protection["id"]}}, command_patience);
    if (!done) return std::unexpected(done.error());
    return set(protection, {{"state", "failed-back"}});
}

}  // namespace ebb::service
