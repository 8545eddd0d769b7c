// SPDX-License-Identifier: Apache-2.0
#include "platform/map_config.h"

#include <algorithm>
#include <cctype>

#include "base/uuid_text.h"
#include "platform/file_store.h"

namespace ebb::platform {

namespace {

constexpr std::size_t id_characters = 127;

bool valid_id(std::string_view id) {
    return !id.empty() && id.size() <= id_characters &&
           std::ranges::all_of(id, [](unsigned char c) { return std::isgraph(c) != 0; });
}

}  // namespace

bool MapConfig::has(const std::string& stable_id) const {
    return std::ranges::find(disks, stable_id) != disks.end();
}

void MapConfig::add(const std::string& stable_id) {
    if (!has(stable_id)) disks.push_back(stable_id);
}

void MapConfig::remove(const std::string& stable_id) {
    std::erase(disks, stable_id);
}

Result<MapConfig> parse_map_config(std::string_view text) {
    MapConfig config;
    for (std::size_t number = 1; !text.empty(); ++number) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        line = line.substr(0, line.find('#'));
        while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.remove_suffix(1);
        if (line.empty()) continue;
        const auto blank = line.find(' ');
        const auto word = line.substr(0, blank);
        const auto value = blank == std::string_view::npos ? "" : line.substr(blank + 1);
        const auto uuid = parse_uuid(value);
        if (word == "map" && uuid) {
            config.map = uuid;
        } else if (word == "disk" && valid_id(value)) {
            config.add(std::string(value));
        } else {
            return fail(ErrorCode::invalid,
                        "line " + std::to_string(number) + " is neither 'map UUID' nor 'disk ID'");
        }
    }
    return config;
}

std::string map_config_text(const MapConfig& config) {
    std::string text =
        "# Disks whose map is on a map device: attached before anything can write to them.\n"
        "# Kept by ebbd and ebb-attach; part of the initramfs.\n";
    if (config.map) text += "map " + to_text(*config.map) + "\n";
    for (const auto& disk : config.disks) text += "disk " + disk + "\n";
    return text;
}

Result<MapConfig> load_map_config(const std::string& path) {
    auto text = read_file(path);
    if (!text) return std::unexpected(text.error());
    auto config = parse_map_config(*text);
    if (!config) return fail(ErrorCode::invalid, path + ": " + config.error().message);
    return config;
}

Status save_map_config(const std::string& path, const MapConfig& config) {
    const auto text = map_config_text(config);
    if (auto old = read_file(path); old && *old == text) return {};
    if (auto ok = make_directories(path.substr(0, path.rfind('/')), 0755); !ok) return ok;
    return replace_file(path, text, public_mode);
}

}  // namespace ebb::platform
