// SPDX-License-Identifier: Apache-2.0
// How a replication group fares. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/json.h"
#include "base/error.h"

namespace ebb::service {

// Of regular common cuts since the controller was started.
struct GroupCourse {
    unsigned failures = 0;     // in a row
    std::optional<Error> why;  // the last one
};

// From so many on they are a problem.
inline constexpr unsigned failures_told = 3;

// Documents of protections, by machine.
using Protections = std::map<std::string, api::Json>;

// Why a group makes no common cuts: E_GROUP_MEMBER for each machine that is not protected now.
[[nodiscard]] std::vector<Error> against_common_cuts(const api::Json& group,
                                                     const Protections& protections);
// The common point that the document keeps under `key` ("newest", "newest_app"), if all machines
// have it still; else null. `protections` with "oldest_epoch" where the target has said it.
[[nodiscard]] api::Json point_there(const api::Json& group, const char* key,
                                    const Protections& protections);
// The group's document with "newest", "newest_app" (as they are there now), "rpo_seconds",
// "app_seconds" (their ages), "rpo_limit_s", "health" and "problems".
[[nodiscard]] api::Json with_group_health(api::Json group, const Protections& protections,
                                          const GroupCourse& course, std::int64_t now_ns);

}  // namespace ebb::service
