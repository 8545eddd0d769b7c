// SPDX-License-Identifier: Apache-2.0
// Points that are read while replication goes on, and machines that are started on them for a
// test. Their jobs bear the name of what is served beside the machine's: nobody who has to fail
// over waits for a test.
#include <algorithm>

#include "api/command.h"
#include "api/points.h"
#include "service/controller_health.h"
#include "service/controller_protections.h"

namespace ebb::service {

namespace {

using api::text;
using provider::PowerState;
using std::chrono::milliseconds;

constexpr milliseconds serve_patience{3'600'000};
constexpr milliseconds unserve_patience{60'000};
constexpr milliseconds ask_patience{60'000};
constexpr const char* test_name = "test";

std::string test_vm(const api::Json& protection) {
    const auto name = text(protection, "test_vm");
    return name.empty() ? text(protection, "machine") + "-test" : name;
}

// Of a job.
std::string place(const std::string& machine, const std::string& name) {
    return machine + "/" + name;
}

std::string clean_words(const std::string& machine) {
    return "ebbctl test-failover " + machine + " --clean";
}

}  // namespace

std::vector<Error> ControllerProtections::against_serving(const api::Json& protection) {
    std::vector<Error> reasons;
    const auto state = text(protection, "state");
    if (state != "protected" && state != "initial-sync") {
        reasons.push_back(refusal("E_STATE",
                                  text(protection, "machine") + " is in the state " + state,
                                  "Points are served while the machine is protected; see ebbctl"));
    }
    const auto target = text(protection, "target");
    check_joined(target, agents_.find(target), reasons);
    return reasons;
}

Result<api::Json> ControllerProtections::serve(Job& job, const api::Json& protection,
                                               const std::string& name, std::uint64_t epoch) {
    job.step("preparing the point of epoch " + std::to_string(epoch), 10);
    auto answer =
        call(job, text(protection, "target"), api::command::target_serve,
             {{"protection", protection["id"]}, {"name", name}, {"point", std::to_string(epoch)}},
             serve_patience);
    if (!answer) return answer;
    auto value = api::decode<api::ServeValue>(*answer);
    if (!value) return std::unexpected(value.error());
    return answer;
}

Outcome ControllerProtections::serve_point(const api::ServeCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    outcome.reasons = against_serving(*protection);
    if (call.name == test_name) {
        outcome.reasons.push_back(refusal("E_NAME_TAKEN", "test is the name of a test failover",
                                          "Give the point that is served another name"));
    }
    const auto job_place = place(call.machine, call.name);
    if (auto ok = jobs_.idle(job_place); !ok) outcome.reasons.push_back(ok.error());
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    const std::string again = "End what was begun: ebbctl point unserve " + call.machine;
    return begin({"serve-point", job_place, true, {{"again", again}}}, *protection,
                 [this, document = *protection, call](Job& job) -> Status {
                     std::uint64_t epoch = call.epoch;
                     if (epoch == 0) {
                         auto found = ask_replica(job, document, {call.point});
                         if (!found) return std::unexpected(found.error());
                         epoch = found->epoch;
                     }
                     auto value = serve(job, document, call.name, epoch);
                     if (!value) return std::unexpected(value.error());
                     job.progress({{"value", *value}});
                     return {};
                 });
}

Outcome ControllerProtections::served_point(const api::ServedCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    return agents_.call(text(*protection, "target"), api::command::target_served,
                        {{"protection", (*protection)["id"]}, {"name", call.name}}, ask_patience);
}

Outcome ControllerProtections::unserve_point(const api::UnserveCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    if (call.name == test_name) {
        outcome.reasons.push_back(refusal("E_NAME_TAKEN", "test is the name of a test failover",
                                          "End it by " + clean_words(call.machine)));
    }
    const auto target = text(*protection, "target");
    check_joined(target, agents_.find(target), outcome.reasons);
    const auto job_place = place(call.machine, call.name);
    if (auto ok = jobs_.idle(job_place); !ok) outcome.reasons.push_back(ok.error());
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    const api::Json args{
        {"protection", (*protection)["id"]}, {"name", call.name}, {"keep", test_name}};
    const std::string again = "Run it again: ebbctl point unserve " + call.machine;
    return jobs_.begin({"unserve-point", job_place, false, {{"again", again}}},
                       [this, target, args](Job& job) -> Status {
                           auto done = this->call(job, target, api::command::target_unserve, args,
                                                  unserve_patience);
                           if (!done) return std::unexpected(done.error());
                           return {};
                       });
}

std::vector<Error> ControllerProtections::against_test(const api::Json& protection) {
    auto reasons = against_serving(protection);
    const auto machine = text(protection, "machine");
    if (has_test(protection)) reasons.push_back(test_runs(machine));
    if (auto ok = jobs_.idle(place(machine, test_name)); !ok) reasons.push_back(ok.error());
    if (provider_ == nullptr) {
        reasons.push_back(
            refusal("E_NO_PROVIDER", "the controller has no hypervisor to ask",
                    "Name the machines in its configuration (serve.qemu), and restart it"));
        return reasons;
    }
    const auto vm = test_vm(protection);
    auto power = provider_->power_state(vm);
    if (!power) {
        reasons.push_back(power.error());
    } else if (*power != PowerState::off && !has_test(protection)) {
        reasons.push_back(refusal("E_TEST_RUNS", vm + " is not off", "Power it off"));
    }
    return reasons;
}

Outcome ControllerProtections::test_failover(const api::TestFailoverCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    outcome.reasons = call.clean ? against_clean(*protection) : against_test(*protection);
    if (call.clean) {
        if (call.dry_run || !outcome.reasons.empty()) return outcome;
        return begin_clean(*protection, api::Json::object());
    }
    std::uint64_t wanted = 0;
    if (outcome.reasons.empty()) {
        auto point = point_of(*protection, call.point);
        if (point) {
            outcome.value["point"] = api::encode(*point);
            wanted = point->epoch;
        } else {
            outcome.reasons.push_back(point.error());
        }
    }
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin_test(*protection, wanted, api::Json::object());
}

Outcome ControllerProtections::begin_test(const api::Json& protection, std::uint64_t epoch,
                                          const api::Json& more) {
    const auto machine = text(protection, "machine");
    auto document = more;
    document["again"] = "Clean it up: " + clean_words(machine);
    return begin(
        {"test-failover", place(machine, test_name), true, document}, protection,
        [this, protection, epoch](Job& job) { return test_steps(job, protection, epoch); });
}

Status ControllerProtections::test_steps(Job& job, const api::Json& protection,
                                         std::uint64_t epoch) {
    const auto vm = test_vm(protection);
    // Noted before there is anything to clean up.
    auto ok = set(protection, {{"test", {{"vm", vm}, {"since", now_seconds()}}}});
    if (!ok) return ok;
    auto served = serve(job, protection, test_name, epoch);
    Status status;
    if (!served) status = std::unexpected(served.error());
    if (status) {
        job.set_cancellable(false);
        job.step("starting " + vm + " on overlays above the point", 70);
        std::vector<provider::TestImage> images;
        for (const auto& disk : (*served)["exports"])
            images.push_back({text(disk, "target_id"), text(disk, "uri")});
        status = provider_->start_test(vm, images);
    }
    if (!status) {
        // Where that fails, too, it stays noted.
        (void)clean_steps(job, protection);
        return status;
    }
    api::Json test{{"vm", vm}, {"since", now_seconds()}, {"point", (*served)["point"]}};
    if (ok = set(protection, {{"test", test}}); !ok) return ok;
    api::Json value = *served;
    value["vm"] = vm;
    job.progress({{"value", value}});
    job.step(vm + " runs on the point of epoch " +
                 std::to_string(value["point"].value("epoch", std::uint64_t{0})),
             100);
    return {};
}

std::vector<Error> ControllerProtections::against_clean(const api::Json& protection) {
    if (auto ok = jobs_.idle(place(text(protection, "machine"), test_name)); !ok)
        return {ok.error()};
    return {};
}

Outcome ControllerProtections::begin_clean(const api::Json& protection, const api::Json& more) {
    const auto machine = text(protection, "machine");
    auto document = more;
    document["again"] = "Run it again: " + clean_words(machine);
    return jobs_.begin({"clean-test", place(machine, test_name), false, document},
                       [this, protection](Job& job) { return clean_steps(job, protection); });
}

// Whatever is there of it, and however often.
Status ControllerProtections::clean_steps(Job& job, const api::Json& protection) {
    job.set_cancellable(false);
    const auto vm = test_vm(protection);
    job.step("powering " + vm + " off, and dropping its overlays", 75);
    Status status;
    if (provider_ != nullptr) {
        status = provider_->end_test(vm);
        // A machine that the hypervisor does not know was never started.
        if (!status && status.error().name() == "E_MACHINE_UNKNOWN") status = {};
    }
    job.step("ending the exports", 90);
    auto done =
        agents_.call(text(protection, "target"), api::command::target_unserve,
                     {{"protection", protection["id"]}, {"name", test_name}}, unserve_patience);
    if (!status) return status;
    if (!done) return std::unexpected(done.error());
    return set(protection, {{"test", nullptr}});
}

}  // namespace ebb::service
