// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "ctl/show.h"

namespace ebb::ctl {

namespace {

constexpr std::size_t columns = 72;

// The axis is logarithmic: the newest points are seconds apart, the oldest hours.
class Axis {
public:
    explicit Axis(double oldest) : longest_(std::log(1 + std::max(oldest, 60.0))) {}
    [[nodiscard]] std::size_t column(double seconds) const {
        const double part = std::log(1 + std::max(seconds, 0.0)) / longest_;
        return std::min(columns - 1, static_cast<std::size_t>(part * columns));
    }

private:
    double longest_;
};

char mark(std::size_t points, bool named) {
    if (named) return '*';
    if (points == 0) return ' ';
    if (points == 1) return '.';
    return points < 10 ? ':' : '#';
}

}  // namespace

std::string plot_ages(const std::vector<PointAge>& points) {
    double oldest = 0;
    for (const auto& point : points) oldest = std::max(oldest, point.seconds);
    const Axis axis(oldest);
    std::vector<std::size_t> counts(columns);
    std::vector<bool> named(columns);
    for (const auto& point : points) {
        const auto column = axis.column(point.seconds);
        ++counts[column];
        if (point.named) named[column] = true;
    }
    std::string line, ruler(columns, ' ');
    for (std::size_t i = 0; i < columns; ++i) line += mark(counts[i], named[i]);
    for (const auto& [seconds, text] : {std::pair(1.0, "1 s"),
                                        {10.0, "10 s"},
                                        {60.0, "1 min"},
                                        {600.0, "10 min"},
                                        {3600.0, "1 h"},
                                        {6 * 3600.0, "6 h"},
                                        {86400.0, "1 d"},
                                        {7 * 86400.0, "7 d"}}) {
        const auto at = axis.column(seconds);
        const std::string words = std::string("|") + text;
        const bool fits =
            seconds <= std::max(oldest, 60.0) && at + words.size() <= columns &&
            ruler.substr(at == 0 ? 0 : at - 1, words.size() + 1).find_first_not_of(' ') ==
                std::string::npos;
        if (fits) ruler.replace(at, words.size(), words);
    }
    const auto trimmed = [](std::string text) {
        return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
    };
    return "AGE " + trimmed(line) + "    " + trimmed(ruler) +
           "    . one point, : several, # ten or more, * with a name\n";
}

}  // namespace ebb::ctl
