// SPDX-License-Identifier: Apache-2.0
// Which recovery point an operator means.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "api/agent.h"
#include "base/error.h"

namespace ebb::api {

inline constexpr std::string_view latest_point = "latest";
inline constexpr std::string_view latest_app_point = "latest-app";
inline constexpr std::string_view latest_common_point = "latest-common";

// "latest", "latest-app", a name, the number of an epoch, or a time such as "2026-11-21 09:30:00Z"
// (with the zone: Z or +01:00), which means the newest cut that is not after it.
[[nodiscard]] bool valid_point_words(std::string_view words);
// `points`: oldest first. E_NO_POINT: none of them is meant.
[[nodiscard]] Result<Point> choose_point(const std::vector<Point>& points, std::string_view words);
// By its number, whatever names there are.
[[nodiscard]] Result<Point> point_of_epoch(const std::vector<Point>& points, std::uint64_t epoch);

// Of a replication group: points of the same common cut.
struct CommonPoint {
    std::string cut;                              // UUID
    std::int64_t time_ns = 0;                     // by the controller's clock
    std::string name;                             // that all of them bear
    PointKind kind = PointKind::crash;            // app: all of them are
    std::map<std::string, std::uint64_t> epochs;  // by machine
};
// COMMON of docs/control-protocol.md.
[[nodiscard]] Json encode_common(const CommonPoint& point);
// What all machines have, oldest first; `points`: of each.
[[nodiscard]] std::vector<CommonPoint> common_points(
    const std::map<std::string, std::vector<Point>>& points);
// "latest-common" (also if empty), "latest-app", a name, or a time as above, by the controller's
// clock. `points`: oldest first. E_NO_POINT.
[[nodiscard]] Result<CommonPoint> choose_common_point(const std::vector<CommonPoint>& points,
                                                      std::string_view words);

}  // namespace ebb::api
