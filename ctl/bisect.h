// SPDX-License-Identifier: Apache-2.0
// The search for the last good point.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ctl/connection.h"
#include "ctl/report.h"

namespace ebb::ctl {

enum class Verdict { good, bad, skip };

// Which point is to be looked at next. Older ones are good, newer ones bad.
class BisectSearch {
public:
    explicit BisectSearch(std::size_t points)
        : known_(points, Known::nothing), first_bad_(points) {}
    // None: nothing is left that could tell more.
    [[nodiscard]] std::optional<std::size_t> next() const;
    void judge(std::size_t point, Verdict verdict);
    [[nodiscard]] std::optional<std::size_t> last_good() const;
    [[nodiscard]] std::optional<std::size_t> first_bad() const;
    // Between both: those of which nobody could tell.
    [[nodiscard]] std::vector<std::size_t> skipped() const;

private:
    enum class Known : char { nothing, skipped, judged };
    std::vector<Known> known_;
    std::size_t first_unsure_ = 0;  // behind the last good one
    std::size_t first_bad_;         // their number: none
};

int bisect(const std::string& socket, const std::string& machine,
           const std::vector<std::string>& command, const Report& report);

}  // namespace ebb::ctl
