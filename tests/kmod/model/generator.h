// SPDX-License-Identifier: Apache-2.0
// Scenarios by seed: the same one always, on every kernel.
#pragma once

#include "model/scenario.h"

namespace ebb::kmodmodel {

[[nodiscard]] Scenario generate(std::uint64_t seed);
// With restarts of the machine, whose disks have logs.
[[nodiscard]] Scenario generate_restarts(std::uint64_t seed);

}  // namespace ebb::kmodmodel
