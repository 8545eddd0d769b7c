// SPDX-License-Identifier: Apache-2.0
// What ebbctl says at the end of a command, in words or in JSON, and its exit status.
#pragma once

#include <string>

#include "ctl/connection.h"

namespace ebb::ctl {

// Exit statuses: docs/man/ebbctl.1.
inline constexpr int exit_refused = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_controller = 3;
inline constexpr int exit_job_failed = 4;

class Report {
public:
    explicit Report(bool json) : json_(json) {}

    [[nodiscard]] bool json() const { return json_; }
    // The value; `text` for people.
    [[nodiscard]] int value(const api::Json& value, const std::string& text) const;
    [[nodiscard]] int refused(const Refusal& refusal) const;
    // The command line is wrong.
    [[nodiscard]] int misused(const std::string& what) const;
    // A job's document at its end.
    [[nodiscard]] int job(const api::Json& job) const;
    // Those of several jobs.
    [[nodiscard]] int jobs(const api::Json& jobs) const;
    // What a dry run found.
    [[nodiscard]] int dry_run(const api::Json& found) const;

private:
    bool json_;
};

}  // namespace ebb::ctl
