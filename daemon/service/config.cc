// SPDX-License-Identifier: Apache-2.0
#include "service/config.h"

#include <algorithm>

#include "api/agent.h"
#include "api/names.h"
#include "platform/file_store.h"

namespace ebb::service {

namespace {

constexpr std::uint64_t max_retention_hours = 87'600;
constexpr std::uint64_t max_thin_minutes = 7 * 24 * 60;
constexpr std::uint64_t max_retention_mib = 1ULL << 30;
constexpr std::uint64_t max_serve_index_mib = 1ULL << 20;
constexpr std::uint64_t max_script_seconds = 3'600;
constexpr std::uint64_t max_freeze_seconds = 60;

}  // namespace

bool Config::has_role(const std::string& role) const {
    return std::ranges::find(roles, role) != roles.end();
}

bool SourceSettings::keeps_map(const std::string& stable_id) const {
    const auto found = std::ranges::find(disks, stable_id, &SourceDiskSettings::stable_id);
    return !map.empty() && (found == disks.end() || found->tracking == "intent-log");
}

platform::TlsIdentity Config::identity() const {
    return {folder + "/ca.pem", folder + "/machine.pem", folder + "/machine.key"};
}

Result<Config> load_config(const std::string& path) {
    auto text = platform::read_file(path);
    if (!text) return std::unexpected(text.error());
    return parse_config(*text, path);
}

Result<Config> parse_config(std::string_view text, const std::string& path) {
    auto config = api::decode_text<Config>(text);
    if (!config) return config;
    if (!api::valid_machine_name(config->name))
        return fail(ErrorCode::invalid, path + ": the name is no machine name");
    for (const auto& role : config->roles) {
        if (role != "source" && role != "target" && role != "controller")
            return fail(ErrorCode::invalid, path + ": there is no role " + role);
    }
    if (config->target.retention_hours == 0 ||
        config->target.retention_hours > max_retention_hours ||
        config->target.retention_limit_mib > max_retention_mib)
        return fail(ErrorCode::invalid,
                    path +
                        ": target.retention_hours or retention_limit_mib is "
                        "out of range",
                    "Give 1 to 87600 hours, and 0 (no limit) to 1073741824 MiB");
    if (config->target.retention_all_hours > max_retention_hours ||
        config->target.retention_thin_minutes > max_thin_minutes)
        return fail(ErrorCode::invalid,
                    path + ": target.retention_all_hours or retention_thin_minutes is out of range",
                    "Give up to 87600 hours, and 0 (every point) to 10080 minutes");
    if (config->source.verify_mib_per_s > api::max_mib_per_s)
        return fail(ErrorCode::invalid, path + ": source.verify_mib_per_s is out of range",
                    "Give up to 1048576 MiB/s, or 0 for no limit");
    const auto& source = config->source;
    if (!api::valid_path(source.app_scripts) || source.app_script_seconds == 0 ||
        source.app_script_seconds > max_script_seconds || source.app_freeze_seconds == 0 ||
        source.app_freeze_seconds > max_freeze_seconds)
        return fail(ErrorCode::invalid,
                    path +
                        ": source.app_scripts, app_script_seconds or app_freeze_seconds is "
                        "out of range",
                    "Give an absolute path, 1 to 3600 and 1 to 60 seconds");
    for (const auto& disk : config->source.disks) {
        if (disk.tracking == "checksum") continue;
        if (disk.tracking == "intent-log" && !config->source.map.empty()) continue;
        return fail(ErrorCode::invalid,
                    path + ": source.disks: tracking of " + disk.stable_id + " is " + disk.tracking,
                    "Give intent-log, with source.map, or checksum");
    }
    if (config->target.serve_index_mib == 0 || config->target.serve_index_mib > max_serve_index_mib)
        return fail(ErrorCode::invalid, path + ": target.serve_index_mib is out of range",
                    "Give 1 to 1048576 MiB of memory, for each point that is served");
    if (!api::valid_path(config->target.nbd.socket))
        return fail(ErrorCode::invalid, path + ": target.nbd.socket is no absolute path");
    if (config->roles.empty()) return fail(ErrorCode::invalid, path + ": no role is named");
    return config;
}

}  // namespace ebb::service
