// SPDX-License-Identifier: Apache-2.0
// Runs a scenario against the module: phases of lanes that write, and an operator beside them.
#pragma once

#include <string>
#include <vector>

#include "model/scenario.h"
#include "model/verdict.h"

namespace ebb::kmodmodel {

struct Outcome {
    std::vector<std::string> faults;  // none: all that was seen is allowed
    std::string broken;               // the test could not be run
    Tally tally;
};

// `run` tells this run's content from that of all others.
[[nodiscard]] Outcome execute(const Scenario& scenario, const std::string& module,
                              std::uint64_t run);

}  // namespace ebb::kmodmodel
