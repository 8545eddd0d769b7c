// SPDX-License-Identifier: Apache-2.0
// errno as an Error.
#pragma once

#include <string>

#include "base/error.h"

namespace ebb::platform {

// `what` says which operation on what failed; the text of the number is added. Any thread.
[[nodiscard]] Error system_error(int error_number, const std::string& what);

[[nodiscard]] inline std::unexpected<Error> system_fail(int error_number, const std::string& what) {
    return std::unexpected(system_error(error_number, what));
}

}  // namespace ebb::platform
