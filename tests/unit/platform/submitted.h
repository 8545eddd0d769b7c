// SPDX-License-Identifier: Apache-2.0
// What libaio is asked in this program, and what it refuses: io_submit() is that of submitted.cc.
#pragma once

#include <atomic>

namespace ebb::test {

struct Submitted {
    std::atomic<long> most_together = 0;  // since somebody asked last
    std::atomic<long> take_at_most = 0;   // by the next calls; 0: all
    std::atomic<int> refusals = 0;        // calls that are refused for want of slots
    std::atomic<long> alignment = 0;  // other reads than at multiples of it are invalid; 0: none
    void reset() { most_together = take_at_most = refusals = alignment = 0; }
};
extern Submitted submitted;

}  // namespace ebb::test
