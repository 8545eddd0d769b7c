// SPDX-License-Identifier: Apache-2.0
// What this machine remembers of its boots, to see whether one of them went by without the module:
// a file in the state folder. Blocking; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"

namespace ebb::platform {

struct Boot {
    Uuid id;
    std::int64_t seen = 0;  // seconds since 1970, when the daemon started in it
    friend bool operator==(const Boot&, const Boot&) = default;
};

struct RestartState {
    std::vector<Boot> boots;              // oldest first
    std::map<std::string, Uuid> settled;  // disk: boot in which everything was marked last
    std::map<std::string, Uuid> relied;   // disk: boot in which its map was relied on last
    std::set<Uuid> distrusted;            // maps that could not be kept
    friend bool operator==(const RestartState&, const RestartState&) = default;
};

// Pure. Lines that are not understood are passed over: what they said is then a gap at most.
[[nodiscard]] RestartState parse_restart_state(std::string_view text);
[[nodiscard]] std::string restart_state_text(const RestartState& state);

class RestartRecord {
public:
    // Notes this boot. `dumps` is where kdump writes.
    static Result<std::shared_ptr<RestartRecord>> open(const std::string& path,
                                                       const std::string& dumps);

    // Reasons not to trust the map that a disk came up with. `sessions`: the boots that it knows.
    // `known`: it is not new.
    [[nodiscard]] std::vector<std::string> gaps(const std::string& stable_id, const Uuid& map,
                                                const std::vector<Uuid>& sessions, bool known);
    // Whether its map was relied on in an earlier boot.
    [[nodiscard]] bool knew(const std::string& stable_id);
    // What a later boot finds in this map must not be believed.
    Status distrust(const Uuid& map);
    // Every block of the disk is marked.
    Status settle(const std::string& stable_id, const Uuid& map);

private:
    explicit RestartRecord(std::string path) : path_(std::move(path)) {}
    [[nodiscard]] bool missed_boot(const std::string& stable_id,
                                   const std::vector<Uuid>& sessions) const;
    // The map does not know a boot in which it was relied on: it is an older state of itself.
    [[nodiscard]] bool went_back(const std::string& stable_id,
                                 const std::vector<Uuid>& sessions) const;
    Status save() const;

    std::string path_;
    std::mutex mutex_;  // of state_
    RestartState state_;
    Uuid boot_;
    bool dumped_ = false;  // between the boot before this one and this one
};

}  // namespace ebb::platform
