// SPDX-License-Identifier: Apache-2.0
#include "model/pass.h"

namespace ebb::kmodmodel {

std::vector<Run> Pass::runs(std::uint64_t longest) const {
    std::vector<Run> out;
    for (std::uint32_t d = 0; d < left.size(); ++d) {
        Run run{d, 0, 0, false};
        for (std::uint64_t b = 0; b < left[d].size(); ++b) {
            if (!left[d][b]) continue;
            bool goes_on = run.count > 0 && run.block + run.count == b && run.count < longest &&
                           run.discarded == discarded[d][b];
            if (!goes_on && run.count > 0) out.push_back(run);
            if (goes_on) {
                ++run.count;
            } else {
                run = {d, b, 1, discarded[d][b]};
            }
        }
        if (run.count > 0) out.push_back(run);
    }
    return out;
}

}  // namespace ebb::kmodmodel
