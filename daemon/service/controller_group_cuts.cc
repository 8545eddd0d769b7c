// SPDX-License-Identifier: Apache-2.0
#include "service/controller_group_cuts.h"

#include <algorithm>
#include <iostream>
#include <system_error>

namespace ebb::service {

namespace {

using api::Json;
using api::text;
using std::chrono::milliseconds;

constexpr const char* group_kind = "group";
constexpr milliseconds look_every{250};
constexpr milliseconds look_again{1'000};
// A regular cut that failed is tried again sooner than the next one is due.
constexpr milliseconds retry{30'000};
// Scripts of applications are not called as often.
constexpr milliseconds retry_app{300'000};

milliseconds interval_of(const Json& group, const char* key) {
    return milliseconds(group.value(key, std::int64_t{0}));
}

std::int64_t wall_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// What is left of the interval since that point; at once where there is none, or the clock of the
// controller was set back.
milliseconds left_of(milliseconds interval, const Json& point) {
    if (!point.is_object()) return milliseconds(0);
    const auto age = std::chrono::duration_cast<milliseconds>(
        std::chrono::nanoseconds(wall_ns() - point.value("time_ns", std::int64_t{0})));
    return age.count() < 0 ? milliseconds(0) : std::max(milliseconds(0), interval - age);
}

Result<Protections> protections_in(ControllerStore& store) {
    auto all = store.all("protection");
    if (!all) return std::unexpected(all.error());
    Protections by_machine;
    for (auto& [id, document] : *all) {
        const auto machine = text(document, "machine");
        by_machine.emplace(machine, std::move(document));
    }
    return by_machine;
}

}  // namespace

Status ControllerGroupCuts::start() {
    try {
        thread_ = std::thread([this] { work(); });
    } catch (const std::system_error& error) {
        return fail(ErrorCode::no_memory,
                    "no thread for regular common cuts: " + error.code().message());
    }
    return {};
}

void ControllerGroupCuts::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    agents_.wake();
    if (thread_.joinable()) thread_.join();
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return turns_.empty(); });  // those of jobs
}

void ControllerGroupCuts::changed() {
    {
        const std::lock_guard lock(mutex_);
        news_ = true;
    }
    wake_.notify_all();
}

GroupCourse ControllerGroupCuts::course(const std::string& group) {
    const std::lock_guard lock(mutex_);
    const auto found = regular_.find(group);
    return found == regular_.end() ? GroupCourse{} : found->second.course;
}

void ControllerGroupCuts::work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        news_ = false;
        lock.unlock();
        look();
        lock.lock();
        wake_.wait_for(lock, look_every, [this] { return stopping_ || news_; });
    }
    // Nothing is added to them any more.
    auto ending = std::move(regular_);
    regular_.clear();
    lock.unlock();
    for (auto& [name, regular] : ending) {
        if (regular.thread.joinable()) regular.thread.join();
    }
}

// What the store cannot say now is looked at again soon; whoever reads the state is told.
void ControllerGroupCuts::look() {
    auto groups = store_.all(group_kind);
    if (!groups) return;
    std::set<std::string> there;
    for (const auto& [name, group] : *groups) {
        there.insert(name);
        consider(name, group);
    }
    std::vector<std::thread> over;
    {
        const std::lock_guard lock(mutex_);
        for (auto it = regular_.begin(); it != regular_.end();) {
            auto& regular = it->second;
            if (!regular.running && regular.thread.joinable())
                over.push_back(std::move(regular.thread));
            it =
                !regular.running && !there.contains(it->first) ? regular_.erase(it) : std::next(it);
        }
    }
    for (auto& thread : over) thread.join();
}

// With the mutex. When the next ones are due, by the points that all have.
void ControllerGroupCuts::plan(Regular& regular, const Json& group) {
    Json known;
    for (const char* key : {"machines", "interval_ms", "app_interval_ms"}) known[key] = group[key];
    if (known == regular.known) return;
    regular.known = std::move(known);
    regular.course = {};
    const auto now = Clock::now();
    regular.next = now + left_of(interval_of(group, "interval_ms"), group.value("newest", Json()));
    regular.next_app =
        now + left_of(interval_of(group, "app_interval_ms"), group.value("newest_app", Json()));
}

void ControllerGroupCuts::consider(const std::string& name, const Json& group) {
    bool app = false;
    {
        const std::lock_guard lock(mutex_);
        auto& regular = regular_[name];
        plan(regular, group);
        const auto now = Clock::now();
        app = interval_of(group, "app_interval_ms").count() > 0 && now >= regular.next_app;
        const bool due =
            app || (interval_of(group, "interval_ms").count() > 0 && now >= regular.next);
        if (!due || regular.running || turns_.contains(name)) return;
    }
    auto protections = protections_in(store_);
    if (!protections || !against_common_cuts(group, *protections).empty()) return;
    // A job that is at work on a machine has its way.
    for (const auto& machine : group.value("machines", std::vector<std::string>{}))
        if (!jobs_.idle(machine)) return;
    const std::lock_guard lock(mutex_);
    auto& regular = regular_[name];
    if (stopping_ || regular.thread.joinable()) return;
    try {
        regular.running = true;
        regular.thread = std::thread([this, name, app] { run_regular(name, app); });
    } catch (const std::system_error& error) {
        regular.running = false;
        std::cerr << "ebbd: no thread for a common cut: " << error.code().message() << "\n";
    }
}

void ControllerGroupCuts::run_regular(const std::string& name, bool app) {
    const auto done = cut(name, {{}, app}, {}, [](const std::string&, double) {});
    ended(name, done, app);
}

void ControllerGroupCuts::ended(const std::string& name, const Result<CutDone>& done, bool app) {
    const std::lock_guard lock(mutex_);
    const auto found = regular_.find(name);
    if (found == regular_.end()) return;  // the controller ends
    auto& regular = found->second;
    regular.running = false;
    const auto now = Clock::now();
    if (!done) {
        ++regular.course.failures;
        regular.course.why = done.error();
        regular.next = now + std::min(interval_of(regular.known, "interval_ms"), retry);
    }
    if (app && (!done || done->degraded))
        regular.next_app = now + std::min(interval_of(regular.known, "app_interval_ms"), retry_app);
    news_ = true;
    wake_.notify_all();
}

bool ControllerGroupCuts::take_turn(const std::string& group,
                                    const ControllerAgents::GiveUp& give_up) {
    for (;;) {
        {
            const std::lock_guard lock(mutex_);
            if (stopping_ || (give_up && give_up())) return false;
            if (turns_.insert(group).second) return true;
        }
        agents_.wait_for_news(look_again);
    }
}

void ControllerGroupCuts::end_turn(const std::string& group) {
    {
        const std::lock_guard lock(mutex_);
        turns_.erase(group);
    }
    wake_.notify_all();
    agents_.wake();
}

Result<CutDone> ControllerGroupCuts::cut(const std::string& group, const Wish& wish,
                                         const ControllerAgents::GiveUp& give_up,
                                         const CommonCut::Tell& tell) {
    if (!take_turn(group, give_up)) return fail(ErrorCode::cancelled, "cancelled");
    auto done = cut_in_turn(group, wish, give_up, tell);
    end_turn(group);
    return done;
}

Result<CutDone> ControllerGroupCuts::cut_in_turn(const std::string& name, const Wish& wish,
                                                 const ControllerAgents::GiveUp& give_up,
                                                 const CommonCut::Tell& tell) {
    auto group = store_.find(group_kind, name);
    if (!group) return std::unexpected(group.error());
    if (!*group) {
        return fail("E_GROUP_NOT_FOUND", ErrorCode::not_found, "there is no group " + name,
                    "ebbctl group list shows them");
    }
    auto protections = protections_in(store_);
    if (!protections) return std::unexpected(protections.error());
    auto against = against_common_cuts(**group, *protections);
    if (!against.empty()) return std::unexpected(std::move(against.front()));
    CutOrder order;
    order.name = wish.name;
    order.app = wish.app;
    order.gate_ms = (*group)->value("gate_ms", api::default_group_gate_ms);
    for (const auto& machine : (*group)->value("machines", std::vector<std::string>{})) {
        const auto& protection = protections->at(machine);
        order.members.push_back({machine, text(protection, "target"), text(protection, "id")});
    }
    const auto members = order.members;
    const auto give_up_too = [this, &give_up] { return stopping_ || (give_up && give_up()); };
    auto done = CommonCut(agents_, std::move(order), give_up_too, tell).run();
    if (!done) return done;
    if (auto ok = keep(**group, members, done->point); !ok) return std::unexpected(ok.error());
    return done;
}

// In the document: the newest; it says when the next is due. Not of a group that has other machines
// now.
Status ControllerGroupCuts::keep(const Json& group, const std::vector<CutMember>& members,
                                 const api::CommonPoint& point) {
    const auto name = text(group, "group");
    auto there = store_.find(group_kind, name);
    if (!there) return std::unexpected(there.error());
    if (!*there || (**there)["machines"] != group["machines"]) return {};
    auto kept = api::encode_common(point);
    for (const auto& member : members) kept["of"][member.machine] = member.protection;
    Json fields{{"newest", kept}};
    if (point.kind == api::PointKind::app) fields["newest_app"] = kept;
    auto amended = store_.amend(group_kind, name, fields);
    if (!amended) return std::unexpected(amended.error());
    const std::lock_guard lock(mutex_);
    auto& regular = regular_[name];
    regular.course = {};
    const auto now = Clock::now();
    regular.next = now + left_of(interval_of(group, "interval_ms"), kept);
    if (point.kind == api::PointKind::app)
        regular.next_app = now + left_of(interval_of(group, "app_interval_ms"), kept);
    return {};
}

}  // namespace ebb::service
