// SPDX-License-Identifier: Apache-2.0
#include "service/source_maps.h"

#include <fcntl.h>
#include <linux/ebb.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <iostream>
#include <set>

#include "platform/file_descriptor.h"
#include "platform/map_config.h"
#include "platform/map_device.h"

namespace ebb::service {

namespace {

// Of every partition and of the disk itself: the superblocks of ext4, xfs, LVM, md and FAT are in
// the first two blocks, that of btrfs is in the seventeenth.
constexpr std::array<std::uint64_t, 3> telling_blocks = {0, 1, 16};
constexpr const char* grub_environments[] = {"/boot/grub/grubenv", "/boot/grub2/grubenv"};
constexpr std::size_t extents_asked = 4;

std::uint64_t start_of(const platform::BlockDevice& partition) {
    std::uint64_t sectors = 0;
    std::ifstream(partition.path + "/start") >> sectors;
    return sectors * sector_bytes;
}

void add_block(std::set<std::uint64_t>& blocks, std::uint64_t offset, std::uint64_t size) {
    const std::uint64_t block = offset / block_bytes;
    if ((block + 1) * block_bytes <= size) blocks.insert(block);
}

// Where a file lies on the device of its file system.
std::vector<std::uint64_t> places_of(const std::string& file) {
    std::vector<std::uint64_t> places;
    const platform::FileDescriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return places;
    alignas(fiemap) std::array<char, sizeof(fiemap) + extents_asked * sizeof(fiemap_extent)>
        memory{};
    auto* map = reinterpret_cast<fiemap*>(memory.data());
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_extent_count = extents_asked;
    if (::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0) return places;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
        const auto& extent = map->fm_extents[i];
        if ((extent.fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DATA_INLINE)) != 0) continue;
        places.push_back(extent.fe_physical);
    }
    return places;
}

void add_grub(const platform::BlockTable& table, const platform::BlockDevice& disk,
              std::set<std::uint64_t>& blocks) {
    for (const char* file : grub_environments) {
        const auto* mount = table.mount_of(file);
        const auto* device = mount == nullptr ? nullptr : table.under(*mount);
        if (device == nullptr || (device->name != disk.name && device->parent != disk.name))
            continue;
        const std::uint64_t start = device->name == disk.name ? 0 : start_of(*device);
        for (const auto place : places_of(file)) add_block(blocks, start + place, disk.size);
    }
}

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

std::vector<Extent> witness_blocks(const platform::BlockTable& table,
                                   const platform::BlockDevice& disk) {
    std::set<std::uint64_t> blocks;
    add_grub(table, disk, blocks);
    add_block(blocks, 0, disk.size);
    if (disk.size >= block_bytes) add_block(blocks, disk.size - block_bytes, disk.size);
    for (const auto& [name, device] : table.devices()) {
        if (device.name != disk.name && device.parent != disk.name) continue;
        const std::uint64_t start = device.parent.empty() ? 0 : start_of(device);
        for (const auto block : telling_blocks)
            add_block(blocks, start + block * block_bytes, disk.size);
    }
    std::vector<Extent> extents;
    for (const auto block : blocks) {
        if (extents.size() < EBB_WITNESSES_MAX)
            extents.push_back({block * block_bytes, block_bytes});
    }
    return extents;
}

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
            if (table.node(device) == disk.node) disk.witnesses = witness_blocks(table, device);
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
