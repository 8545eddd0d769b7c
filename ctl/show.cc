// SPDX-License-Identifier: Apache-2.0
#include "ctl/show.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace ebb::ctl {

namespace {

using api::Json;
using api::text;

// What in_use_by holds where a protection has the disk.
constexpr std::size_t uuid_size = 36;

std::uint64_t number(const Json& object, const char* key) {
    return object.contains(key) && object[key].is_number() ? object[key].get<std::uint64_t>() : 0;
}

std::string word(const std::string& text) {
    return text.empty() ? "-" : text;
}

const Json& items(const Json& object, const char* key) {
    static const Json none = Json::array();
    return object.contains(key) && object[key].is_array() ? object[key] : none;
}

// Status of a role of a machine; null if it has none.
Json part(const Json& machine, const char* role) {
    if (!machine.contains("status") || !machine["status"].contains(role)) return {};
    return machine["status"][role];
}

std::string sentences(const Json& reasons) {
    std::string all;
    for (const auto& reason : reasons)
        all += (all.empty() ? "" : "; ") + text(reason, "code") + ": " + text(reason, "message");
    return all;
}

// A reason on lines of its own.
std::string paragraph(const Json& reason) {
    std::string all = text(reason, "code") + ": " + text(reason, "message") + "\n";
    if (const auto remedy = text(reason, "remedy"); !remedy.empty()) all += "    " + remedy + ".\n";
    return all;
}

double seconds_since(std::uint64_t ns) {
    return std::difftime(std::time(nullptr), static_cast<std::time_t>(ns / 1'000'000'000));
}

bool registered(const Json& machine) {
    constexpr double silent_seconds = 60;
    return machine.value("seen", false) && machine.value("seconds_silent", 1e9) < silent_seconds;
}

std::string agent_word(const Json& machine) {
    if (machine.value("revoked", false)) return "revoked";
    if (!machine.value("seen", false)) return "not registered";
    return registered(machine) ? "ok" : "silent";
}

// Who a target's protection is of; its id when the controller does not know it.
std::string protected_machine(const Json& state, const std::string& id) {
    for (const auto& p : items(state, "protections")) {
        if (text(p, "id") == id) return text(p, "machine");
    }
    return id;
}

std::string running_jobs(const Json& state) {
    std::string out;
    for (const auto& job : items(state, "jobs")) {
        if (text(job, "state") == "running")
            out += "job " + std::to_string(number(job, "id")) + " " + show_progress(job) + "\n";
    }
    return out;
}

// What is read of a machine's points, and what runs on them.
std::string serving_words(const Json& protection) {
    std::string out;
    const auto machine = text(protection, "machine");
    for (const auto& one : items(protection, "served")) {
        out += machine + ": serves epoch " + std::to_string(number(one, "epoch")) + " as " +
               text(one, "name") + " to " + std::to_string(number(one, "clients")) + " clients\n";
    }
    const auto test = protection.value("test", Json());
    if (test.is_object()) {
        out += machine + ": test failover on " + text(test, "vm") + "; ebbctl test-failover " +
               machine + " --clean ends it\n";
    }
    return out;
}

std::string seconds_ago(const Json& found) {
    return age(seconds_since(number(found, "time") * 1'000'000'000)) + " ago";
}

std::string journal_words(const Json& found) {
    std::string words = "journal " + seconds_ago(found);
    const auto outcome = text(found, "outcome");
    if (outcome == "whole") return words + " (whole)";
    const auto error = found.value("error", Json());
    words += outcome == "full" ? " (ended early" : " (damaged";
    return words + (error.is_object() ? ": " + text(error, "code") : "") + ")";
}

// When journal, replica and points were verified last, and what came of it.
std::string verified_words(const Json& protection) {
    const auto different = [](const Json& found) {
        const auto count = number(found, "different_bytes");
        return count == 0 ? std::string(" (equal)") : " (" + std::to_string(count) + " B differ)";
    };
    std::string words;
    const auto add = [&](const std::string& more) { words += (words.empty() ? "" : ", ") + more; };
    if (const auto found = protection.value("retention_verified", Json()); found.is_object())
        add(journal_words(found));
    if (const auto found = protection.value("verified", Json()); found.is_object())
        add("replica " + seconds_ago(found) + different(found));
    if (const auto found = protection.value("point_checked", Json()); found.is_object()) {
        add("point " + std::to_string(number(found, "epoch")) + " " + seconds_ago(found) +
            different(found));
    }
    return words.empty() ? "" : text(protection, "machine") + ": verified: " + words + "\n";
}

}  // namespace

std::string time_of(std::uint64_t ns) {
    if (ns == 0) return "-";
    const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    char out[32];
    std::strftime(out, sizeof(out), "%Y-%m-%d %H:%M:%SZ", &parts);
    return out;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string out;
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            out += row[i];
            if (i + 1 < row.size()) out += std::string(widths[i] - row[i].size() + 2, ' ');
        }
        out += '\n';
    }
    return out;
}

std::string bytes(std::uint64_t count) {
    static const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(count);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(units)) {
        value /= 1024;
        ++unit;
    }
    char out[32];
    std::snprintf(out, sizeof(out), unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

std::string age(double seconds) {
    constexpr double minute = 60;
    constexpr double hour = 60 * minute;
    constexpr double day = 24 * hour;
    const auto whole = [](double value, const char* unit) {
        return std::to_string(static_cast<std::uint64_t>(std::max(value, 0.0))) + unit;
    };
    if (seconds < 2 * minute) return whole(seconds, " s");
    if (seconds < 2 * hour) return whole(seconds / minute, " min");
    if (seconds < 2 * day) return whole(seconds / hour, " h");
    return whole(seconds / day, " d");
}

std::string seconds(std::uint64_t ms) {
    if (ms % 1000 != 0 && ms < 10'000) return std::to_string(ms) + " ms";
    return age(static_cast<double>(ms) / 1000);
}

// As it is; where that is more than was asked for, also what was.
std::string interval_of(const Json& protection) {
    const auto asked = number(protection, "interval_ms");
    if (asked == 0) return "on demand";
    const auto pace = text(protection, "pace");
    if (pace.empty() || pace == "kept") return seconds(asked);
    return seconds(number(protection, "interval_effective_ms")) + " (" + seconds(asked) + "; " +
           pace + ")";
}

std::string age_of(const Json& object, const char* key) {
    return object.contains(key) ? age(object[key].get<double>()) : "-";
}

// Empty where there are none. What is wrong goes to `problems`.
std::string group_table(const Json& state, std::string& problems) {
    std::vector<std::vector<std::string>> rows{
        {"GROUP", "MACHINES", "HEALTH", "NEWEST IN COMMON", "AGE", "INTERVAL", "APP", "GATE"}};
    for (const auto& group : items(state, "groups")) {
        std::string machines;
        for (const auto& machine : items(group, "machines"))
            machines += (machines.empty() ? "" : ",") + machine.get<std::string>();
        const auto newest = group.value("newest", Json());
        const auto interval = number(group, "interval_ms");
        rows.push_back(
            {text(group, "group"), machines, text(group, "health"),
             newest.is_object() ? time_of(number(newest, "time_ns")) : "-",
             age_of(group, "rpo_seconds"), interval == 0 ? "on demand" : seconds(interval),
             age_of(group, "app_seconds"), std::to_string(number(group, "gate_ms")) + " ms"});
        for (const auto& problem : items(group, "problems"))
            problems += text(group, "group") + ": " + paragraph(problem);
    }
    return rows.size() > 1 ? table(rows) : "";
}

std::string show_groups(const Json& state) {
    std::string problems;
    const auto groups = group_table(state, problems);
    if (groups.empty()) return "There is no replication group. See ebbctl group set.\n";
    return groups + (problems.empty() ? "" : "\n" + problems);
}

std::string show_state(const Json& state) {
    std::vector<std::vector<std::string>> rows{{"MACHINE", "TARGET", "STATE", "HEALTH",
                                                "NEWEST POINT", "AGE", "INTERVAL", "APP",
                                                "POINTS"}};
    std::string problems, serving;
    for (const auto& p : items(state, "protections")) {
        if (const auto why = text(p, "interval_why"); !why.empty())
            serving += text(p, "machine") + ": " + why + "\n";
        serving += serving_words(p) + verified_words(p);
        const auto point = p.value("newest_point", Json::object());
        rows.push_back({text(p, "machine"), text(p, "target"), text(p, "state"), text(p, "health"),
                        time_of(number(point, "cut_time_ns")), age_of(p, "rpo_seconds"),
                        interval_of(p), age_of(p, "app_seconds"),
                        p.contains("points") ? std::to_string(number(p, "points")) : "-"});
        for (const auto& problem : items(p, "problems"))
            problems += text(p, "machine") + ": " + paragraph(problem);
    }
    const auto jobs = running_jobs(state);
    const auto groups = group_table(state, problems);
    if (rows.size() == 1 && groups.empty())
        return "Nothing is protected. Machines that have joined:\n" + show_machines(state) + jobs;
    return table(rows) + (groups.empty() ? "" : "\n" + groups) +
           (problems.empty() ? "" : "\n" + problems) + (serving.empty() ? "" : "\n" + serving) +
           (jobs.empty() ? "" : "\n" + jobs);
}

std::string show_machines(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"MACHINE", "SITE", "ROLES", "AGENT", "MODULE", "OS", "KERNEL"}};
    for (const auto& m : items(state, "machines")) {
        const Json status = m.value("status", Json::object());
        const Json machine = status.value("machine", Json::object());
        std::string roles;
        for (const auto& role : items(status, "roles"))
            roles += (roles.empty() ? "" : ",") + role.get<std::string>();
        const auto source = part(m, "source");
        const bool loaded = source.is_object() && source["module"].value("loaded", false);
        rows.push_back({text(m, "name"), text(m, "site"), word(roles), agent_word(m),
                        source.is_object() ? (loaded ? "loaded" : "not loaded") : "-",
                        word(text(machine, "os")), word(text(machine, "kernel"))});
    }
    if (rows.size() > 1) return table(rows);
    return "No machine has joined. See ebbctl token create.\n";
}

std::string show_disks(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"MACHINE", "DISK", "ID", "SIZE", "CONTROLLER", "USABLE", "USED BY", "WHY NOT"}};
    for (const auto& m : items(state, "machines")) {
        for (const char* role : {"source", "target"}) {
            const auto status = part(m, role);
            for (const auto& d : items(status, "disks")) {
                const bool usable = d.value("usable", d.value("trackable", false));
                rows.push_back({text(m, "name"), text(d, "name"), word(text(d, "stable_id")),
                                bytes(number(d, "size")), word(text(d, "controller")),
                                usable ? "yes" : "no", word(text(d, "in_use_by")),
                                sentences(items(d, "reasons"))});
            }
        }
    }
    return table(rows);
}

std::string show_targets(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"TARGET", "SITE", "AGENT", "ADDRESS", "DISKS", "FREE", "TAKEN", "REFUSED"}};
    for (const auto& m : items(state, "machines")) {
        const auto target = part(m, "target");
        if (!target.is_object()) continue;
        const auto& disks = items(target, "disks");
        std::size_t taken = 0;
        std::size_t refused = 0;
        for (const auto& d : disks) {
            if (!text(d, "in_use_by").empty() && text(d, "in_use_by").size() == uuid_size)
                ++taken;
            else if (!d.value("usable", false))
                ++refused;
        }
        const auto& at = target["data_address"];
        rows.push_back({text(m, "name"), text(m, "site"), agent_word(m),
                        text(at, "host") + ":" + std::to_string(number(at, "port")),
                        std::to_string(disks.size()),
                        std::to_string(disks.size() - taken - refused), std::to_string(taken),
                        std::to_string(refused)});
    }
    return table(rows);
}

std::string show_retention(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"TARGET", "VOLUME", "FS", "SIZE", "FREE", "USABLE", "WHY NOT"}};
    std::vector<std::vector<std::string>> kept{
        {"PROTECTED", "TARGET", "VOLUME", "POINTS", "OLDEST", "UNDO", "LIMIT", "KEPT FOR"}};
    for (const auto& m : items(state, "machines")) {
        const auto target = part(m, "target");
        for (const auto& v : items(target, "volumes")) {
            rows.push_back({text(m, "name"), text(v, "path"), word(text(v, "fs")),
                            bytes(number(v, "size")), bytes(number(v, "available")),
                            v.value("usable", false) ? "yes" : "no",
                            sentences(items(v, "reasons"))});
        }
        const auto limit = number(target, "retention_limit_bytes");
        for (const auto& p : items(target, "protections")) {
            const auto oldest = number(p, "oldest_point_ns");
            kept.push_back({protected_machine(state, text(p, "id")), text(m, "name"),
                            word(text(p, "retention")), std::to_string(number(p, "points")),
                            oldest == 0 ? "-" : age(seconds_since(oldest)),
                            bytes(number(p, "retention_bytes")), limit == 0 ? "-" : bytes(limit),
                            age(static_cast<double>(number(target, "retention_age_s")))});
        }
    }
    return table(rows) + (kept.size() > 1 ? "\n" + table(kept) : "");
}

std::string show_points(const Json& points) {
    std::vector<std::vector<std::string>> rows{{"EPOCH", "KIND", "CUT", "AGE", "NAME", "UNDO"}};
    std::vector<PointAge> ages;
    for (const auto& p : items(points, "points")) {
        const auto cut = number(p, "cut_time_ns");
        rows.push_back({std::to_string(number(p, "epoch")), word(text(p, "kind")), time_of(cut),
                        age(seconds_since(cut)), word(text(p, "name")), bytes(number(p, "bytes"))});
        ages.push_back({seconds_since(cut), !text(p, "name").empty()});
    }
    if (rows.size() > 1) return table(rows) + "\n" + plot_ages(ages);
    return "There is no recovery point yet.\n";
}

std::string show_group_points(const Json& points) {
    std::vector<std::vector<std::string>> rows{{"TIME", "AGE", "KIND", "NAME", "EPOCHS"}};
    std::vector<PointAge> ages;
    for (const auto& p : items(points, "points")) {
        const auto time = number(p, "time_ns");
        std::string epochs;
        const auto theirs = p.value("epochs", Json::object());
        for (const auto& [machine, epoch] : theirs.items())
            epochs += (epochs.empty() ? "" : ", ") + machine + " " + epoch.dump();
        rows.push_back({time_of(time), age(seconds_since(time)), word(text(p, "kind")),
                        word(text(p, "name")), epochs});
        ages.push_back({seconds_since(time), !text(p, "name").empty()});
    }
    if (rows.size() > 1) return table(rows) + "\n" + plot_ages(ages);
    return "There is no recovery point that all machines of the group have.\n";
}

std::string show_events(const Json& events) {
    std::vector<std::vector<std::string>> rows{{"TIME", "MACHINE", "SEVERITY", "CODE", "WHAT"}};
    for (const auto& e : items(events, "events")) {
        rows.push_back({time_of(number(e, "time_ns")), text(e, "machine"), text(e, "severity"),
                        text(e, "code"), text(e, "text")});
    }
    return rows.size() > 1 ? table(rows) : "Nothing has gone wrong.\n";
}

std::string show_jobs(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"JOB", "KIND", "MACHINE", "STATE", "PERCENT", "STARTED", "STEP"}};
    for (const auto& j : items(state, "jobs")) {
        char percent[16];
        std::snprintf(percent, sizeof(percent), "%.0f", j.value("percent", 0.0));
        const auto error = j.value("error", Json());
        rows.push_back({std::to_string(number(j, "id")), text(j, "kind"), text(j, "machine"),
                        text(j, "state"), percent, time_of(number(j, "started") * 1'000'000'000),
                        error.is_object() ? text(error, "code") + ": " + text(error, "message")
                                          : text(j, "step")});
    }
    return rows.size() > 1 ? table(rows) : "There are no jobs.\n";
}

std::string show_dry_run(const Json& found) {
    std::string out;
    for (const auto& reason : items(found, "reasons")) out += paragraph(reason);
    const bool refused = !out.empty();
    if (!refused) out = "Nothing stands against it.\n";
    if (const auto& disks = items(found, "disks"); !disks.empty()) {
        std::vector<std::vector<std::string>> rows{{"SOURCE", "TARGET", "SIZE"}};
        for (const auto& d : disks)
            rows.push_back({text(d, "source_id"), text(d, "target_id"), bytes(number(d, "size"))});
        out += table(rows);
        out += "retention volume: " + word(text(found, "retention")) + "\n";
    }
    if (found.contains("common")) {
        const auto time = number(found["common"], "time_ns");
        out += "The point would be that of " + time_of(time) + ", " + age(seconds_since(time)) +
               " ago, which all have.\n";
    }
    if (found.contains("point")) {
        const auto cut = number(found["point"], "cut_time_ns");
        out += "The point would be epoch " + std::to_string(number(found["point"], "epoch")) +
               ", cut " + age(seconds_since(cut)) +
               " ago; to roll back: " + bytes(number(found, "rollback_bytes")) + "\n";
    }
    return out;
}

std::string show_progress(const Json& job) {
    const double percent = job.value("percent", 0.0);
    const auto full = static_cast<std::size_t>(std::clamp(percent, 0.0, 100.0) / 5);
    const auto rate = number(job, "rate_bytes_per_s");
    const auto left = number(job, "bytes_total") -
                      std::min(number(job, "bytes_total"), number(job, "bytes_done"));
    char head[64];
    std::snprintf(head, sizeof(head), "] %3.0f%%  ", percent);
    std::string line = "[" + std::string(full, '#') + std::string(20 - full, '.') + head;
    line += text(job, "kind") + " " + text(job, "machine") + ": " + text(job, "step");
    if (rate > 0 && text(job, "state") == "running") {
        line += ", " + bytes(rate) + "/s";
        if (left > 0)
            line += ", " + age(static_cast<double>(left) / static_cast<double>(rate)) + " left";
    }
    if (const auto compared = number(job, "compared_bytes"); compared > 0) {
        line += ", compared " + bytes(compared) + ", " + bytes(number(job, "same_bytes")) +
                " of it the same";
    }
    if (job.contains("notice") && job["notice"].is_object())
        line += " (" + text(job["notice"], "code") + ": " + text(job["notice"], "message") + ")";
    if (text(job, "state") != "running") line += ": " + text(job, "state");
    return line;
}

}  // namespace ebb::ctl
