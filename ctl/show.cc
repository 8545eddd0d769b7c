// SPDX-License-Identifier: Apache-2.0
#include "ctl/show.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace ebb::ctl {

namespace {

using api::Json;

std::string text(const Json& object, const char* key) {
    return object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : "";
}

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

std::string codes(const Json& reasons) {
    std::string all;
    for (const auto& reason : reasons) all += (all.empty() ? "" : " ") + text(reason, "code");
    return all;
}

std::string time_of(std::uint64_t ns) {
    if (ns == 0) return "-";
    const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    char out[32];
    std::strftime(out, sizeof(out), "%Y-%m-%d %H:%M:%SZ", &parts);
    return out;
}

Json source_part(const Json& state, const std::string& id) {
    for (const auto& machine : items(state, "machines")) {
        const auto source = part(machine, "source");
        for (const auto& p : items(source, "protections")) {
            if (text(p, "id") == id) return p;
        }
    }
    return {};
}

}  // namespace

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

std::string show_state(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"MACHINE", "TARGET", "STATE", "REPLICATION", "NEWEST POINT", "CUTS", "VOID"}};
    for (const auto& p : items(state, "protections")) {
        const auto source = source_part(state, text(p, "id"));
        rows.push_back({text(p, "machine"), text(p, "target"), text(p, "state"),
                        word(text(source, "state")), time_of(number(source, "last_cut_ns")),
                        std::to_string(number(source, "cuts_closed")),
                        std::to_string(number(source, "cuts_void"))});
    }
    if (rows.size() > 1) return table(rows);
    return "Nothing is protected. Machines that have joined:\n" + show_machines(state);
}

std::string show_machines(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"MACHINE", "SITE", "ROLES", "AGENT", "MODULE", "KERNEL"}};
    for (const auto& m : items(state, "machines")) {
        const Json status = m.contains("status") ? m["status"] : Json::object();
        std::string roles;
        for (const auto& role : items(status, "roles"))
            roles += (roles.empty() ? "" : ",") + role.get<std::string>();
        const auto source = part(m, "source");
        const bool loaded = source.is_object() && source["module"].value("loaded", false);
        const bool well = m.value("seen", false) && m.value("seconds_silent", 1e9) < 60;
        rows.push_back(
            {text(m, "name"), text(m, "site"), word(roles), well ? "ok" : "silent",
             source.is_object() ? (loaded ? "loaded" : "not loaded") : "-",
             status.contains("machine") ? word(text(status["machine"], "kernel")) : "-"});
    }
    return table(rows);
}

std::string show_disks(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"MACHINE", "DISK", "ID", "SIZE", "CONTROLLER", "USABLE", "WHY NOT"}};
    for (const auto& m : items(state, "machines")) {
        for (const char* role : {"source", "target"}) {
            const auto status = part(m, role);
            for (const auto& d : items(status, "disks")) {
                const bool usable = d.value("usable", d.value("trackable", false));
                rows.push_back({text(m, "name"), text(d, "name"), word(text(d, "stable_id")),
                                bytes(number(d, "size")), word(text(d, "controller")),
                                usable ? "yes" : "no", codes(items(d, "reasons"))});
            }
        }
    }
    return table(rows);
}

std::string show_targets(const Json& state) {
    std::vector<std::vector<std::string>> rows{{"TARGET", "SITE", "ADDRESS", "DISKS", "USABLE"}};
    for (const auto& m : items(state, "machines")) {
        const auto target = part(m, "target");
        if (!target.is_object()) continue;
        const auto& disks = items(target, "disks");
        const auto usable = std::ranges::count_if(disks, [](const Json& d) {
            return d.value("usable", false) && text(d, "in_use_by").empty();
        });
        const auto& at = target["data_address"];
        rows.push_back({text(m, "name"), text(m, "site"),
                        text(at, "host") + ":" + std::to_string(number(at, "port")),
                        std::to_string(disks.size()), std::to_string(usable)});
    }
    return table(rows);
}

std::string show_retention(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"TARGET", "VOLUME", "FS", "SIZE", "FREE", "USABLE", "WHY NOT"}};
    for (const auto& m : items(state, "machines")) {
        const auto target = part(m, "target");
        for (const auto& v : items(target, "volumes")) {
            rows.push_back({text(m, "name"), text(v, "path"), word(text(v, "fs")),
                            bytes(number(v, "size")), bytes(number(v, "available")),
                            v.value("usable", false) ? "yes" : "no", codes(items(v, "reasons"))});
        }
    }
    return table(rows);
}

std::string show_points(const Json& points) {
    std::vector<std::vector<std::string>> rows{{"EPOCH", "CUT", "NAME", "UNDO"}};
    for (const auto& p : items(points, "points")) {
        rows.push_back({std::to_string(number(p, "epoch")), time_of(number(p, "cut_time_ns")),
                        word(text(p, "name")), bytes(number(p, "bytes"))});
    }
    return table(rows);
}

std::string show_jobs(const Json& state) {
    std::vector<std::vector<std::string>> rows{
        {"JOB", "KIND", "MACHINE", "STATE", "PERCENT", "STEP"}};
    for (const auto& j : items(state, "jobs")) {
        char percent[16];
        std::snprintf(percent, sizeof(percent), "%.0f", j.value("percent", 0.0));
        rows.push_back({std::to_string(number(j, "id")), text(j, "kind"), text(j, "machine"),
                        text(j, "state"), percent, text(j, "step")});
    }
    return table(rows);
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
        if (left > 0) line += ", " + std::to_string(left / rate) + " s left";
    }
    return line;
}

}  // namespace ebb::ctl
