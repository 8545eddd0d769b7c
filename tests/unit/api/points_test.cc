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

Point marked(std::uint64_t epoch, const std::string& cut, std::int64_t minute,
             PointKind kind = PointKind::crash, const std::string& name = {}) {
    Point point;
    point.epoch = epoch;
    point.kind = kind;
    point.name = name;
    if (!cut.empty()) point.common = CommonMark{cut, half_past_nine + minute * 60 * second};
    return point;
}

// Of "shop" and "books".
std::map<std::string, std::vector<Point>> of_two() {
    constexpr auto app = PointKind::app;
    return {{"shop",
             {marked(1, "a", 1, app, "evening"), marked(2, "", 0), marked(3, "b", 2, app, "n"),
              marked(4, "c", 3), marked(5, "d", 4)}},
            {"books",
             {marked(7, "a", 1, app, "evening"), marked(8, "b", 2, PointKind::crash, "other"),
              marked(9, "d", 4), marked(10, "e", 5), marked(11, "", 0, app)}}};
}

TEST(CommonPoints, AreThoseThatAllHave) {
    const auto common = common_points(of_two());
    ASSERT_EQ(common.size(), 3U);
    EXPECT_EQ(common[0].epochs, (std::map<std::string, std::uint64_t>{{"books", 7}, {"shop", 1}}));
    EXPECT_EQ(common[0].kind, PointKind::app);
    EXPECT_EQ(common[0].name, "evening");
    // One of them is not, and they bear different names.
    EXPECT_EQ(common[1].cut, "b");
    EXPECT_EQ(common[1].kind, PointKind::crash);
    EXPECT_EQ(common[1].name, "");
    EXPECT_EQ(common[2].cut, "d");
    EXPECT_EQ(encode_common(common[2])["epochs"], (Json{{"books", 9}, {"shop", 5}}));
    EXPECT_TRUE(common_points({}).empty());
    auto with_third = of_two();
    with_third["third"] = {};
    EXPECT_TRUE(common_points(with_third).empty());
}

TEST(CommonPoints, AreChosenByKindNameOrTime) {
    const auto chosen = [](std::string_view words) -> std::string {
        const auto point = choose_common_point(common_points(of_two()), words);
        if (point) return point->cut;
        EXPECT_EQ(point.error().name(), "E_NO_POINT");
        return {};
    };
    EXPECT_EQ(chosen(""), "d");
    EXPECT_EQ(chosen("latest-common"), "d");
    EXPECT_EQ(chosen("latest-app"), "a");
    EXPECT_EQ(chosen("evening"), "a");
    EXPECT_EQ(chosen("n"), "");  // one machine's alone
    EXPECT_EQ(chosen("5"), "");  // numbers are a machine's own
    EXPECT_EQ(chosen("2026-11-21 09:33:59Z"), "b");
    EXPECT_EQ(chosen("2026-11-21 09:30:59Z"), "");
}

TEST(CommonPoints, ANumberIsNotTakenForAName) {
    EXPECT_EQ(point_of_epoch(points(), 5)->epoch, 5U);
    EXPECT_FALSE(point_of_epoch(points(), 6).has_value());
}

}  // namespace
}  // namespace ebb::api
