// SPDX-License-Identifier: Apache-2.0
// Certificates of recovery points in files: docs/operations.md, "Certificates".
#pragma once

#include <cstdint>
#include <string>

#include "ctl/report.h"

namespace ebb::ctl {

// Waits for the job, and writes what it made to `file`. An exit status.
[[nodiscard]] int take_certificate(const std::string& socket, std::uint64_t job,
                                   const std::string& file, const Report& report);
// Has the controller check a file.
[[nodiscard]] int check_certificate(const std::string& socket, const std::string& file,
                                    const Report& report);

}  // namespace ebb::ctl
