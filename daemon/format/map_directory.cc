// SPDX-License-Identifier: Apache-2.0
#include "format/map_directory.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "format/bytes.h"
#include "format/crc32c.h"

namespace ebb::format {

namespace {

constexpr std::array<char, 8> magic = {'E', 'B', 'B', 'M', 'A', 'P', 'D', '\n'};
constexpr std::uint32_t version = 1;
constexpr std::size_t header_bytes = 256;
constexpr std::size_t slot_bytes = 256;
constexpr std::size_t crc_offset = 12;
static_assert(header_bytes + directory_slots_max * slot_bytes <= directory_copy_bytes);

// Of a block of the map (docs/map-format.md): the least there is.
constexpr std::uint64_t bits_of_block = 31'680;
constexpr std::uint64_t region_bytes_min = 1 << 20;

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) {
    return value / by + (value % by != 0 ? 1 : 0);
}

// Over the copy, with zeroes for the checksum itself.
std::uint32_t checksum(std::span<const std::byte> copy) {
    std::vector<std::byte> plain(copy.begin(), copy.end());
    for (std::size_t i = crc_offset; i < crc_offset + 4 && i < plain.size(); ++i)
        plain[i] = std::byte{0};
    return crc32c(plain);
}

void pad(std::vector<std::byte>& out, std::size_t to) {
    out.resize(to);
}

Status check_slot(const MapSlot& slot, std::uint64_t device_bytes) {
    const auto bad = [&](const char* why) {
        return fail(ErrorCode::corrupt, "the map directory has a slot " + std::string(why));
    };
    if (slot.stable_id.empty()) return bad("without a disk");
    if (slot.group == 0) return bad("without a group");
    if (slot.offset < directory_bytes || slot.offset % block_bytes != 0 || slot.length == 0 ||
        slot.length % block_bytes != 0)
        return bad("that is not aligned");
    if (slot.offset > device_bytes || slot.length > device_bytes - slot.offset)
        return bad("beyond the device");
    return {};
}

Status check_slots(std::vector<MapSlot> slots, std::uint64_t device_bytes) {
    for (const auto& slot : slots) {
        if (auto ok = check_slot(slot, device_bytes); !ok) return ok;
    }
    std::ranges::sort(slots, {}, &MapSlot::offset);
    for (std::size_t i = 1; i < slots.size(); ++i) {
        if (slots[i].offset < slots[i - 1].offset + slots[i - 1].length)
            return fail(ErrorCode::corrupt, "areas of the map directory overlap");
    }
    std::ranges::sort(slots, {}, &MapSlot::stable_id);
    for (std::size_t i = 1; i < slots.size(); ++i) {
        if (slots[i].stable_id == slots[i - 1].stable_id)
            return fail(ErrorCode::corrupt, "the map directory names a disk twice");
    }
    return {};
}

MapSlot decode_slot(Reader& in) {
    MapSlot slot;
    slot.offset = in.u64();
    slot.length = in.u64();
    slot.disk_bytes = in.u64();
    slot.group = in.u32();
    static_cast<void>(in.u32());
    const auto id = in.bytes(directory_id_max + 1);
    const auto* text = reinterpret_cast<const char*>(id.data());
    slot.stable_id.assign(text, strnlen(text, std::min(id.size(), directory_id_max)));
    static_cast<void>(in.bytes(slot_bytes - 32 - (directory_id_max + 1)));
    return slot;
}

}  // namespace

std::uint64_t map_area_bytes(std::uint64_t disk_bytes) {
    const std::uint64_t blocks = divide_up(disk_bytes, block_bytes);
    const std::uint64_t regions = divide_up(disk_bytes, region_bytes_min);
    // Two superblocks, the log twice, the fine map.
    const std::uint64_t needed =
        2 + 2 * divide_up(regions, bits_of_block) + divide_up(blocks, bits_of_block);
    return divide_up(needed * block_bytes, map_area_unit) * map_area_unit;
}

const MapSlot* MapDirectory::find(const std::string& stable_id) const {
    const auto found = std::ranges::find(slots, stable_id, &MapSlot::stable_id);
    return found == slots.end() ? nullptr : &*found;
}

Result<MapSlot> MapDirectory::reserve(const std::string& stable_id, std::uint64_t disk_bytes,
                                      std::uint32_t group) {
    if (stable_id.empty() || stable_id.size() > directory_id_max || group == 0)
        return fail(ErrorCode::invalid, "'" + stable_id + "' cannot be in a map directory");
    const std::uint64_t length = map_area_bytes(disk_bytes);
    if (const auto* there = find(stable_id); there != nullptr && there->length >= length) {
        MapSlot& slot = slots[static_cast<std::size_t>(there - slots.data())];
        slot.disk_bytes = disk_bytes;
        slot.group = group;
        return slot;
    }
    auto others = slots;
    std::erase_if(others, [&](const MapSlot& slot) { return slot.stable_id == stable_id; });
    std::ranges::sort(others, {}, &MapSlot::offset);
    std::uint64_t at = directory_bytes;
    for (const auto& slot : others) {
        if (slot.offset >= at && slot.offset - at >= length) break;
        at = std::max(at, slot.offset + slot.length);
    }
    if (others.size() >= directory_slots_max || at > device_bytes || length > device_bytes - at) {
        return fail("E_MAP_FULL", ErrorCode::no_space,
                    "the map device has no room for " + std::to_string(length) +
                        " bytes, the map of " + stable_id,
                    "A larger one: 1 MiB and 32 MiB for each TiB that is tracked");
    }
    remove(stable_id);
    slots.push_back({stable_id, disk_bytes, at, length, group});
    return slots.back();
}

bool MapDirectory::remove(const std::string& stable_id) {
    return std::erase_if(slots, [&](const MapSlot& slot) { return slot.stable_id == stable_id; }) !=
           0;
}

std::vector<std::byte> encode(const MapDirectory& directory) {
    std::vector<std::byte> out;
    out.reserve(directory_copy_bytes);
    Writer writer(out);
    writer.bytes(std::as_bytes(std::span(magic)));
    writer.u32(version);
    writer.u32(0);  // the checksum
    writer.u64(directory.sequence);
    writer.uuid(directory.uuid);
    writer.u64(directory.device_bytes);
    writer.u32(static_cast<std::uint32_t>(directory.slots.size()));
    pad(out, header_bytes);
    for (const auto& slot : directory.slots) {
        const std::size_t begin = out.size();
        writer.u64(slot.offset);
        writer.u64(slot.length);
        writer.u64(slot.disk_bytes);
        writer.u32(slot.group);
        writer.u32(0);
        writer.bytes(std::as_bytes(
            std::span(slot.stable_id).first(std::min(slot.stable_id.size(), directory_id_max))));
        pad(out, begin + slot_bytes);
    }
    pad(out, directory_copy_bytes);
    const std::uint32_t crc = checksum(out);
    for (std::size_t i = 0; i < 4; ++i) out[crc_offset + i] = static_cast<std::byte>(crc >> 8 * i);
    return out;
}

Result<MapDirectory> decode_map_directory(std::span<const std::byte> copy) {
    if (copy.size() < directory_copy_bytes ||
        std::memcmp(copy.data(), magic.data(), magic.size()) != 0)
        return fail("E_MAP_NOT_FOUND", ErrorCode::not_found, "there is no map directory");
    copy = copy.first(directory_copy_bytes);
    Reader in(copy);
    static_cast<void>(in.bytes(magic.size()));
    const std::uint32_t its_version = in.u32();
    const std::uint32_t crc = in.u32();
    if (crc != checksum(copy))
        return fail("E_MAP_DAMAGED", ErrorCode::corrupt, "the map directory is damaged");
    if (its_version != version) {
        return fail(ErrorCode::version, "the map directory has version " +
                                            std::to_string(its_version) + ", this is " +
                                            std::to_string(version));
    }
    MapDirectory directory;
    directory.sequence = in.u64();
    directory.uuid = in.uuid();
    directory.device_bytes = in.u64();
    const std::uint32_t count = in.u32();
    if (count > directory_slots_max)
        return fail(ErrorCode::corrupt, "the map directory has too many slots");
    Reader slots(copy.subspan(header_bytes));
    for (std::uint32_t i = 0; i < count; ++i) directory.slots.push_back(decode_slot(slots));
    if (auto ok = check_slots(directory.slots, directory.device_bytes); !ok)
        return std::unexpected(ok.error());
    return directory;
}

Result<MapDirectory> newest_map_directory(std::span<const std::byte> first,
                                          std::span<const std::byte> second) {
    auto a = decode_map_directory(first);
    auto b = decode_map_directory(second);
    if (a && b) return a->sequence >= b->sequence ? std::move(a) : std::move(b);
    if (a) return a;
    // What is damaged says more than what is not there.
    if (b || a.error().code == ErrorCode::not_found) return b;
    return a;
}

}  // namespace ebb::format
