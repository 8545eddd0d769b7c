// SPDX-License-Identifier: Apache-2.0
// /etc/ebb/map.conf: which map device is this machine's, and which disks it is to attach as soon as
// they appear. Copied into the initramfs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"

namespace ebb::platform {

inline constexpr const char* map_config_path = "/etc/ebb/map.conf";

struct MapConfig {
    std::optional<Uuid> map;  // of the directory
    std::vector<std::string> disks;

    [[nodiscard]] bool has(const std::string& stable_id) const;
    void add(const std::string& stable_id);
    void remove(const std::string& stable_id);
    friend bool operator==(const MapConfig&, const MapConfig&) = default;
};

// Pure. Lines: "map UUID", "disk ID", comments with '#'. E_INVALID names the line.
[[nodiscard]] Result<MapConfig> parse_map_config(std::string_view text);
[[nodiscard]] std::string map_config_text(const MapConfig& config);

// E_NOT_FOUND: this machine has none.
[[nodiscard]] Result<MapConfig> load_map_config(const std::string& path);
Status save_map_config(const std::string& path, const MapConfig& config);

}  // namespace ebb::platform
