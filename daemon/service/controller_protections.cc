// SPDX-License-Identifier: Apache-2.0
#include "service/controller_protections.h"

#include <algorithm>
#include <set>

#include "api/command.h"
#include "base/uuid_text.h"
#include "platform/block_table.h"
#include "platform/event_loop.h"
#include "service/controller_health.h"

namespace ebb::service {

namespace {

using api::text;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds command_patience{60'000};
constexpr milliseconds checkpoint_patience{600'000};
constexpr milliseconds stop_patience{20'000};
constexpr milliseconds registration_patience{300'000};
constexpr milliseconds look_again{1'000};

api::Json named(const api::Json& protection) {
    return {{"protection", text(protection, "id")}};
}

// The smallest usable target disk that nobody has taken and that is large enough.
const api::TargetDisk* choose(const std::vector<api::TargetDisk>& disks, std::uint64_t size,
                              const std::set<std::string>& taken) {
    const api::TargetDisk* best = nullptr;
    for (const auto& disk : disks) {
        if (!disk.usable || !disk.in_use_by.empty() || disk.size < size ||
            taken.contains(disk.stable_id))
            continue;
        if (best == nullptr || disk.size < best->size) best = &disk;
    }
    return best;
}

bool is_disk(const api::SourceDisk& disk, const std::string& word) {
    return word == disk.name || (!disk.stable_id.empty() &&
                                 platform::normal_id(word) == platform::normal_id(disk.stable_id));
}

bool is_excluded(const api::ProtectCall& call, const api::SourceDisk& disk) {
    return std::ranges::any_of(call.exclude, [&](const auto& word) { return is_disk(disk, word); });
}

// Options that name a disk which is not there are mistakes, not wishes.
void check_words(const api::ProtectCall& call, const api::SourceStatus& source,
                 std::vector<Error>& reasons) {
    const auto check = [&](const std::string& word) {
        if (std::ranges::any_of(source.disks, [&](const auto& d) { return is_disk(d, word); }))
            return;
        reasons.push_back(refusal("E_DISK_NOT_FOUND", call.machine + " has no disk " + word,
                                  "ebbctl disks lists them"));
    };
    for (const auto& pair : call.disks) check(pair.source_id);
    for (const auto& word : call.exclude) check(word);
}

std::string wanted_target(const api::ProtectCall& call, const api::SourceDisk& disk) {
    for (const auto& pair : call.disks) {
        if (is_disk(disk, pair.source_id)) return platform::normal_id(pair.target_id);
    }
    return {};
}

api::Json prepare_args(const api::Json& protection) {
    return {{"protection", protection["id"]},       {"machine", protection["machine"]},
            {"session", protection["session"]},     {"source_name", protection["machine"]},
            {"retention", protection["retention"]}, {"overwrite", protection["overwrite"]},
            {"disks", protection["disks"]}};
}

api::Json source_args(const api::Json& protection, const api::DataAddress& address) {
    api::Json disks = api::Json::array();
    for (const auto& disk : protection["disks"]) {
        disks.push_back(
            {{"index", disk["index"]}, {"stable_id", disk["source_id"]}, {"size", disk["size"]}});
    }
    return {{"protection", protection["id"]},
            {"session", protection["session"]},
            {"disks", disks},
            {"target",
             {{"host", address.host}, {"port", address.port}, {"name", protection["target"]}}},
            {"interval_ms", protection["interval_ms"]},
            {"app_interval_ms", protection.value("app_interval_ms", api::default_app_interval_ms)},
            {"full", true},
            {"compare", protection.value("compare", false)}};
}

// A point that is not what was asked for is there all the same.
Status judge_checkpoint(const api::Json& json) {
    auto value = api::decode<api::CheckpointValue>(json);
    if (!value) return std::unexpected(value.error());
    const std::string epoch = std::to_string(value->epoch);
    if (value->degraded) {
        auto error = api::from_info(*value->degraded);
        error.message += "; the point of epoch " + epoch + " is crash-consistent";
        return std::unexpected(std::move(error));
    }
    if (value->post) {
        auto error = api::from_info(*value->post);
        error.message += "; the point of epoch " + epoch + " is application-consistent";
        return std::unexpected(std::move(error));
    }
    return {};
}

}  // namespace

struct ControllerProtections::Plan {
    api::Json document;
    std::vector<Error> reasons;
};

ControllerProtections::ControllerProtections(ControllerStore& store, ControllerAgents& agents,
                                             ControllerJobs& jobs, provider::Provider* provider,
                                             platform::KeyAndCertificate authority)
    : store_(store),
      agents_(agents),
      jobs_(jobs),
      provider_(provider),
      authority_(std::move(authority)) {}

Result<api::Json> ControllerProtections::protection_of(const std::string& machine) {
    auto all = store_.all("protection");
    if (!all) return std::unexpected(all.error());
    for (auto& [id, document] : *all) {
        if (text(document, "machine") == machine) return std::move(document);
    }
    auto joined = store_.find("machine", machine);
    if (!joined) return std::unexpected(joined.error());
    if (!*joined) {
        return fail("E_MACHINE_NOT_FOUND", ErrorCode::not_found,
                    "no machine " + machine + " has joined", "ebbctl machines lists them");
    }
    return fail("E_NOT_PROTECTED", ErrorCode::not_found, machine + " is not protected",
                "Protect it: ebbctl protect " + machine);
}

Status ControllerProtections::set(const api::Json& protection, const api::Json& fields) {
    auto done = store_.amend("protection", text(protection, "id"), fields);
    if (!done) return std::unexpected(done.error());
    return {};
}

Result<api::Json> ControllerProtections::call(Job& job, const std::string& machine,
                                              const char* kind, api::Json args,
                                              milliseconds patience) {
    return agents_.call(machine, kind, std::move(args), patience, [&job] { return job.ending(); });
}

// Two commands at once: the one that comes second sees what the first has made of it.
Outcome ControllerProtections::begin(const ControllerJobs::Order& order,
                                     const api::Json& protection, ControllerJobs::Steps steps) {
    auto same = [this, protection, steps = std::move(steps)](Job& job) -> Status {
        auto now = store_.find("protection", text(protection, "id"));
        if (!now) return std::unexpected(now.error());
        if (!*now || text(**now, "state") != text(protection, "state")) {
            return fail("E_STATE", ErrorCode::busy,
                        text(protection, "machine") + " has changed its state meanwhile",
                        "See ebbctl, and try again");
        }
        return steps(job);
    };
    return jobs_.begin(order, std::move(same));
}

void ControllerProtections::check_joined(const std::string& machine,
                                         const std::optional<AgentView>& view,
                                         std::vector<Error>& reasons) {
    const auto joined = store_.find("machine", machine);
    if (joined && !*joined) {
        reasons.push_back(refusal(
            "E_MACHINE_NOT_FOUND", "no machine " + machine + " has joined",
            "Join it: ebbctl token create --machine " + machine + ", then ebbd join on it"));
    } else if (auto problem = agent_problem(machine, view)) {
        reasons.push_back(std::move(*problem));
    }
}

void ControllerProtections::plan_disks(const api::ProtectCall& call,
                                       const api::SourceStatus& source,
                                       const api::TargetStatus& target, Plan& plan) {
    auto& disks = plan.document["disks"];
    check_words(call, source, plan.reasons);
    std::set<std::string> taken;
    for (const auto& pair : call.disks) taken.insert(platform::normal_id(pair.target_id));
    for (const auto& disk : source.disks) {
        // A drive without a medium is not a disk of the machine.
        if (is_excluded(call, disk) || disk.size == 0) continue;
        for (const auto& why : disk.reasons) plan.reasons.push_back(api::from_info(why));
        auto id = wanted_target(call, disk);
        if (id.empty()) {
            if (const auto* found = choose(target.disks, disk.size, taken)) id = found->stable_id;
        }
        if (id.empty()) {
            plan.reasons.push_back(
                refusal("E_DISK_NO_TARGET",
                        call.target + " has no usable disk for " + disk.name + " (" +
                            std::to_string(disk.size) + " bytes)",
                        "Attach one behind an LSI Logic controller (ebbctl disks says why others "
                        "are refused), or leave this one out (--exclude " +
                            disk.name + ")"));
            continue;
        }
        taken.insert(id);
        disks.push_back({{"index", disks.size()},
                         {"source_id", disk.stable_id},
                         {"target_id", id},
                         {"size", disk.size}});
    }
    if (disks.empty() && plan.reasons.empty()) {
        plan.reasons.push_back(refusal("E_NO_DISKS", call.machine + " has no disk to protect",
                                       "See ebbctl disks, and what --exclude leaves out"));
    }
}

// The target's own word on its volume and disks, their content too.
void ControllerProtections::check_at_target(Plan& plan) {
    auto verdict = agents_.call(text(plan.document, "target"), api::command::target_check,
                                prepare_args(plan.document), command_patience);
    if (!verdict) {
        plan.reasons.push_back(verdict.error());
        return;
    }
    auto value = api::decode<api::CheckValue>(*verdict);
    if (!value) {
        plan.reasons.push_back(value.error());
        return;
    }
    for (const auto& why : value->reasons) plan.reasons.push_back(api::from_info(why));
}

// The protection that `call` asks for, and every reason against it.
ControllerProtections::Plan ControllerProtections::plan(const api::ProtectCall& call) {
    const auto source = agents_.find(call.machine);
    const auto target = agents_.find(call.target);
    const auto or_else = [](const std::string& word, const std::string& other) {
        return word.empty() ? other : word;
    };
    Plan plan;
    plan.document = {{"id", to_text(platform::SystemRandom().uuid())},
                     {"machine", call.machine},
                     {"target", call.target},
                     {"session", 1},
                     {"retention", call.retention},
                     {"overwrite", call.overwrite},
                     {"interval_ms", call.interval_ms},
                     {"app_interval_ms", call.app_interval_ms},
                     {"rpo_s", call.rpo_s},
                     {"cloud_vm", or_else(call.cloud_vm, call.machine)},
                     {"home_vm", or_else(call.home_vm, call.machine + "-home")},
                     {"target_vm", or_else(call.target_vm, call.target)},
                     {"test_vm", or_else(call.test_vm, call.machine + "-test")},
                     {"disks", api::Json::array()},
                     {"state", "initial-sync"},
                     {"preparing", true}};
    check_joined(call.machine, source, plan.reasons);
    check_joined(call.target, target, plan.reasons);
    if (source && !source->last.source) {
        plan.reasons.push_back(refusal("E_NOT_A_SOURCE", call.machine + " does not run as a source",
                                       "Give its ebbd the role source"));
    } else if (source && !source->last.source->module.loaded) {
        plan.reasons.push_back(source->last.source->module.error
                                   ? api::from_info(*source->last.source->module.error)
                                   : refusal("E_MODULE_NOT_LOADED",
                                             "the module is not loaded on " + call.machine,
                                             "Load it there: modprobe ebb"));
    }
    if (target && !target->last.target) {
        plan.reasons.push_back(refusal("E_NOT_A_TARGET", call.target + " is not a master target",
                                       "ebbctl targets lists them"));
    }
    if (!source || !target || !source->last.source || !target->last.target) return plan;
    if (call.retention.empty() && !target->last.target->volumes.empty())
        plan.document["retention"] = target->last.target->volumes.front().path;
    plan_disks(call, *source->last.source, *target->last.target, plan);
    if (!plan.document["disks"].empty() && !agent_problem(call.target, target))
        check_at_target(plan);
    return plan;
}

Outcome ControllerProtections::protect(const api::ProtectCall& call, bool again) {
    auto existing = protection_of(call.machine);
    Outcome refused;
    if (existing && !(again && text(*existing, "state") == "failed-back")) {
        const bool back = text(*existing, "state") == "failed-back";
        refused.reasons.push_back(refusal(
            back ? "E_STATE" : "E_PROTECTED",
            call.machine + (back ? " was failed back" : " is protected already"),
            back ? "Replicate it again: ebbctl reprotect " + call.machine
                 : "To begin anew, end that protection first: ebbctl disable " + call.machine));
    }
    // The document that knows of it is to be replaced.
    if (existing && again && has_test(*existing))
        refused.reasons.push_back(test_runs(call.machine));
    if (auto ok = jobs_.idle(call.machine); !ok) refused.reasons.push_back(ok.error());
    auto planned = plan(call);
    planned.reasons.insert(planned.reasons.begin(), refused.reasons.begin(), refused.reasons.end());
    if (call.dry_run || !planned.reasons.empty()) {
        refused.value = planned.document;
        refused.reasons = std::move(planned.reasons);
        return refused;
    }
    const std::string old = existing ? text(*existing, "id") : std::string{};
    planned.document["replaces"] = old;
    const ControllerJobs::Order order{
        again ? "reprotect" : "protect", call.machine, true, {{"protection", planned.document}}};
    return jobs_.begin(order, [this, document = planned.document](Job& job) {
        return protect_steps(job, document, true);
    });
}

// `anew`: nothing of it has been done; otherwise it goes on after a restart of the controller.
Status ControllerProtections::protect_steps(Job& job, const api::Json& protection, bool anew) {
    const auto id = text(protection, "id");
    const auto machine = text(protection, "machine");
    if (anew) {
        auto existing = protection_of(machine);
        if (existing && text(*existing, "id") != text(protection, "replaces"))
            return fail("E_PROTECTED", ErrorCode::exists, machine + " is protected already",
                        "See ebbctl");
        // Remembered before anybody is asked to do something for it.
        if (auto ok = store_.put("protection", id, protection); !ok) return ok;
        if (auto old = text(protection, "replaces"); !old.empty()) {
            if (auto ok = store_.remove("protection", old); !ok) return ok;
        }
    }
    if (auto ok = begin_at_agents(job, protection, anew); !ok) {
        if (job.stopping()) return ok;
        return undo_protect(job, protection, ok.error());
    }
    auto synced = wait_until_synced(job, protection);
    if (synced || job.stopping() || synced.error().code != ErrorCode::cancelled) return synced;
    return undo_protect(job, protection, synced.error());
}

Status ControllerProtections::begin_at_agents(Job& job, const api::Json& protection, bool anew) {
    const auto machine = text(protection, "machine");
    const auto target = text(protection, "target");
    if (auto ok = wait_for_agent(job, target); !ok) return ok;
    if (auto ok = wait_for_agent(job, machine); !ok) return ok;
    if (!anew && job.value("begun") == true) return {};
    if (const auto old = text(protection, "replaces"); !old.empty()) {
        job.step("ending what is left of the earlier protection", 0);
        auto ended =
            call(job, machine, api::command::source_stop, {{"protection", old}}, stop_patience);
        if (!ended) return std::unexpected(ended.error());
    }
    job.step("checking and reserving the target's disks", 0);
    auto prepared =
        call(job, target, api::command::target_prepare, prepare_args(protection), command_patience);
    if (!prepared) return std::unexpected(prepared.error());
    job.step("attaching the tracking module", 1);
    const auto view = agents_.find(target);
    if (!view || !view->last.target) {
        return fail("E_NOT_A_TARGET", ErrorCode::refused, target + " is no master target any more",
                    "Give its ebbd the role target");
    }
    auto begun = call(job, machine, api::command::source_protect,
                      source_args(protection, view->last.target->data_address), command_patience);
    if (!begun) return std::unexpected(begun.error());
    job.remember({{"begun", true}});
    return set(protection, {{"preparing", false}});
}

// Until the target has a point that the source knows of, and that was not there before the job:
// what agents said before they were asked to begin says nothing of it.
Status ControllerProtections::wait_until_synced(Job& job, const api::Json& protection) {
    const auto id = text(protection, "id");
    const auto machine = text(protection, "machine");
    const auto target = text(protection, "target");
    job.step("initial sync", 2);
    const auto kept = job.value("epoch_before");
    const auto before = kept.is_number() ? kept.get<std::uint64_t>() : 0;
    while (!job.ending()) {
        const auto source = agents_.find(machine);
        const auto there = agents_.find(target);
        const auto* sent = source_part(source, id);
        const auto* received = target_part(there, id);
        api::Json news{{"notice", nullptr}};
        if (sent != nullptr) {
            const double part = sent->bytes_total == 0 ? 0
                                                       : static_cast<double>(sent->bytes_done) /
                                                             static_cast<double>(sent->bytes_total);
            news.update({{"percent", 2 + 97 * std::min(part, 1.0)},
                         {"bytes_done", sent->bytes_done},
                         {"bytes_total", sent->bytes_total},
                         {"rate_bytes_per_s", sent->rate_bytes_per_s},
                         {"compared_bytes", sent->compared_bytes},
                         {"same_bytes", sent->same_bytes}});
            if (sent->error) news["notice"] = api::encode(*sent->error);
        }
        if (received != nullptr && received->error) news["notice"] = api::encode(*received->error);
        for (const auto& [name, view] : {std::pair(&target, &there), {&machine, &source}}) {
            if (auto problem = agent_problem(*name, *view))
                news["notice"] = api::encode(api::to_info(*problem));
        }
        if (sent != nullptr && sent->state == api::SourceState::fenced) {
            return fail(ErrorCode::fenced, machine + " was failed over from",
                        "See ebbctl, and disable the protection");
        }
        job.progress(news);
        if (sent != nullptr && sent->state == api::SourceState::replicating &&
            received != nullptr && received->newest_point && received->newest_point->epoch > before)
            return set(protection, {{"state", "protected"}, {"preparing", false}});
        agents_.wait_for_news(look_again);
    }
    return fail(ErrorCode::cancelled, "cancelled");
}

// The machine is as it was before; where that cannot be had, the protection stays to be disabled.
Status ControllerProtections::undo_protect(Job& job, const api::Json& protection, Error why) {
    job.set_cancellable(false);
    job.step("taking back what was begun", job.value("percent").get<double>());
    const auto machine = text(protection, "machine");
    auto stopped =
        agents_.call(machine, api::command::source_stop, named(protection), stop_patience);
    auto given_up = agents_.call(text(protection, "target"), api::command::target_disable,
                                 named(protection), command_patience);
    if (stopped && given_up) {
        if (auto ok = store_.remove("protection", text(protection, "id")); !ok) return ok;
        return std::unexpected(std::move(why));
    }
    why.message += "; what was begun could not be taken back: " +
                   (given_up ? stopped.error().message : given_up.error().message);
    why.remedy = "End it when both machines can be reached: ebbctl disable " + machine;
    (void)set(protection, {{"preparing", false}});
    return std::unexpected(std::move(why));
}

Status ControllerProtections::wait_for_agent(Job& job, const std::string& name) {
    const auto until = steady_clock::now() + registration_patience;
    bool told = false;
    for (;;) {
        const auto problem = agent_problem(name, agents_.find(name));
        if (!problem) break;
        if (!told) job.step("waiting for the agent of " + name, job.value("percent").get<double>());
        told = true;
        if (job.ending()) return fail(ErrorCode::cancelled, "cancelled");
        if (steady_clock::now() > until) return std::unexpected(*problem);
        agents_.wait_for_news(look_again);
    }
    return {};
}

Outcome ControllerProtections::checkpoint(const api::CheckpointCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    if (text(*protection, "state") != "protected") {
        outcome.reasons.push_back(
            refusal("E_STATE", call.machine + " is in the state " + text(*protection, "state"),
                    "A checkpoint needs the state protected; see ebbctl"));
    }
    check_joined(call.machine, agents_.find(call.machine), outcome.reasons);
    if (auto ok = jobs_.idle(call.machine); !ok) outcome.reasons.push_back(ok.error());
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    const api::Json command{{"protection", text(*protection, "id")},
                            {"name", call.name},
                            {"export", call.export_},
                            {"app", call.app}};
    return begin({"checkpoint", call.machine, true, api::Json::object()}, *protection,
                 [this, command, machine = call.machine](Job& job) -> Status {
                     job.step("waiting for the point to be durable on the target", 10);
                     auto value = this->call(job, machine, api::command::source_checkpoint, command,
                                             checkpoint_patience);
                     if (!value) return std::unexpected(value.error());
                     job.progress({{"value", *value}});
                     return judge_checkpoint(*value);
                 });
}

Outcome ControllerProtections::interval(const api::IntervalCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    api::Json fields{{"interval_ms", call.interval_ms}};
    if (call.app_interval_ms) fields["app_interval_ms"] = *call.app_interval_ms;
    api::Json args = fields;
    args["protection"] = text(*protection, "id");
    auto done = agents_.call(call.machine, api::command::source_interval, std::move(args),
                             command_patience);
    if (!done) return done.error();
    if (call.rpo_s) fields["rpo_s"] = *call.rpo_s;
    return store_.amend("protection", text(*protection, "id"), fields);
}

Outcome ControllerProtections::points(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    if (text(*protection, "state") == "failed-back")  // its points were closed by the commit
        return api::encode(api::PointsValue{});
    return agents_.call(text(*protection, "target"), api::command::target_points,
                        named(*protection), command_patience);
}

Outcome ControllerProtections::resync(const api::ResyncCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    const auto state = text(*protection, "state");
    if (state != "protected" && state != "initial-sync") {
        outcome.reasons.push_back(refusal("E_STATE", call.machine + " is in the state " + state,
                                          "A resync needs the state protected; see ebbctl"));
    }
    check_joined(call.machine, agents_.find(call.machine), outcome.reasons);
    check_joined(text(*protection, "target"), agents_.find(text(*protection, "target")),
                 outcome.reasons);
    if (auto ok = jobs_.idle(call.machine); !ok) outcome.reasons.push_back(ok.error());
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    auto wanted = *protection;
    wanted["compare"] = call.compare;
    return begin({"resync", call.machine, true, {{"protection", wanted}}}, *protection,
                 [this, wanted](Job& job) { return resync_steps(job, wanted); });
}

// The target knows the protection; its points stay, and everything is gone over.
Status ControllerProtections::resync_steps(Job& job, const api::Json& protection) {
    if (job.value("begun") != true) {
        if (!job.value("epoch_before").is_number()) {
            const auto there = agents_.find(text(protection, "target"));
            const auto* part = target_part(there, text(protection, "id"));
            const bool has_point = part != nullptr && part->newest_point;
            job.remember({{"epoch_before", has_point ? part->newest_point->epoch : 0}});
        }
        const auto machine = text(protection, "machine");
        if (auto ok = wait_for_agent(job, machine); !ok) return ok;
        job.step("stopping replication", 0);
        auto stopped =
            call(job, machine, api::command::source_stop, named(protection), command_patience);
        if (!stopped) return std::unexpected(stopped.error());
        auto again = protection;
        again["replaces"] = "";
        if (auto ok = begin_at_agents(job, again, true); !ok) return ok;
    }
    auto synced = wait_until_synced(job, protection);
    // What an earlier verification found has been gone over.
    if (synced) return set(protection, {{"verified", nullptr}});
    if (synced.error().code != ErrorCode::cancelled) return synced;
    return fail(ErrorCode::cancelled, "cancelled: nobody waits for the resync any more",
                "It goes on by itself; ebbctl disable ends it");
}

Outcome ControllerProtections::disable(const api::MachineCall& call) {
    auto protection = protection_of(call.machine);
    if (!protection) return protection.error();
    Outcome outcome;
    if (!call.unreachable) {
        const auto target = text(*protection, "target");
        check_joined(target, agents_.find(target), outcome.reasons);
        if (text(*protection, "state") == "protected" ||
            text(*protection, "state") == "initial-sync")
            check_joined(call.machine, agents_.find(call.machine), outcome.reasons);
        for (auto& why : outcome.reasons)
            why.remedy += "; or end it without them: ebbctl disable --unreachable";
    }
    if (has_test(*protection)) outcome.reasons.push_back(test_runs(call.machine));
    if (auto ok = jobs_.idle(call.machine); !ok) outcome.reasons.push_back(ok.error());
    if (call.dry_run || !outcome.reasons.empty()) return outcome;
    return begin({"disable", call.machine, false, api::Json::object()}, *protection,
                 [this, document = *protection, force = call.unreachable](Job& job) {
                     return disable_steps(job, document, force);
                 });
}

Status ControllerProtections::disable_steps(Job& job, const api::Json& protection, bool force) {
    const auto state = text(protection, "state");
    job.step("detaching the tracking module", 10);
    // A source that was failed over from, or is gone, has nothing to stop.
    auto stopped = call(job, text(protection, "machine"), api::command::source_stop,
                        named(protection), stop_patience);
    if (!stopped && !force && (state == "protected" || state == "initial-sync"))
        return std::unexpected(stopped.error());
    job.step("closing the recovery points", 60);
    auto done = call(job, text(protection, "target"), api::command::target_disable,
                     named(protection), command_patience);
    if (!done && !force) return std::unexpected(done.error());
    if (!done) job.progress({{"left", "the recovery points on " + text(protection, "target")}});
    return store_.remove("protection", text(protection, "id"));
}

Status ControllerProtections::take_up(std::vector<api::Json> jobs) {
    for (auto& document : jobs) {
        const auto kind = text(document, "kind");
        const auto machine = text(document, "machine");
        const auto kept = document.value("protection", api::Json());
        if (kept.is_object() && (kind == "protect" || kind == "reprotect")) {
            auto stored = store_.find("protection", text(kept, "id"));
            if (!stored) return std::unexpected(stored.error());
            const bool anew = !*stored;
            jobs_.resume(document,
                         [this, kept, anew](Job& job) { return protect_steps(job, kept, anew); });
            continue;
        }
        if (kept.is_object() && kind == "verify") {
            const auto wanted = document.value("wanted", api::Json());
            jobs_.resume(document, [this, kept, wanted](Job& job) {
                return verify_steps(job, kept, wanted);
            });
            continue;
        }
        if (kept.is_object() && kind == "resync") {
            jobs_.resume(document, [this, kept](Job& job) { return resync_steps(job, kept); });
            continue;
        }
        if (kept.is_object() && kind == "rollback") {
            jobs_.resume(document, [this, kept](Job& job) { return rollback_steps(job, kept); });
            continue;
        }
        std::string remedy =
            "Run it again, it goes on where it was: ebbctl " + kind + " " + machine;
        if (kind == "checkpoint")
            remedy = "See ebbctl points " + machine + " whether it was made, and make another";
        if (const auto again = text(document, "again"); !again.empty()) remedy = again;
        if (auto ok = jobs_.interrupt(std::move(document), remedy); !ok) return ok;
    }
    return {};
}

}  // namespace ebb::service
