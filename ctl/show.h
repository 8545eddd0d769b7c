// SPDX-License-Identifier: Apache-2.0
// The controller's state as tables for people.
#pragma once

#include <string>
#include <vector>

#include "api/json.h"

namespace ebb::ctl {

// Columns as wide as they need to be.
[[nodiscard]] std::string table(const std::vector<std::vector<std::string>>& rows);
[[nodiscard]] std::string bytes(std::uint64_t count);
struct PointAge {
    double seconds = 0;
    bool named = false;
};
// How old the points are, on an axis on which each column is as much older than the one before,
// with marks at a minute, an hour and a day.
[[nodiscard]] std::string plot_ages(const std::vector<PointAge>& points);
// UTC; "-" for 0.
[[nodiscard]] std::string time_of(std::uint64_t ns);
// "12 s", "3 min", "5 h", "2 d".
[[nodiscard]] std::string age(double seconds);

[[nodiscard]] std::string show_state(const api::Json& state);
[[nodiscard]] std::string show_machines(const api::Json& state);
[[nodiscard]] std::string show_disks(const api::Json& state);
[[nodiscard]] std::string show_targets(const api::Json& state);
[[nodiscard]] std::string show_retention(const api::Json& state);
[[nodiscard]] std::string show_points(const api::Json& points);
[[nodiscard]] std::string show_groups(const api::Json& state);
[[nodiscard]] std::string show_group_points(const api::Json& points);
[[nodiscard]] std::string show_events(const api::Json& events);
[[nodiscard]] std::string show_jobs(const api::Json& state);
[[nodiscard]] std::string show_dry_run(const api::Json& found);
// One line: bar, percent, rate, remaining time.
[[nodiscard]] std::string show_progress(const api::Json& job);

}  // namespace ebb::ctl
