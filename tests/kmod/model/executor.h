// SPDX-License-Identifier: Apache-2.0
// Runs a scenario against the module: phases of lanes that write, and an operator beside them.
#pragma once

#include <cstddef>
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

// What a machine does of a scenario with restarts until it ends: its operations between one restart
// and the next, and before them the judgement of what the last one has left.
struct Leg {
    std::size_t number = 0;
    std::string folder;  // of what outlives the machine
};

// `run` tells this run's content from that of all others.
[[nodiscard]] Outcome execute(const Scenario& scenario, const std::string& module,
                              std::uint64_t run, const Leg* leg = nullptr);

}  // namespace ebb::kmodmodel
