// SPDX-License-Identifier: Apache-2.0
#include "api/points.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

#include "api/names.h"

namespace ebb::api {

namespace {

constexpr std::size_t longest_time = 32;

std::optional<std::uint64_t> number_of(std::string_view words) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(words.data(), words.data() + words.size(), value);
    if (error != std::errc() || end != words.data() + words.size()) return std::nullopt;
    return value;
}

// Seconds east of Greenwich.
std::optional<std::int64_t> zone_of(std::string_view words) {
    if (words == "Z") return 0;
    unsigned hours = 0, minutes = 0;
    int taken = 0;
    char sign = 0;
    const std::string text(words);
    constexpr int size = 6;  // +01:00
    const int found = std::sscanf(text.c_str(), "%c%2u:%2u%n", &sign, &hours, &minutes, &taken);
    if (found != 3 || taken != size || text.size() != size || hours > 14 || minutes > 59)
        return std::nullopt;
    const std::int64_t seconds = std::int64_t{hours} * 3600 + std::int64_t{minutes} * 60;
    if (sign == '+') return seconds;
    if (sign == '-') return -seconds;
    return std::nullopt;
}

std::optional<std::int64_t> time_of(std::string_view words) {
    if (words.size() > longest_time) return std::nullopt;
    int year = 0;
    unsigned month = 0, day = 0, hour = 0, minute = 0, second = 0;
    int taken = 0;
    char between = 0;
    const std::string text(words);
    int found = std::sscanf(text.c_str(), "%4d-%2u-%2u%c%2u:%2u:%2u%n", &year, &month, &day,
                            &between, &hour, &minute, &second, &taken);
    if (found != 7 || (between != ' ' && between != 'T')) return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                           std::chrono::day(day)};
    const auto zone = zone_of(words.substr(static_cast<std::size_t>(taken)));
    if (!date.ok() || hour > 23 || minute > 59 || second > 60 || !zone) return std::nullopt;
    const auto days = std::chrono::sys_days(date).time_since_epoch().count();
    const std::int64_t seconds =
        std::int64_t{days} * 86'400 + hour * 3600 + minute * 60 + second - *zone;
    // The whole of that second.
    return seconds * 1'000'000'000 + 999'999'999;
}

std::unexpected<Error> none(const std::string& what) {
    return fail("E_NO_POINT", ErrorCode::refused, what,
                "See which there are: ebbctl point list MACHINE");
}

std::unexpected<Error> none_in_common(const std::string& what) {
    return fail("E_NO_POINT", ErrorCode::refused, what,
                "See which there are: ebbctl group points GROUP");
}

template <class Meant>
Result<Point> newest(const std::vector<Point>& points, const std::string& what, Meant meant) {
    const auto found = std::ranges::find_if(points.rbegin(), points.rend(), meant);
    if (found == points.rend()) return none(what);
    return *found;
}

// The point of that cut; null where there is none.
const Point* of_cut(const std::vector<Point>& points, const std::string& cut) {
    const auto found = std::ranges::find_if(
        points, [&](const Point& one) { return one.common && one.common->cut == cut; });
    return found == points.end() ? nullptr : &*found;
}

}  // namespace

bool valid_point_words(std::string_view words) {
    return valid_point_name(words) || time_of(words).has_value();
}

Result<Point> choose_point(const std::vector<Point>& points, std::string_view words) {
    if (words.empty() || words == latest_point)
        return newest(points, "there is no recovery point", [](const Point&) { return true; });
    if (words == latest_app_point) {
        return newest(points, "there is no application-consistent recovery point",
                      [](const Point& p) { return p.kind == PointKind::app; });
    }
    const std::string text(words);
    auto named = newest(points, "there is no recovery point " + text,
                        [&](const Point& p) { return p.name == words; });
    if (named) return named;
    if (const auto epoch = number_of(words)) return point_of_epoch(points, *epoch);
    if (const auto time = time_of(words)) {
        return newest(points, "the oldest recovery point is younger than " + text,
                      [&](const Point& p) { return p.cut_time_ns <= *time; });
    }
    return named;
}

Result<Point> point_of_epoch(const std::vector<Point>& points, std::uint64_t epoch) {
    return newest(points, "there is no recovery point of epoch " + std::to_string(epoch),
                  [&](const Point& p) { return p.epoch == epoch; });
}

Json encode_common(const CommonPoint& point) {
    return {{"cut", point.cut},
            {"time_ns", point.time_ns},
            {"name", point.name},
            {"kind", std::string(enum_name(point.kind))},
            {"epochs", point.epochs}};
}

std::vector<CommonPoint> common_points(const std::map<std::string, std::vector<Point>>& points) {
    std::vector<CommonPoint> all;
    if (points.empty()) return all;
    for (const auto& first : points.begin()->second) {
        if (!first.common) continue;
        CommonPoint common{first.common->cut, first.common->time_ns, first.name, first.kind, {}};
        for (const auto& [machine, theirs] : points) {
            const auto* point = of_cut(theirs, common.cut);
            if (point == nullptr) break;
            common.epochs[machine] = point->epoch;
            if (point->kind != PointKind::app) common.kind = PointKind::crash;
            if (point->name != common.name) common.name.clear();
        }
        if (common.epochs.size() == points.size()) all.push_back(std::move(common));
    }
    std::ranges::sort(all, {}, &CommonPoint::time_ns);
    return all;
}

Result<CommonPoint> choose_common_point(const std::vector<CommonPoint>& points,
                                        std::string_view words) {
    const auto newest = [&](const std::string& what, auto meant) -> Result<CommonPoint> {
        const auto found = std::ranges::find_if(points.rbegin(), points.rend(), meant);
        if (found == points.rend()) return none_in_common(what);
        return *found;
    };
    const std::string text(words);
    if (words.empty() || words == latest_common_point)
        return newest("there is no recovery point that all have", [](const auto&) { return true; });
    if (words == latest_app_point) {
        return newest("there is no application-consistent recovery point that all have",
                      [](const CommonPoint& one) { return one.kind == PointKind::app; });
    }
    auto named = newest("there is no recovery point " + text + " that all have",
                        [&](const CommonPoint& one) { return one.name == words; });
    if (named) return named;
    if (const auto time = time_of(words)) {
        return newest("the oldest recovery point that all have is younger than " + text,
                      [&](const CommonPoint& one) { return one.time_ns <= *time; });
    }
    return named;
}

}  // namespace ebb::api
