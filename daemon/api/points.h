// SPDX-License-Identifier: Apache-2.0
// Which recovery point an operator means.
#pragma once

#include <string_view>
#include <vector>

#include "api/agent.h"
#include "base/error.h"

namespace ebb::api {

inline constexpr std::string_view latest_point = "latest";
inline constexpr std::string_view latest_app_point = "latest-app";

// "latest", "latest-app", a name, the number of an epoch, or a time such as "2026-11-21 09:30:00Z"
// (with the zone: Z or +01:00), which means the newest cut that is not after it.
[[nodiscard]] bool valid_point_words(std::string_view words);
// `points`: oldest first. E_NO_POINT: none of them is meant.
[[nodiscard]] Result<Point> choose_point(const std::vector<Point>& points, std::string_view words);

}  // namespace ebb::api
