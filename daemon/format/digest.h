// SPDX-License-Identifier: Apache-2.0
// Digests: XXH3 against accident, SHA-256 where two sides agree on a whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/units.h"

namespace ebb::format {

using Digest128 = std::array<std::byte, 16>;  // XXH3-128, canonical (big-endian) form
using Sha256 = std::array<std::byte, 32>;

[[nodiscard]] std::uint64_t xxh3_64(std::span<const std::byte> data);
[[nodiscard]] Digest128 xxh3_128(std::span<const std::byte> data);
[[nodiscard]] Sha256 sha256(std::span<const std::byte> data);

enum class ExtentKind : std::uint8_t {
    data = 0,
    zero = 1,        // all bytes are zero
    discard = 2,     // content indeterminate on the source
    unreadable = 3,  // the source could not read it; the replica keeps what it has
    same = 4,        // compared: the replica has it already
};

// SHA-256 chain over extents in order: begins with zeroes, each step covers the value before,
// the position, the kind and the digest.
struct ManifestChain {
    Sha256 value{};
    void add(DiskIndex disk, std::uint64_t offset, std::uint64_t length, ExtentKind kind,
             const Digest128& digest);
};

// No byte differs from zero.
[[nodiscard]] bool all_zero(std::span<const std::byte> data);

}  // namespace ebb::format
