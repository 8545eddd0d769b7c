// SPDX-License-Identifier: Apache-2.0
#include "disks.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>

#include "base/uuid_text.h"
#include "platform/system_error.h"
#include "uevents.h"

extern char** environ;

namespace ebb::attach {

namespace {

using std::chrono::steady_clock;

struct Disk {
    std::string name;
    std::string stable_id;
    std::uint64_t number = 0;
    std::uint64_t size = 0;
};

std::uint64_t number_of(const std::string& text) {
    std::uint32_t high = 0;
    std::uint32_t low = 0;
    if (std::sscanf(text.c_str(), "%u:%u", &high, &low) != 2) return 0;
    return std::uint64_t{high} << 32 | low;
}

Disk describe(const platform::BlockDevice& device) {
    return {device.name, platform::normal_id(device.wwid), number_of(device.number), device.size};
}

// By its node or by its id.
Result<Disk> find_disk(const platform::BlockTable& table, const std::string& words) {
    if (!words.starts_with("/")) {
        for (const auto& [name, device] : table.devices()) {
            if (device.physical && platform::normal_id(device.wwid) == platform::normal_id(words))
                return describe(device);
        }
        return fail("E_DISK_NOT_FOUND", ErrorCode::not_found, "there is no disk " + words);
    }
    struct stat status = {};
    if (::stat(words.c_str(), &status) != 0)
        return fail("E_DISK_NOT_FOUND", ErrorCode::not_found, "there is no " + words);
    const auto number =
        std::to_string(major(status.st_rdev)) + ":" + std::to_string(minor(status.st_rdev));
    const auto* device = S_ISBLK(status.st_mode) ? table.find_number(number) : nullptr;
    if (device == nullptr || !device->parent.empty())
        return fail("E_DISK_NOT_WHOLE", ErrorCode::invalid, words + " is no whole disk",
                    "Name the disk, not a partition of it");
    if (device->wwid.empty()) {
        return fail("E_DISK_NO_ID", ErrorCode::refused, words + " reports no stable id",
                    "Give it a wwn or a serial number in the hypervisor's settings");
    }
    return describe(*device);
}

Result<platform::MapConfig> config_of(const Choice& choice) {
    auto config = platform::load_map_config(choice.config);
    if (!config && config.error().code == ErrorCode::not_found) return platform::MapConfig{};
    return config;
}

Result<platform::MapDevice> find_map(const Choice& choice, const platform::MapConfig& config,
                                     const platform::BlockTable& table) {
    if (!choice.map.empty()) return platform::MapDevice::open(choice.map);
    return platform::MapDevice::find(table, config.map);
}

// The map device may come after the disk.
Result<platform::MapDevice> await_map(const Choice& choice, const platform::MapConfig& config) {
    const auto until = steady_clock::now() + choice.wait;
    auto events = Uevents::listen();
    while (true) {
        auto table = platform::BlockTable::load({});
        if (!table) return std::unexpected(table.error());
        auto map = find_map(choice, config, *table);
        if (map || map.error().code != ErrorCode::not_found) return map;
        if (!events || !events->wait(until)) return map;
    }
}

Result<platform::NetlinkClient> open_module() {
    auto client = platform::NetlinkClient::open();
    if (client || client.error().code != ErrorCode::not_found) return client;
    // udev's programs have no PATH.
    for (const char* program : {"/sbin/modprobe", "/usr/sbin/modprobe"}) {
        const char* const words[] = {program, "-q", "ebb", nullptr};
        pid_t child = 0;
        if (::posix_spawn(&child, program, nullptr, nullptr, const_cast<char* const*>(words),
                          environ) != 0)
            continue;
        int status = 0;
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        break;
    }
    return platform::NetlinkClient::open();
}

std::string map_words(const platform::NetlinkNest& nest) {
    const auto blocks = std::to_string(nest.number(EBB_DISK_A_RECOVERED_BLOCKS)) + " blocks";
    std::string words;
    switch (nest.number(EBB_DISK_A_RECOVERY)) {
        case EBB_RECOVERY_CLEAN: words = "map sealed, " + blocks; break;
        case EBB_RECOVERY_CRASH: words = "map in use at a crash, hot regions of " + blocks; break;
        default: words = "map new"; break;
    }
    for (const auto& reason : platform::resync_reasons(nest.number(EBB_DISK_A_RESYNC_REASONS)))
        words += ", " + reason;
    return words;
}

Result<Attached> attach_with(const Disk& disk, std::uint32_t group, const platform::MapArea& area) {
    auto client = open_module();
    if (!client) return std::unexpected(client.error());
    Attached attached{disk.name, disk.stable_id, false, {}};
    auto reply = client->call_one({.command = EBB_CMD_DISK_ATTACH,
                                   .u32 = {{EBB_A_GROUP, group}},
                                   .u64 = {{EBB_A_DEV, disk.number}},
                                   .stable_id = disk.stable_id,
                                   .log = area});
    if (!reply && reply.error().code == ErrorCode::exists) {
        attached.before = true;
        return attached;
    }
    if (!reply) return std::unexpected(reply.error());
    attached.words = map_words(reply->disk);
    return attached;
}

Result<Attached> attach_found(const Disk& disk, const platform::MapDevice& map) {
    const auto* slot = map.directory().find(disk.stable_id);
    if (slot == nullptr) {
        return fail("E_DISK_NOT_IN_MAP", ErrorCode::not_found,
                    map.node() + " has no map of " + disk.stable_id,
                    "Protect the machine anew, or ebb-attach --add");
    }
    return attach_with(disk, slot->group, {map.number(), slot->offset, slot->length, false});
}

// What an order is about.
struct Place {
    platform::MapConfig config;
    Disk disk;
    platform::MapDevice map;
};

// A disk that is gone can be named by its id, where that is of use.
Result<Place> place_of(const Choice& choice, const std::string& words, bool gone_too) {
    auto config = config_of(choice);
    if (!config) return std::unexpected(config.error());
    auto table = platform::BlockTable::load({});
    if (!table) return std::unexpected(table.error());
    auto disk = find_disk(*table, words);
    if (!disk && gone_too) disk = Disk{.name = {}, .stable_id = platform::normal_id(words)};
    if (!disk) return std::unexpected(disk.error());
    auto map = await_map(choice, *config);
    if (!map) return std::unexpected(map.error());
    return Place{std::move(*config), std::move(*disk), std::move(*map)};
}

// All that is there of the wanted, and which is not.
struct Round {
    std::vector<Disk> present;
    bool complete = false;
};

Result<Round> look(const std::vector<std::string>& wanted) {
    auto table = platform::BlockTable::load({});
    if (!table) return std::unexpected(table.error());
    Round round;
    for (const auto& id : wanted) {
        if (auto disk = find_disk(*table, id)) round.present.push_back(*disk);
    }
    round.complete = round.present.size() == wanted.size();
    return round;
}

}  // namespace

Status create_map(const Choice& choice, const std::string& node, bool force) {
    auto map = platform::MapDevice::create(node, force);
    if (!map) return std::unexpected(map.error());
    return platform::save_map_config(choice.config, {map->directory().uuid, {}});
}

Result<std::string> list_maps(const Choice& choice) {
    auto config = config_of(choice);
    if (!config) return std::unexpected(config.error());
    auto map = await_map(choice, *config);
    if (!map) return std::unexpected(map.error());
    std::string text = map->node() + " " + to_text(map->directory().uuid) + "\n";
    for (const auto& slot : map->directory().slots) {
        text += slot.stable_id + " disk=" + std::to_string(slot.disk_bytes) +
                " offset=" + std::to_string(slot.offset) +
                " length=" + std::to_string(slot.length) + " group=" + std::to_string(slot.group) +
                (config->has(slot.stable_id) ? " at-boot\n" : "\n");
    }
    return text;
}

Result<Attached> add_disk(const Choice& choice, const std::string& words) {
    auto place = place_of(choice, words, false);
    if (!place) return std::unexpected(place.error());
    auto& [config, disk, map] = *place;
    auto directory = map.directory();
    auto slot = directory.reserve(disk.stable_id, disk.size, choice.group);
    if (!slot) return std::unexpected(slot.error());
    if (auto ok = map.store(std::move(directory)); !ok) return std::unexpected(ok.error());
    auto attached =
        attach_with(disk, slot->group, {map.number(), slot->offset, slot->length, true});
    if (!attached) return attached;
    config.map = map.directory().uuid;
    config.add(disk.stable_id);
    if (auto ok = platform::save_map_config(choice.config, config); !ok)
        return std::unexpected(ok.error());
    return attached;
}

Status remove_disk(const Choice& choice, const std::string& words) {
    auto place = place_of(choice, words, true);
    if (!place) return std::unexpected(place.error());
    auto& [config, disk, map] = *place;
    const auto& id = disk.stable_id;
    if (auto client = platform::NetlinkClient::open()) {
        auto present = client->call({.command = EBB_CMD_DISK_GET, .dump = true});
        if (!present) return std::unexpected(present.error());
        for (const auto& other : *present) {
            const auto name = other.disk.text(EBB_DISK_A_STABLE_ID);
            if (name.substr(0, name.find('\0')) != id) continue;
            const auto number = static_cast<std::uint32_t>(other.disk.number(EBB_DISK_A_ID));
            auto gone =
                client->call({.command = EBB_CMD_DISK_DETACH, .u32 = {{EBB_A_DISK_ID, number}}});
            if (!gone) return std::unexpected(gone.error());
        }
    }
    auto directory = map.directory();
    if (!directory.remove(id)) {
        return fail("E_DISK_NOT_IN_MAP", ErrorCode::not_found, map.node() + " has no map of " + id);
    }
    // In this order: an area that is free must not be attached at the next boot.
    config.remove(id);
    if (auto ok = platform::save_map_config(choice.config, config); !ok) return ok;
    return map.store(std::move(directory));
}

Result<Attached> attach_disk(const Choice& choice, const std::string& words) {
    auto place = place_of(choice, words, false);
    if (!place) return std::unexpected(place.error());
    return attach_found(place->disk, place->map);
}

std::vector<Result<Attached>> attach_all(const Choice& choice) {
    std::vector<Result<Attached>> results;
    const auto until = steady_clock::now() + choice.wait;
    auto config = config_of(choice);
    auto map = config ? await_map(choice, *config)
                      : Result<platform::MapDevice>(std::unexpected(config.error()));
    if (!map) {
        results.emplace_back(std::unexpected(map.error()));
        return results;
    }
    auto wanted = config->disks;
    if (wanted.empty()) {
        for (const auto& slot : map->directory().slots) wanted.push_back(slot.stable_id);
    }
    auto events = Uevents::listen();
    while (true) {
        auto round = look(wanted);
        if (!round) {
            results.emplace_back(std::unexpected(round.error()));
            return results;
        }
        for (const auto& disk : round->present) {
            results.push_back(attach_found(disk, *map));
            std::erase(wanted, disk.stable_id);
        }
        if (wanted.empty() || !events || !events->wait(until)) break;
    }
    for (const auto& id : wanted) {
        results.emplace_back(
            fail("E_DISK_NOT_FOUND", ErrorCode::not_found, "there is no disk " + id));
    }
    return results;
}

Result<bool> is_named(const Choice& choice, const std::string& words) {
    auto config = config_of(choice);
    if (!config) return std::unexpected(config.error());
    if (config->disks.empty()) return false;
    auto table = platform::BlockTable::load({});
    if (!table) return std::unexpected(table.error());
    auto disk = find_disk(*table, words);
    return disk && config->has(disk->stable_id);
}

}  // namespace ebb::attach
