// SPDX-License-Identifier: Apache-2.0
// Disks of this machine whose maps are on its map device: listed, added, removed, attached.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "platform/block_table.h"
#include "platform/map_config.h"
#include "platform/map_device.h"
#include "platform/netlink.h"

namespace ebb::attach {

struct Choice {
    std::string config = platform::map_config_path;
    std::string map;  // its node; empty: found
    std::uint32_t group = 1;
    std::chrono::seconds wait{0};
};

// What an attach has found.
struct Attached {
    std::string name;  // kernel's
    std::string stable_id;
    bool before = false;  // it was attached already
    std::string words;    // what became of its map
};

// Makes a directory and names it in the configuration.
Status create_map(const Choice& choice, const std::string& node, bool force);
// The directory's table.
Result<std::string> list_maps(const Choice& choice);
// Reserves an area and attaches with a new, empty map: all of the disk counts as not known.
Result<Attached> add_disk(const Choice& choice, const std::string& disk);
// Detaches it, if it is attached, and frees its area.
Status remove_disk(const Choice& choice, const std::string& disk);
// Attaches with the map that the directory knows. Waits for the map device.
Result<Attached> attach_disk(const Choice& choice, const std::string& disk);
// Those of the configuration; without one, of the directory. Waits for them.
std::vector<Result<Attached>> attach_all(const Choice& choice);
// Whether the configuration names this disk: nothing but it and the disk's name is looked at.
Result<bool> is_named(const Choice& choice, const std::string& disk);

}  // namespace ebb::attach
