// SPDX-License-Identifier: Apache-2.0
// The controller's operations on protections: what each checks first, and the steps of its job.
#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "api/command.h"
#include "platform/block_table.h"
#include "service/controller_role.h"
#include "service/uuid_text.h"

namespace ebb::service {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds command_patience{60'000};
constexpr milliseconds checkpoint_patience{600'000};
constexpr milliseconds shutdown_patience{20'000};
constexpr milliseconds off_patience{60'000};
constexpr milliseconds look_again{200};
constexpr double silent_seconds = 60;
constexpr std::uint64_t default_interval_ms = 5000;

Error reason(const char* code, std::string sentence, std::string remedy) {
    return Error{ErrorCode::refused, std::move(sentence), std::move(remedy), code};
}

std::string text(const api::Json& object, const char* key, const std::string& fallback = {}) {
    return object.value(key, fallback);
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

std::string wanted_target(const api::Json& args, const std::string& source_id) {
    for (const auto& pair : args.value("disks", api::Json::array())) {
        if (platform::normal_id(text(pair, "source_id")) == source_id)
            return platform::normal_id(text(pair, "target_id"));
    }
    return {};
}

void check_machine(const std::optional<AgentView>& view, const std::string& name,
                   std::vector<Error>& reasons) {
    if (!view) {
        reasons.push_back(reason("E_AGENT_NOT_REGISTERED",
                                 "the agent of " + name + " has not registered",
                                 "Wait, and try again"));
    } else if (view->seconds_silent > silent_seconds) {
        reasons.push_back(reason("E_AGENT_SILENT", "the agent of " + name + " is silent",
                                 "See whether ebbd runs there"));
    }
}

}  // namespace

Result<api::Json> ControllerRole::protection_of(const api::Json& args) {
    const auto machine = text(args, "machine");
    const std::lock_guard lock(mutex_);
    auto all = store_->all("protection");
    if (!all) return std::unexpected(all.error());
    for (auto& [id, document] : *all) {
        if (text(document, "machine") == machine) return std::move(document);
    }
    return fail("E_NOT_PROTECTED", ErrorCode::not_found, machine + " is not protected",
                "See ebbctl protect");
}

Status ControllerRole::save(const api::Json& protection) {
    const std::lock_guard lock(mutex_);
    return store_->put("protection", text(protection, "id"), protection);
}

// The protection that `args` ask for, and every reason against it at once in "reasons".
Result<api::Json> ControllerRole::plan(const api::Json& args) {
    std::vector<Error> reasons;
    const auto machine = text(args, "machine");
    const auto target = text(args, "target");
    const auto source_view = agents_.find(machine);
    const auto target_view = agents_.find(target);
    check_machine(source_view, machine, reasons);
    check_machine(target_view, target, reasons);
    api::Json disks = api::Json::array();
    std::string retention = text(args, "retention");
    if (source_view && target_view && source_view->last.source && target_view->last.target) {
        const auto& source = *source_view->last.source;
        const auto& there = *target_view->last.target;
        if (!source.module.loaded && source.module.error)
            reasons.push_back(api::from_info(*source.module.error));
        std::set<std::string> taken;
        for (const auto& disk : source.disks) {
            for (const auto& why : disk.reasons) reasons.push_back(api::from_info(why));
            auto id = wanted_target(args, disk.stable_id);
            if (id.empty()) {
                const auto* found = choose(there.disks, disk.size, taken);
                if (found != nullptr) id = found->stable_id;
            }
            if (id.empty()) {
                reasons.push_back(reason("E_DISK_NO_TARGET",
                                         target + " has no usable disk for " + disk.name + " (" +
                                             std::to_string(disk.size) + " bytes)",
                                         "Attach one behind an LSI Logic controller; see ebbctl "
                                         "disks"));
            }
            taken.insert(id);
            disks.push_back({{"index", disks.size()},
                             {"source_id", disk.stable_id},
                             {"target_id", id},
                             {"size", disk.size}});
        }
        if (retention.empty() && !there.volumes.empty()) retention = there.volumes.front().path;
    }
    api::Json why = api::Json::array();
    for (const auto& one : reasons) why.push_back(api::encode(api::to_info(one)));
    return api::Json{{"id", to_text(platform::SystemRandom().uuid())},
                     {"machine", machine},
                     {"target", target},
                     {"session", 1},
                     {"retention", retention},
                     {"overwrite", args.value("overwrite", false)},
                     {"interval_ms", args.value("interval_ms", default_interval_ms)},
                     {"cloud_vm", text(args, "cloud_vm", machine)},
                     {"home_vm", text(args, "home_vm", machine + "-home")},
                     {"target_vm", text(args, "target_vm", target)},
                     {"disks", disks},
                     {"state", "initial-sync"},
                     {"reasons", why}};
}

Result<api::Json> ControllerRole::protect(const api::Json& args) {
    if (protection_of(args)) {
        return fail("E_PROTECTED", ErrorCode::exists, text(args, "machine") + " is protected",
                    "Disable the protection first");
    }
    auto planned = plan(args);
    if (!planned) return planned;
    if (args.value("dry_run", false)) return planned;
    if (!(*planned)["reasons"].empty()) {
        auto first = api::decode<api::ErrorInfo>((*planned)["reasons"][0]);
        if (!first) return std::unexpected(first.error());
        return std::unexpected(api::from_info(*first));
    }
    planned->erase("reasons");
    return begin("protect", text(args, "machine"),
                 [this, document = *planned](Job& job) { return protect_steps(job, document); });
}

Status ControllerRole::protect_steps(Job& job, api::Json protection) {
    const auto id = text(protection, "id");
    const auto machine = text(protection, "machine");
    const auto target = text(protection, "target");
    step(job, "checking and reserving the target's disks", 0);
    auto prepared = agents_.call(target, api::command::target_prepare,
                                 {{"protection", id},
                                  {"machine", machine},
                                  {"session", protection["session"]},
                                  {"source_name", machine},
                                  {"retention", protection["retention"]},
                                  {"overwrite", protection["overwrite"]},
                                  {"disks", protection["disks"]}},
                                 command_patience);
    if (!prepared) return std::unexpected(prepared.error());
    if (auto ok = save(protection); !ok) return ok;
    step(job, "attaching the tracking module", 1);
    const auto view = agents_.find(target);
    const auto address = view->last.target->data_address;
    api::Json chosen = api::Json::array();
    for (const auto& disk : protection["disks"]) {
        chosen.push_back(
            {{"index", disk["index"]}, {"stable_id", disk["source_id"]}, {"size", disk["size"]}});
    }
    auto begun = agents_.call(
        machine, api::command::source_protect,
        {{"protection", id},
         {"session", protection["session"]},
         {"disks", chosen},
         {"target", {{"host", address.host}, {"port", address.port}, {"name", target}}},
         {"interval_ms", protection["interval_ms"]},
         {"full", true}},
        command_patience);
    if (!begun) return std::unexpected(begun.error());
    step(job, "initial sync", 2);
    while (!cancelled(job)) {
        const auto source = agents_.find(machine);
        const auto there = agents_.find(target);
        for (const auto& p : source->last.source->protections) {
            if (p.id != id) continue;
            const double part = p.bytes_total == 0 ? 0
                                                   : static_cast<double>(p.bytes_done) /
                                                         static_cast<double>(p.bytes_total);
            progress(job, {{"percent", 2 + 97 * part},
                           {"bytes_done", p.bytes_done},
                           {"bytes_total", p.bytes_total},
                           {"rate_bytes_per_s", p.rate_bytes_per_s}});
        }
        for (const auto& p : there->last.target->protections) {
            if (p.id != id || !p.newest_point) continue;
            protection["state"] = "protected";
            return save(protection);
        }
        std::this_thread::sleep_for(look_again);
    }
    return fail(ErrorCode::cancelled, "cancelled; the initial sync goes on until ebbctl disable");
}

Result<api::Json> ControllerRole::checkpoint(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    const api::Json command{{"protection", text(*protection, "id")},
                            {"name", text(args, "name")},
                            {"export", text(args, "export")}};
    return begin("checkpoint", text(args, "machine"),
                 [this, command, machine = text(args, "machine")](Job& job) -> Status {
                     step(job, "waiting for the point to be durable on the target", 10);
                     auto value = agents_.call(machine, api::command::source_checkpoint, command,
                                               checkpoint_patience);
                     if (!value) return std::unexpected(value.error());
                     progress(job, {{"value", *value}});
                     return {};
                 });
}

Result<api::Json> ControllerRole::interval(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    const auto interval_ms = args.value("interval_ms", default_interval_ms);
    auto done = agents_.call(
        text(args, "machine"), api::command::source_interval,
        {{"protection", text(*protection, "id")}, {"interval_ms", interval_ms}}, command_patience);
    if (!done) return done;
    (*protection)["interval_ms"] = interval_ms;
    if (auto ok = save(*protection); !ok) return std::unexpected(ok.error());
    return protection;
}

Result<api::Json> ControllerRole::points(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    return agents_.call(text(*protection, "target"), api::command::target_points,
                        {{"protection", text(*protection, "id")}}, command_patience);
}

Result<api::Json> ControllerRole::failover(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    const bool unreachable = args.value("source_unreachable", false);
    std::vector<Error> reasons;
    if (text(*protection, "state") != "protected") {
        reasons.push_back(
            reason("E_STATE",
                   text(args, "machine") + " is " + text(*protection, "state") + ", not protected",
                   "See ebbctl"));
    }
    check_machine(agents_.find(text(*protection, "target")), text(*protection, "target"), reasons);
    if (!provider_) {
        reasons.push_back(reason("E_NO_PROVIDER", "no hypervisor is configured",
                                 "Name the machines in the controller's configuration"));
    } else if (auto home = provider_->power_state(text(*protection, "home_vm")); !home) {
        reasons.push_back(home.error());
    } else if (*home != provider::PowerState::off) {
        reasons.push_back(
            reason("E_HOME_RUNS", text(*protection, "home_vm") + " is not off", "Power it off"));
    }
    if (provider_ && !unreachable) {
        auto source = provider_->power_state(text(*protection, "cloud_vm"));
        if (!source) reasons.push_back(source.error());
    }
    if (args.value("dry_run", false)) {
        api::Json why = api::Json::array();
        for (const auto& one : reasons) why.push_back(api::encode(api::to_info(one)));
        return api::Json{{"reasons", why}};
    }
    if (!reasons.empty()) return std::unexpected(reasons.front());
    return begin("failover", text(args, "machine"),
                 [this, document = *protection, unreachable](Job& job) {
                     return failover_steps(job, document, unreachable);
                 });
}

// Asked, then forced; returns when the hypervisor says that nothing of it runs.
Status ControllerRole::source_off(Job& job, const api::Json& protection, bool unreachable) {
    const auto machine = text(protection, "machine");
    const auto vm = text(protection, "cloud_vm");
    if (unreachable) {
        progress(job, {{"source_off", "not asked: said to be unreachable"}});
        return {};
    }
    step(job, "shutting the source down", 5);
    auto asked = agents_.call(machine, api::command::source_shutdown, api::Json::object(),
                              shutdown_patience);
    const auto deadline = steady_clock::now() + (asked ? off_patience : milliseconds(0));
    for (;;) {
        auto power = provider_->power_state(vm);
        if (power && *power == provider::PowerState::off) {
            progress(job, {{"source_off", "proved: the hypervisor runs it no more"}});
            return {};
        }
        if (steady_clock::now() > deadline) break;
        std::this_thread::sleep_for(look_again);
    }
    step(job, "powering the source off", 10);
    if (auto forced = provider_->force_power_off(vm); !forced) return forced;
    progress(job, {{"source_off", "proved: forced, the hypervisor runs it no more"}});
    return {};
}

Status ControllerRole::failover_steps(Job& job, api::Json protection, bool unreachable) {
    const auto id = text(protection, "id");
    const auto target = text(protection, "target");
    if (auto ok = source_off(job, protection, unreachable); !ok) return ok;
    step(job, "rolling back to the newest point, fencing the source", 40);
    const auto session = protection.value("session", std::uint64_t{1}) + 1;
    const auto begun = steady_clock::now();
    auto result = agents_.call(target, api::command::target_failover,
                               {{"protection", id}, {"session", session}, {"point", "latest"}},
                               checkpoint_patience);
    if (!result) return std::unexpected(result.error());
    const std::chrono::duration<double> took = steady_clock::now() - begun;
    protection["session"] = session;
    protection["state"] = "failing-over";
    protection["point"] = (*result)["point"];
    if (auto ok = save(protection); !ok) return ok;
    progress(job, {{"value", *result}, {"failover_seconds", took.count()}});

    step(job, "detaching the disks from the target", 60);
    api::Json ids = api::Json::array();
    for (const auto& disk : protection["disks"]) ids.push_back(disk["target_id"]);
    auto forgotten =
        agents_.call(target, api::command::target_forget, {{"disks", ids}}, command_patience);
    if (!forgotten) return std::unexpected(forgotten.error());
    for (const auto& disk : ids) {
        auto ok = provider_->detach_disk(text(protection, "target_vm"), disk.get<std::string>());
        if (!ok) return ok;
    }
    step(job, "starting the machine on a delta above its disks", 80);
    const auto home = text(protection, "home_vm");
    if (auto ok = provider_->start_on_delta(home); !ok) return ok;
    auto power = provider_->power_state(home);
    if (!power) return std::unexpected(power.error());
    if (*power != provider::PowerState::running) return fail(ErrorCode::io, home + " does not run");
    protection["state"] = "commit-pending";
    return save(protection);
}

Result<api::Json> ControllerRole::commit(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    if (text(*protection, "state") != "commit-pending") {
        return fail("E_STATE", ErrorCode::refused,
                    text(args, "machine") + " is " + text(*protection, "state") +
                        ", there is nothing to commit",
                    "See ebbctl");
    }
    return begin("commit", text(args, "machine"),
                 [this, document = *protection](Job& job) mutable -> Status {
                     step(job, "merging the delta into the disks", 10);
                     const auto home = text(document, "home_vm");
                     if (auto ok = provider_->commit_delta(home); !ok) return ok;
                     step(job, "closing the recovery points", 80);
                     auto done =
                         agents_.call(text(document, "target"), api::command::target_commit,
                                      {{"protection", text(document, "id")}}, command_patience);
                     if (!done) return std::unexpected(done.error());
                     document["state"] = "failed-back";
                     return save(document);
                 });
}

Result<api::Json> ControllerRole::resync(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    if (text(*protection, "state") != "protected" && text(*protection, "state") != "initial-sync") {
        return fail("E_STATE", ErrorCode::refused,
                    text(args, "machine") + " is " + text(*protection, "state"), "See ebbctl");
    }
    return begin("resync", text(args, "machine"), [this, document = *protection](Job& job) {
        step(job, "stopping replication", 0);
        auto stopped = agents_.call(text(document, "machine"), api::command::source_stop,
                                    {{"protection", text(document, "id")}}, command_patience);
        if (!stopped) return Status(std::unexpected(stopped.error()));
        // The target knows the protection; everything is sent anew.
        return protect_steps(job, document);
    });
}

Result<api::Json> ControllerRole::disable(const api::Json& args) {
    auto protection = protection_of(args);
    if (!protection) return protection;
    return begin(
        "disable", text(args, "machine"), [this, document = *protection](Job& job) -> Status {
            const api::Json command{{"protection", text(document, "id")}};
            step(job, "detaching the tracking module", 10);
            // A source that was failed over from, or is gone, has nothing to stop.
            auto stopped = agents_.call(text(document, "machine"), api::command::source_stop,
                                        command, shutdown_patience);
            if (!stopped && text(document, "state") == "protected")
                return std::unexpected(stopped.error());
            step(job, "closing the recovery points", 60);
            auto done = agents_.call(text(document, "target"), api::command::target_disable,
                                     command, command_patience);
            if (!done) return std::unexpected(done.error());
            const std::lock_guard lock(mutex_);
            return store_->remove("protection", text(document, "id"));
        });
}

}  // namespace ebb::service
