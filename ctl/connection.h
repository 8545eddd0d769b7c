// SPDX-License-Identifier: Apache-2.0
// Calls to the controller on its Unix socket. Blocking.
#pragma once

#include <string>

#include "api/json.h"
#include "base/error.h"

namespace ebb::ctl {

// E_CLOSED when no controller listens there; its refusals as they are.
Result<api::Json> call(const std::string& socket, const std::string& path, const api::Json& args);

}  // namespace ebb::ctl
