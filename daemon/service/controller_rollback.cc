// SPDX-License-Identifier: Apache-2.0
// Back to replication, before the commit of a failover. A rollback that did not come to its end
// leaves the state rolling-back and is run again: each step finds out whether it has been taken.
#include "api/command.h"
#include "service/controller_health.h"
#include "service/controller_protections.h"

namespace ebb::service {

namespace {

using api::text;
using provider::PowerState;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds rewind_patience{600'000};
constexpr milliseconds source_patience{900'000};
constexpr milliseconds look_again{1'000};

}  // namespace

std::vector<Error> ControllerProtections::against_rollback(const api::Json& protection) {
    std::vector<Error> reasons;
    const auto machine = text(protection, "machine");
    const auto state = text(protection, "state");
    if (state != "commit-pending" && state != "failing-over" && state != "rolling-back") {
        reasons.push_back(
            refusal("E_STATE", machine + " is in the state " + state,
                    "A machine goes back to replication between failover and commit"));
    }
    check_movable(protection, reasons);
    const auto source = agents_.find(machine);
    if (source && source->revoked) {
        check_joined(machine, source, reasons);
    } else if (provider_ != nullptr && !provider_->power_state(text(protection, "cloud_vm"))) {
        // Nobody can tell whether it runs but its agent.
        const auto others = reasons.size();
        check_joined(machine, source, reasons);
        if (reasons.size() > others) reasons.back().remedy += "; power the source on first";
    }
    return reasons;
}

Outcome ControllerProtections::rollback(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    outcome.reasons = against_rollback(*protection);
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin_rollback(*protection, api::Json::object());
}

Outcome ControllerProtections::begin_rollback(const api::Json& protection, const api::Json& more) {
    auto wanted = protection;
    wanted["compare"] = true;
    auto document = more;
    document["protection"] = wanted;
    return begin({"rollback", text(protection, "machine"), false, document}, protection,
                 [this, wanted](Job& job) { return rollback_steps(job, wanted); });
}

// What the machine has written at home goes with its delta. The source may have been anywhere
// meanwhile: it is compared as a whole with the newest point before it counts as protected.
Status ControllerProtections::rollback_steps(Job& job, const api::Json& protection) {
    if (job.value("rolled_back") != true) {
        if (provider_ == nullptr) return std::unexpected(no_provider());
        auto ok =
            set(protection, {{"state", "rolling-back"}, {"starting", false}, {"moving_to", 0}});
        if (!ok) return ok;
        // After a restart of the controller agents have still to register.
        if (ok = wait_for_agent(job, text(protection, "target")); !ok) return ok;
        if (ok = leave_home(job, protection); !ok) return ok;
        if (ok = take_disks_back(job, protection); !ok) return ok;
        job.step("taking the replica to the newest point", 40);
        auto resumed = call(job, text(protection, "target"), api::command::target_resume,
                            {{"protection", protection["id"]}}, rewind_patience);
        if (!resumed) return std::unexpected(resumed.error());
        if (ok = start_source(job, protection); !ok) return ok;
        // From here on it is a resync, and said to be one if it fails.
        if (ok = set(protection, {{"state", "initial-sync"}, {"point", nullptr}}); !ok) return ok;
        job.remember({{"rolled_back", true}});
    }
    job.set_cancellable(true);
    return resync_steps(job, protection);
}

Status ControllerProtections::leave_home(Job& job, const api::Json& protection) {
    job.step("powering the machine off", 5);
    const auto home = text(protection, "home_vm");
    if (auto ok = provider_->force_power_off(home); !ok) return ok;
    return provider_->drop_delta(home);
}

// A source that the provider cannot start is somebody else's to power on, and waited for.
Status ControllerProtections::start_source(Job& job, const api::Json& protection) {
    const auto machine = text(protection, "machine");
    const auto vm = text(protection, "cloud_vm");
    const auto power = provider_->power_state(vm);
    if (!power || *power != PowerState::off) return {};
    // What it said before it was shut down may be young enough to be taken for its word now.
    const auto last = agents_.find(machine);
    const auto before = last ? last->last.incarnation : std::string{};
    job.step("starting the source", 60);
    if (auto started = provider_->power_on(vm); !started) {
        if (started.error().name() != "E_MACHINE_NO_START") return started;
        job.step("waiting for " + machine + ": power it on", 60);
    }
    const auto until = steady_clock::now() + source_patience;
    for (;;) {
        const auto now = agents_.find(machine);
        if (now && !agent_problem(machine, now) && now->last.incarnation != before) return {};
        if (job.ending()) return fail(ErrorCode::cancelled, "the controller ends");
        if (steady_clock::now() > until) {
            return fail("E_AGENT_NOT_REGISTERED", ErrorCode::timeout,
                        machine + " does not register; the replica is at the newest point",
                        "Power it on and run the rollback again, or fail over again: ebbctl "
                        "failover " +
                            machine);
        }
        agents_.wait_for_news(look_again);
    }
}

}  // namespace ebb::service
