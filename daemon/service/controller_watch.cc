// SPDX-License-Identifier: Apache-2.0
#include "service/controller_watch.h"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>

#include "service/controller_health.h"

namespace ebb::service {

namespace {

constexpr const char* event_kind = "event";
// Keyed by protection, or "group/" and its name: the problems when it was looked at last.
constexpr const char* watched_kind = "watched";
constexpr std::size_t kept_events = 1'000;
constexpr std::chrono::seconds look_every{1};

std::int64_t wall_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// In order of number, also as text.
std::string key_of(std::uint64_t number) {
    char key[24];
    std::snprintf(key, sizeof(key), "%016llx", static_cast<unsigned long long>(number));
    return key;
}

}  // namespace

Status ControllerWatch::start() {
    auto old = store_.all(event_kind);
    if (!old) return std::unexpected(old.error());
    if (!old->empty()) next_ = std::stoull(old->back().first, nullptr, 16) + 1;
    thread_ = std::thread([this] { work(); });
    return {};
}

void ControllerWatch::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void ControllerWatch::work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        lock.unlock();
        const auto ok = look();
        const std::string now = ok ? "" : ok.error().message;
        if (now != told_ && !ok) std::cerr << "ebbd: events: " + now + "\n";
        told_ = now;
        lock.lock();
        wake_.wait_for(lock, look_every, [this] { return stopping_; });
    }
}

Result<api::Json> ControllerWatch::protections() {
    auto stored = store_.all("protection");
    if (!stored) return std::unexpected(stored.error());
    api::Json list = api::Json::array();
    for (auto& [id, document] : *stored) {
        const auto source = agents_.find(document.value("machine", ""));
        const auto target = agents_.find(document.value("target", ""));
        list.push_back(with_health(std::move(document), source, target, wall_ns()));
    }
    return list;
}

Result<api::Json> ControllerWatch::events() {
    auto stored = store_.all(event_kind);
    if (!stored) return std::unexpected(stored.error());
    api::Json list = api::Json::array();
    for (auto& [key, event] : *stored) list.push_back(std::move(event));
    return api::Json{{"events", std::move(list)}};
}

Status ControllerWatch::look() {
    auto list = protections();
    if (!list) return std::unexpected(list.error());
    std::set<std::string> there;
    for (const auto& protection : *list) {
        const auto id = protection.value("id", "");
        there.insert(id);
        if (auto ok = compare(id, protection.value("machine", ""), protection); !ok) return ok;
        if (auto ok = compare_interval(id, protection); !ok) return ok;
    }
    auto groups = groups_(*list);
    if (!groups) return std::unexpected(groups.error());
    for (const auto& group : *groups) {
        const auto name = group.value("group", "");
        const auto key = "group/" + name;
        there.insert(key);
        if (auto ok = compare(key, name, group); !ok) return ok;
    }
    std::erase_if(intervals_, [&](const auto& one) { return !there.contains(one.first); });
    auto watched = store_.all(watched_kind);
    if (!watched) return std::unexpected(watched.error());
    for (const auto& [id, document] : *watched) {
        if (there.contains(id)) continue;
        if (auto ok = store_.remove(watched_kind, id); !ok) return ok;
    }
    return {};
}

// One line for each problem that was not there before, or is not there any more.
Status ControllerWatch::compare(const std::string& key, const std::string& name,
                                const api::Json& watched) {
    std::map<std::string, api::Json> now;
    for (const auto& problem : watched.value("problems", api::Json::array())) {
        const auto code = problem.value("code", "");
        // Of a controller that has just been started: nothing is known yet.
        if (code == "E_AGENT_NOT_REGISTERED") return {};
        now.emplace(code, problem);
    }
    auto before = store_.find(watched_kind, key);
    if (!before) return std::unexpected(before.error());
    const auto known =
        *before ? (*before)->value("codes", std::set<std::string>{}) : std::set<std::string>{};
    std::set<std::string> codes;
    for (const auto& [code, problem] : now) codes.insert(code);
    if (codes == known && *before) return {};
    for (const auto& [code, problem] : now) {
        if (known.contains(code)) continue;
        auto ok =
            note(name, problem.value("severity", "warning"), code, problem.value("message", ""));
        if (!ok) return ok;
    }
    for (const auto& code : known) {
        if (codes.contains(code)) continue;
        if (auto ok = note(name, "info", code, "is over"); !ok) return ok;
    }
    if (!*before) return store_.put(watched_kind, key, {{"codes", codes}});
    auto kept = store_.amend(watched_kind, key, {{"codes", codes}});
    if (!kept) return std::unexpected(kept.error());
    return {};
}

// One line when points have got further apart than was asked for, and when they have not any more.
Status ControllerWatch::compare_interval(const std::string& id, const api::Json& protection) {
    // Nobody has said anything of it.
    if (!protection.contains("pace")) return {};
    auto found = intervals_.find(id);
    if (found == intervals_.end()) {
        auto before = store_.find(watched_kind, id);
        if (!before) return std::unexpected(before.error());
        if (!*before) return {};
        found =
            intervals_.emplace(id, (*before)->value("interval_told_ms", std::uint64_t{0})).first;
    }
    const bool longer = protection.contains("interval_why");
    const auto seen =
        longer ? protection.value("interval_effective_ms", std::uint64_t{0}) : std::uint64_t{0};
    if (!found->second.see(seen, wall_ns())) return {};
    const std::string words = longer ? protection.value("interval_why", "")
                                     : "points come at the interval that is asked for again";
    if (auto ok = note(protection.value("machine", ""), "info", "E_INTERVAL", words); !ok)
        return ok;
    auto kept = store_.amend(watched_kind, id, {{"interval_told_ms", seen}});
    if (!kept) return std::unexpected(kept.error());
    return {};
}

Status ControllerWatch::note(const std::string& machine, const std::string& severity,
                             const std::string& code, const std::string& text) {
    const api::Json event{{"time_ns", wall_ns()},
                          {"machine", machine},
                          {"severity", severity},
                          {"code", code},
                          {"text", text}};
    if (auto ok = store_.put(event_kind, key_of(next_), event); !ok) return ok;
    if (next_ > kept_events) {
        if (auto ok = store_.remove(event_kind, key_of(next_ - kept_events)); !ok) return ok;
    }
    ++next_;
    return {};
}

}  // namespace ebb::service
