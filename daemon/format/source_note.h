// SPDX-License-Identifier: Apache-2.0
// What the source leaves in the module's memory (EBB_A_NOTE), for a daemon that is started anew:
// where the target was when the unconfirmed maps were last relied on. docs/map-format.md, "Note".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "format/digest.h"
#include "format/map_cookie.h"

namespace ebb::format {

inline constexpr std::size_t source_note_bytes = 164;

struct SourceNote {
    MapCookie cookie;
    Uuid run;  // that left it; all that the target has of its passes came after what is below
    // Where the target was in the open epoch when what had been brought until then was let go of.
    bool brought = false;  // something was
    Uuid brought_run;
    std::uint32_t pass = 0;
    std::uint64_t count = 0;  // extents of the pass that were acknowledged
    std::uint64_t sent = 0;   // and that may be there
    Sha256 chain{};           // over `count`
    friend bool operator==(const SourceNote&, const SourceNote&) = default;
};

[[nodiscard]] std::vector<std::byte> encode(const SourceNote& note);
// Nothing: it is damaged, or of a version that is not known.
[[nodiscard]] std::optional<SourceNote> decode_source_note(std::span<const std::byte> bytes);

}  // namespace ebb::format
