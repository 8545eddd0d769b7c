// SPDX-License-Identifier: Apache-2.0
// Makes a scenario that fails smaller: fewer lanes, phases, operations, disks.
#pragma once

#include <functional>

#include "model/scenario.h"

namespace ebb::kmodmodel {

// Whether a scenario fails; it may be asked several times, since no run is like another.
using Fails = std::function<bool(const Scenario&)>;
// Whether there is time for another attempt.
using More = std::function<bool()>;

[[nodiscard]] Scenario shrink(Scenario scenario, const Fails& fails, const More& more);

}  // namespace ebb::kmodmodel
