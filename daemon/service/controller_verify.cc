// SPDX-License-Identifier: Apache-2.0
// Has a source compared with its replica, and a journal read, beside everything else, and notes
// what came of it.
#include <chrono>
#include <iostream>

#include "api/command.h"
#include "base/uuid_text.h"
#include "platform/event_loop.h"
#include "service/controller_health.h"
#include "service/controller_protections.h"
#include "service/findings.h"

namespace ebb::service {

namespace {

using api::text;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds command_patience{60'000};
constexpr milliseconds ask_again{5'000};
constexpr milliseconds look_again{1'000};
constexpr milliseconds journal_patience{24 * 3600 * 1000};

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

Outcome ControllerProtections::verify_retention(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    const auto target = text(*protection, "target");
    check_joined(target, agents_.find(target), outcome.reasons);
    if (auto ok = jobs_.idle(target); !ok) outcome.reasons.push_back(ok.error());
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin(
        {"verify-retention", target, true, api::Json::object()}, *protection,
        [this, document = *protection](Job& job) { return verify_retention_steps(job, document); });
}

Status ControllerProtections::verify_retention_steps(Job& job, const api::Json& protection) {
    job.step("reading the journal of " + text(protection, "machine"), 1);
    auto answer = call(job, text(protection, "target"), api::command::target_verify,
                       {{"protection", protection["id"]}}, journal_patience);
    if (!answer) {
        note_unread(job, protection, answer.error(), false);
        return std::unexpected(answer.error());
    }
    auto value = api::decode<api::VerifyValue>(*answer);
    if (!value) return std::unexpected(value.error());
    if (auto ok = note(job, protection,
                       [&](const auto&) { return journal_was_whole(*value, now_seconds()); });
        !ok)
        return ok;
    job.progress({{"value", *answer}});
    job.step("nothing is missing or changed: " + std::to_string(value->points) + " points, " +
                 std::to_string(value->records) + " records, " + std::to_string(value->bytes) +
                 " bytes",
             100);
    return {};
}

// Jobs that check points of one protection may end at the same time.
Status ControllerProtections::note(Job& job, const api::Json& protection, const Fields& fields) {
    const auto id = text(protection, "id");
    auto before = store_.find("protection", id);
    if (!before) return std::unexpected(before.error());
    const auto damaged = *before ? (*before)->value("damaged_points", api::Json()) : api::Json();
    std::optional<std::vector<api::Point>> points;
    if (damaged.is_array() && !damaged.empty()) points = points_there(job, protection);
    const std::lock_guard lock(findings_mutex_);
    auto now = store_.find("protection", id);
    if (!now) return std::unexpected(now.error());
    if (!*now) return {};  // the protection has ended
    api::Json document = **now;
    api::Json changed = fields(document);
    document.update(changed);
    if (points) changed.update(points_are(document, *points));
    return changed.empty() ? Status{} : set(protection, changed);
}

// The job fails by `error` whatever becomes of the note.
void ControllerProtections::note_unread(Job& job, const api::Json& protection, const Error& error,
                                        bool certifying) {
    const auto view = agents_.find(text(protection, "target"));
    const auto* part = target_part(view, text(protection, "id"));
    // It answers with what is wrong with it, be that of the disks.
    if (error.code == ErrorCode::io && part != nullptr && part->error) return;
    if (!journal_was_not_whole(protection, error, nullptr, certifying, 0)) return;
    const auto points = points_there(job, protection);
    const auto* newest = points && !points->empty() ? &points->back() : nullptr;
    const auto ok = note(job, protection, [&](const api::Json& document) {
        return journal_was_not_whole(document, error, newest, certifying, now_seconds())
            .value_or(api::Json::object());
    });
    if (!ok) std::cerr << "ebbd: job " << job.number() << ": " << ok.error().message << "\n";
}

// None where the target does not say.
std::optional<std::vector<api::Point>> ControllerProtections::points_there(
    Job& job, const api::Json& protection) {
    auto answer = call(job, text(protection, "target"), api::command::target_points,
                       {{"protection", protection["id"]}}, command_patience);
    if (!answer) return std::nullopt;
    auto value = api::decode<api::PointsValue>(*answer);
    if (!value) return std::nullopt;
    return std::move(value->points);
}

}  // namespace ebb::service
