// SPDX-License-Identifier: Apache-2.0
// Calls to the controller on its Unix socket. Blocking.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "api/json.h"
#include "base/error.h"

namespace ebb::ctl {

// Why a call came to nothing: every reason the controller gave, or why it could not be asked.
struct Refusal {
    std::vector<Error> reasons;  // never empty
    bool unreachable = false;    // nobody answered, or not as a controller does
};

using Answer = std::expected<api::Json, Refusal>;

Answer call(const std::string& socket, const std::string& path, const api::Json& args);

// The document of a whole HTTP response, or the reasons that it carries.
Answer parse_response(std::string_view response);

}  // namespace ebb::ctl
