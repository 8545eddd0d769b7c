// SPDX-License-Identifier: Apache-2.0
// What the source leaves with a disk's durable map (EBB_A_COOKIE), to know after a restart whether
// map and target belong together. docs/map-format.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/units.h"

namespace ebb::format {

inline constexpr std::size_t map_cookie_bytes = 64;

struct MapCookie {
    Uuid protection;
    Uuid incarnation;          // under which the source replicates
    std::uint64_t closed = 0;  // epoch that was confirmed last; 0: none
    // The target may have of this epoch, the one after `closed`, what was sent up to this pass;
    // 0: nothing.
    std::uint64_t begun = 0;
    std::uint32_t pass = 0;
    bool closes = true;  // that pass may end the epoch; a live one does not
    friend bool operator==(const MapCookie&, const MapCookie&) = default;
};

[[nodiscard]] std::array<std::byte, map_cookie_bytes> encode(const MapCookie& cookie);
// Nothing: there is none, or not one that can be read.
[[nodiscard]] std::optional<MapCookie> decode_map_cookie(std::span<const std::byte> bytes);

}  // namespace ebb::format
