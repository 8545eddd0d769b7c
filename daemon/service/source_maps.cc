// SPDX-License-Identifier: Apache-2.0
#include "service/source_maps.h"

#include <iostream>

#include "platform/device_layout.h"
#include "platform/map_config.h"
#include "platform/map_device.h"
#include "service/witness_blocks.h"

namespace ebb::service {

namespace {

// Made anew it keeps its UUID, by which the initramfs knows it.
Result<platform::MapDevice> open_map(const std::string& node, const platform::MapConfig& config) {
    auto map = platform::MapDevice::open(node);
    if (map) return map;
    const bool damaged = map.error().code == ErrorCode::corrupt;
    if (!damaged && map.error().code != ErrorCode::not_found) return map;
    std::cerr << "ebbd: " << map.error().message << ": it is made anew\n";
    return platform::MapDevice::create(node, damaged, config.map);
}

}  // namespace

Status give_maps(const SourceSettings& settings, const std::string& map_config,
                 const platform::BlockTable& table, std::uint32_t group,
                 std::vector<platform::TrackDisk>& disks) {
    if (settings.map.empty()) return {};
    auto config = platform::load_map_config(map_config);
    if (!config && config.error().code != ErrorCode::not_found)
        return std::unexpected(config.error());
    auto attach = config ? *config : platform::MapConfig{};
    auto map = open_map(settings.map, attach);
    if (!map) return std::unexpected(map.error());
    attach.map = map->directory().uuid;
    auto directory = map->directory();
    const auto tables = platform::load_dm_tables(table);
    for (auto& disk : disks) {
        if (!settings.keeps_map(disk.stable_id)) {
            directory.remove(disk.stable_id);
            attach.remove(disk.stable_id);
            continue;
        }
        auto slot = directory.reserve(disk.stable_id, disk.size, group);
        if (!slot) return std::unexpected(slot.error());
        disk.area = {map->number(), slot->offset, slot->length, false};
        attach.add(disk.stable_id);
        for (const auto& [name, device] : table.devices()) {
            if (table.node(device) == disk.node)
                disk.witnesses = witness_blocks(table, tables, device);
        }
    }
    if (directory.slots != map->directory().slots) {
        if (auto ok = map->store(std::move(directory)); !ok) return ok;
    }
    if (config && *config == attach) return {};
    return platform::save_map_config(map_config, attach);
}

Status take_maps(const SourceSettings& settings, const std::string& map_config,
                 std::uint32_t group) {
    if (settings.map.empty()) return {};
    auto map = platform::MapDevice::open(settings.map);
    auto config = platform::load_map_config(map_config);
    if (!map || !config) return {};  // nothing attaches by them
    auto directory = map->directory();
    for (const auto& slot : map->directory().slots) {
        if (slot.group != group) continue;
        config->remove(slot.stable_id);
        directory.remove(slot.stable_id);
    }
    if (auto ok = platform::save_map_config(map_config, *config); !ok) return ok;
    if (directory.slots == map->directory().slots) return {};
    return map->store(std::move(directory));
}

}  // namespace ebb::service
