// SPDX-License-Identifier: Apache-2.0
#include "api/points.h"

#include <gtest/gtest.h>

namespace ebb::api {
namespace {

constexpr std::int64_t second = 1'000'000'000;
// 2026-11-21 09:30:00Z
constexpr std::int64_t half_past_nine = 1'795'253'400 * second;

std::vector<Point> points() {
    std::vector<Point> all;
    for (std::uint64_t epoch = 1; epoch <= 5; ++epoch) {
        Point point;
        point.epoch = epoch;
        point.cut_time_ns = half_past_nine + static_cast<std::int64_t>(epoch) * 60 * second;
        all.push_back(point);
    }
    all[1].name = "before-upgrade";
    all[2].name = "5";
    return all;
}

std::uint64_t chosen(std::string_view words) {
    EXPECT_TRUE(words.empty() || valid_point_words(words)) << words;
    const auto point = choose_point(points(), words);
    if (point) return point->epoch;
    EXPECT_EQ(point.error().name(), "E_NO_POINT");
    return 0;
}

TEST(Points, LatestNamesAndNumbers) {
    EXPECT_EQ(chosen(""), 5U);
    EXPECT_EQ(chosen("latest"), 5U);
    EXPECT_EQ(chosen("before-upgrade"), 2U);
    EXPECT_EQ(chosen("4"), 4U);
    EXPECT_EQ(chosen("5"), 3U);  // a name is a name
    EXPECT_EQ(chosen("6"), 0U);
    EXPECT_EQ(chosen("latest-app"), 0U);
    EXPECT_FALSE(choose_point({}, "latest").has_value());
}

TEST(Points, ATimeMeansTheNewestCutNotAfterIt) {
    EXPECT_EQ(chosen("2026-11-21 09:31:00Z"), 1U);
    EXPECT_EQ(chosen("2026-11-21T09:33:59Z"), 3U);
    EXPECT_EQ(chosen("2026-11-21 10:33:00+01:00"), 3U);
    EXPECT_EQ(chosen("2026-11-21 04:04:00-05:30"), 4U);
    EXPECT_EQ(chosen("2027-01-01 00:00:00Z"), 5U);
    EXPECT_EQ(chosen("2026-11-21 09:30:59Z"), 0U);
}

TEST(Points, TheNewestOfAName) {
    auto all = points();
    all[3].name = "before-upgrade";
    EXPECT_EQ(choose_point(all, "before-upgrade")->epoch, 4U);
    all[2].kind = PointKind::app;
    EXPECT_EQ(choose_point(all, "latest-app")->epoch, 3U);
}

TEST(Points, NoPoint) {
    for (const char* words :
         {"two words", "2026-11-21 09:30:00", "2026-13-01 00:00:00Z", "2026-02-30 00:00:00Z",
          "2026-11-21 24:00:00Z", "2026-11-21 09:30:00+1:00", "2026-11-21 09:30:00Zulu", "-x",
          "2026-11-21 09:30:00+15:00", "2026-11-21_09:30:00Z"})
        EXPECT_FALSE(valid_point_words(words)) << words;
}

}  // namespace
}  // namespace ebb::api
