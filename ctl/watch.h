// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "ctl/connection.h"
#include "ctl/report.h"

namespace ebb::ctl {

// Follows a job to its end: one line that is redrawn on a terminal, a line for each change
// elsewhere, the job's document at its end in JSON. Bears with a controller that is restarted.
// The exit status.
int watch(const std::string& socket, std::uint64_t job, const Report& report);
// Several jobs, one after the other as they end: their documents as {"jobs": [JOB]}. Fails if one
// has.
int watch_all(const std::string& socket, const api::Json& jobs, const Report& report);
// As watch(), and says nothing at the end: the job's document.
Answer wait_for_job(const std::string& socket, std::uint64_t job, const Report& report);
// Begins a job and waits for its end without a word; its document then.
Answer run_job(const std::string& socket, const std::string& path, const api::Json& args);

}  // namespace ebb::ctl
