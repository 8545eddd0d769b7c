// SPDX-License-Identifier: Apache-2.0
// Programs that are run to their end. Blocking; any thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"

namespace ebb::provider {

// Runs a program found through PATH, without a shell, standard input and output on /dev/null.
// E_REFUSED with what it said on standard error when its exit status is not 0; killed, and
// E_TIMEOUT, when it takes longer than `patience`. A program that becomes a daemon has ended when
// its first process has.
Status run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds patience);

}  // namespace ebb::provider
