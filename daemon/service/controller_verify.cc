// SPDX-License-Identifier: Apache-2.0
// Has a source compared with its replica, beside everything else, and notes what came of it.
#include <chrono>

#include "api/command.h"
#include "base/uuid_text.h"
#include "platform/event_loop.h"
#include "service/controller_health.h"
#include "service/controller_protections.h"

namespace ebb::service {

namespace {

using api::text;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds command_patience{60'000};
constexpr milliseconds ask_again{5'000};
constexpr milliseconds look_again{1'000};

std::string sentence(const api::ReplicaValue& value) {
    return std::to_string(value.equal_bytes) + " bytes are equal, " +
           std::to_string(value.repaired_bytes) + " of them were repaired, " +
           std::to_string(value.different_bytes) + " differ, " +
           std::to_string(value.discarded_bytes) + " were discarded; points " +
           std::to_string(value.first_epoch) + " to " + std::to_string(value.last_epoch);
}

}  // namespace

std::vector<Error> ControllerProtections::against_checking(const api::Json& protection,
                                                           const std::string& what, bool source) {
    std::vector<Error> reasons;
    const auto machine = text(protection, "machine");
    const auto state = text(protection, "state");
    if (state != "protected") {
        reasons.push_back(refusal("E_STATE", machine + " is in the state " + state,
                                  "To " + what + " needs the state protected; see ebbctl"));
    }
    if (source) check_joined(machine, agents_.find(machine), reasons);
    const auto target = text(protection, "target");
    check_joined(target, agents_.find(target), reasons);
    return reasons;
}

Outcome ControllerProtections::verify(const api::VerifyCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    if (!call.point.empty()) return verify_point(call, *protection);
    Outcome outcome;
    outcome.reasons = against_checking(*protection, "verify");
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    const api::Json wanted{{"run", to_text(platform::SystemRandom().uuid())},
                           {"repair", call.repair},
                           {"mib_per_s", call.mib_per_s}};
    ControllerJobs::Order order{
        "verify", call.machine, true, {{"protection", *protection}, {"wanted", wanted}}};
    order.aside = true;
    return begin(order, *protection, [this, document = *protection, wanted](Job& job) {
        return verify_steps(job, document, wanted);
    });
}

// The result comes with the source's status. A source that was restarted meanwhile is asked again,
// and begins anew. A failover ends it.
Status ControllerProtections::verify_steps(Job& job, const api::Json& protection,
                                           const api::Json& wanted) {
    const auto machine = text(protection, "machine");
    const auto run = text(wanted, "run");
    auto args = wanted;
    args["protection"] = protection["id"];
    job.step("comparing source and replica", 0);
    auto ask_at = steady_clock::now();
    while (!job.ending()) {
        const auto now = store_.find("protection", text(protection, "id"));
        if (!now) return std::unexpected(now.error());
        if (!*now || text(**now, "state") != "protected") {
            return fail("E_STATE", ErrorCode::busy,
                        "the state of " + machine + " has changed meanwhile", "See ebbctl");
        }
        const auto view = agents_.find(machine);
        const auto* part = source_part(view, text(protection, "id"));
        const bool ours = part != nullptr && part->verify && part->verify->run == run;
        if (ours && part->verify->error)
            return std::unexpected(api::from_info(*part->verify->error));
        if (ours && part->verify->result) return verified(job, protection, *part->verify->result);
        api::Json news{{"notice", nullptr}};
        if (const auto problem = agent_problem(machine, view))
            news["notice"] = api::encode(api::to_info(*problem));
        if (ours && part->verify->total != 0) {
            news.update({{"percent", 99.0 * static_cast<double>(part->verify->done) /
                                         static_cast<double>(part->verify->total)},
                         {"bytes_done", part->verify->done},
                         {"bytes_total", part->verify->total}});
        }
        job.progress(news);
        if (!ours && news["notice"].is_null() && steady_clock::now() >= ask_at) {
            ask_at = steady_clock::now() + ask_again;
            auto asked = call(job, machine, api::command::source_verify, args, command_patience);
            if (!asked && asked.error().code != ErrorCode::timeout)
                return std::unexpected(asked.error());
        }
        agents_.wait_for_news(look_again);
    }
    return fail(ErrorCode::cancelled, "cancelled: nobody waits for it any more",
                "The comparison itself goes on, and ends by itself");
}

Status ControllerProtections::verified(Job& job, const api::Json& protection,
                                       const api::ReplicaValue& value) {
    const auto answer = api::encode(value);
    const auto machine = text(protection, "machine");
    auto kept = answer;
    kept.erase("differences");
    kept["time"] = now_seconds();
    if (auto ok = set(protection, {{"verified", kept}}); !ok) return ok;
    job.progress({{"value", answer}});
    job.step(sentence(value), 99);
    if (value.different_bytes == 0) return {};
    return fail("E_REPLICA_DIFFERS", ErrorCode::corrupt,
                std::to_string(value.different_bytes) + " bytes of the replica of " + machine +
                    " are not what its disks have, or could not be compared",
                "ebbctl --json job watch " + std::to_string(job.number()) +
                    " lists where; ebbctl verify " + machine + " --repair sends them again");
}

}  // namespace ebb::service
