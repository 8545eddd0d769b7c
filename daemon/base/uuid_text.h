// SPDX-License-Identifier: Apache-2.0
// Uuids as 8-4-4-4-12 in lower case.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"

namespace ebb {

[[nodiscard]] std::string to_text(const Uuid& uuid);
[[nodiscard]] std::optional<Uuid> parse_uuid(std::string_view text);

}  // namespace ebb
