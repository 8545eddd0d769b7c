// SPDX-License-Identifier: Apache-2.0
// Calls to the controller on its Unix socket. Blocking.
#pragma once

#include <string>
#include <string_view>

#include "api/json.h"
#include "base/error.h"

namespace ebb::ctl {

// E_CLOSED when no controller listens there; its refusals as they are.
Result<api::Json> call(const std::string& socket, const std::string& path, const api::Json& args);

// The document of a whole HTTP response, or the error that it carries.
Result<api::Json> parse_response(std::string_view response);

}  // namespace ebb::ctl
