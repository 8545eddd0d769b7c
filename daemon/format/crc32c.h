// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli), as storage formats use it and as the kernel's crc32c() computes it with its
// usual inversions: that of "123456789" is 0xe3069283.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ebb::format {

// Goes on from `before`, the result for what stands in front.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t before = 0);

}  // namespace ebb::format
