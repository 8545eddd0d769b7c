// SPDX-License-Identifier: Apache-2.0
// Compression of extents.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/error.h"

namespace ebb::format {

// Appends the compressed form to `out` if it is smaller than `data` by at least an eighth; says
// whether it did.
[[nodiscard]] bool compress_append(std::span<const std::byte> data, int level,
                                   std::vector<std::byte>& out);
// Exactly into.size() bytes must come out; E_PROTOCOL otherwise.
[[nodiscard]] Status decompress(std::span<const std::byte> data, std::span<std::byte> into);

}  // namespace ebb::format
