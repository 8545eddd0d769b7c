// SPDX-License-Identifier: Apache-2.0
// Which points are given up.
#include "core/retention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <set>

namespace ebb::core {
namespace {

constexpr std::int64_t minute = 60'000'000'000;

class RetentionTest : public testing::Test {
protected:
    void add(std::int64_t minutes, const char* name = "",
             format::PointKind kind = format::PointKind::crash) {
        add_by(minutes, minutes, name, kind);
    }
    // By the source's clock, and by ours.
    void add_by(std::int64_t source, std::int64_t minutes, const char* name = "",
                format::PointKind kind = format::PointKind::crash) {
        ClosedEpoch closed;
        closed.epoch = closed.span.first = closed.span.last = ++epoch_;
        closed.record.cut_time.ns = source * minute;
        closed.record.closed_time.ns = minutes * minute;
        closed.record.name = name;
        closed.record.point = kind;
        points_.push_back(std::move(closed));
    }
    // Does what is to be done until nothing is, and says in how many steps.
    int settle() {
        int steps = 0;
        while (auto step = next_by_age(points_, policy_)) {
            apply(*step);
            ++steps;
        }
        return steps;
    }
    void apply(const RetentionStep& step) {
        if (step.kind == RetentionStep::Kind::remove_oldest) return points_.pop_front();
        ASSERT_LT(step.begin, step.end);
        ASSERT_LT(step.end + 1, points_.size());
        points_.erase(points_.begin() + static_cast<std::ptrdiff_t>(step.begin),
                      points_.begin() + static_cast<std::ptrdiff_t>(step.end));
    }
    std::vector<std::int64_t> minutes() const {
        std::vector<std::int64_t> all;
        for (const auto& point : points_) all.push_back(point.record.closed_time.ns / minute);
        return all;
    }

    std::deque<ClosedEpoch> points_;
    RetentionPolicy policy_;
    std::uint64_t epoch_ = 0;
};

using Minutes = std::vector<std::int64_t>;

TEST_F(RetentionTest, AllOfTwoHoursAreKept) {
    for (int at = 0; at <= 120; at += 5) add(at);
    EXPECT_EQ(settle(), 0);
}

TEST_F(RetentionTest, ThenTheLastOfEachHour) {
    for (int at = 0; at <= 300; at += 20) add(at);
    // The oldest go singly, each other hour is merged at once.
    EXPECT_EQ(settle(), 2 + 2);
    EXPECT_EQ(minutes(), (Minutes{40, 100, 160, 180, 200, 220, 240, 260, 280, 300}));
}

TEST_F(RetentionTest, ThoseThatAreApplicationConsistentStayUntilTheyAreTooOld) {
    constexpr auto app = format::PointKind::application;
    for (int at = 0; at <= 300; at += 20) add(at, "", at == 80 ? app : format::PointKind::crash);
    (void)settle();
    EXPECT_EQ(minutes(), (Minutes{40, 80, 100, 160, 180, 200, 220, 240, 260, 280, 300}));
    add(24 * 60 + 81);
    (void)settle();
    EXPECT_EQ(minutes().front(), 100);
}

TEST_F(RetentionTest, AnHourIsMergedOnlyWhenAllOfItIsOldEnough) {
    add(0);
    for (int at = 60; at <= 230; at += 10) add(at);
    EXPECT_EQ(settle(), 0);
    add(240);
    EXPECT_EQ(settle(), 1);
    EXPECT_EQ(minutes()[1], 110);
}

TEST_F(RetentionTest, AfterADayNoneButThoseWithAName) {
    add(0);
    add(10, "before the upgrade");
    add(20);
    add(26 * 60);
    add(26 * 60 + 1);
    settle();
    EXPECT_EQ(minutes(), (Minutes{10, 26 * 60, 26 * 60 + 1}));
}

TEST_F(RetentionTest, WhereNoNewOnesComeTheOldOnesStay) {
    add(0);
    add(10);
    EXPECT_EQ(settle(), 0);
    add(10 + 25 * 60);
    settle();
    EXPECT_EQ(minutes(), (Minutes{10 + 25 * 60}));
}

TEST_F(RetentionTest, EveryPointWhereNoneIsThinned) {
    policy_.thinned_to = Duration{0};
    for (int at = 0; at <= 20 * 60; at += 30) add(at);
    EXPECT_EQ(settle(), 0);
}

TEST_F(RetentionTest, AClockThatWentBackTakesNothingButAnHourFor) {
    add(1000);
    add(10);
    add(20);
    settle();
    EXPECT_EQ(points_.back().record.closed_time.ns, 20 * minute);
}

constexpr std::int64_t year = 365 * 24 * 60;

TEST_F(RetentionTest, AClockThatIsSetForwardTakesNothing) {
    for (int at = 0; at < 60; at += 10) add(at);
    for (int at = 60; at <= 120; at += 10) add_by(at, at + year);
    EXPECT_EQ(settle(), 0);
    points_.clear();
    for (int at = 0; at < 60; at += 10) add(at);
    for (int at = 60; at <= 120; at += 10) add_by(at + year, at);
    EXPECT_EQ(settle(), 0);
}

TEST_F(RetentionTest, PointsOfAClockThatWasAheadAgeByTheOtherOne) {
    for (int at = 0; at < 60; at += 10) add_by(at, at + year);
    for (int at = 25 * 60; at <= 25 * 60 + 20; at += 10) add(at);
    settle();
    EXPECT_EQ(minutes(), (Minutes{25 * 60, 25 * 60 + 10, 25 * 60 + 20}));
}

TEST_F(RetentionTest, ForSpaceTheOldestFirst) {
    add(0);
    add(1, "kept");
    add(2);
    add(3);
    add(4);
    auto step = next_for_space(points_);
    ASSERT_TRUE(step.has_value());
    EXPECT_EQ(step->kind, RetentionStep::Kind::remove_oldest);
    apply(*step);
    step = next_for_space(points_);
    ASSERT_TRUE(step.has_value());
    EXPECT_EQ(step->kind, RetentionStep::Kind::merge);
    apply(*step);
    EXPECT_EQ(minutes(), (Minutes{1, 3, 4}));
    EXPECT_FALSE(next_for_space(points_).has_value());
}

TEST_F(RetentionTest, TheNewestStays) {
    add(0);
    EXPECT_FALSE(next_for_space(points_).has_value());
    EXPECT_FALSE(next_by_age(points_, policy_).has_value());
}

// Each target by its own clock, with its own other points, and the same common cuts.
class CommonRetentionTest : public RetentionTest {
protected:
    struct Target {
        std::deque<ClosedEpoch> points;
        std::map<std::uint64_t, format::CommonCut> common;
    };
    // `cuts`: minutes, by the controller's clock.
    static Target target(const std::vector<std::int64_t>& cuts, std::int64_t every,
                         std::int64_t ahead) {
        Target made;
        std::uint64_t epoch = 0;
        const auto add = [&](std::int64_t minutes) {
            ClosedEpoch closed;
            closed.epoch = closed.span.first = closed.span.last = ++epoch;
            closed.record.cut_time.ns = closed.record.closed_time.ns = (minutes + ahead) * minute;
            made.points.push_back(std::move(closed));
        };
        std::int64_t at = 0;
        for (const std::int64_t cut : cuts) {
            for (; at < cut; at += every) add(at);
            add(cut);
            format::CommonCut common;
            common.cut.bytes.fill(static_cast<std::byte>(cut % 251));
            common.time.ns = cut * minute;
            made.common[epoch] = common;
        }
        add(cuts.back() + 1);
        return made;
    }
    // What is left of the common cuts, in minutes.
    std::vector<std::int64_t> settled(Target target) {
        points_ = std::move(target.points);
        const auto common_of = [&](std::uint64_t epoch) {
            const auto found = target.common.find(epoch);
            return found == target.common.end() ? nullptr : &found->second;
        };
        while (auto step = next_by_age(points_, policy_, {}, common_of)) apply(*step);
        std::vector<std::int64_t> left;
        for (const auto& point : points_) {
            if (const auto* common = common_of(point.epoch))
                left.push_back(common->time.ns / minute);
        }
        return left;
    }
};

TEST_F(CommonRetentionTest, OfEachPeriodTheLastCommonOneStays) {
    std::vector<std::int64_t> cuts;
    for (std::int64_t at = 5; at < 360; at += 10) cuts.push_back(at);
    // At 355: those before 180 are thinned, the period that ends at 240 is not old enough.
    const auto left = settled(target(cuts, 2, 0));
    EXPECT_EQ(left[0], 55);
    EXPECT_EQ(left[1], 115);
    EXPECT_EQ(left[2], 175);
    EXPECT_EQ(left[3], 185);
    EXPECT_EQ(left.size(), 3U + 18U);
}

// Without their time in common each would keep the last of an hour of its own.
TEST_F(CommonRetentionTest, TargetsKeepTheSameOnesWhateverTheirClocks) {
    std::vector<std::int64_t> cuts;
    for (std::int64_t at = 7; at < 600; at += 1 + (at * 7) % 13) cuts.push_back(at);
    const auto first = settled(target(cuts, 3, 0));
    for (const std::int64_t ahead : {-17, 25, 31, 59}) {
        const auto other = settled(target(cuts, 1 + ahead % 5 * (ahead > 0), ahead));
        std::vector<std::int64_t> both;
        std::ranges::set_intersection(first, other, std::back_inserter(both));
        // One in each of the hours that are thinned, and all since.
        for (std::int64_t hour = 0; hour < 10; ++hour) {
            const auto of_hour = [&](std::int64_t at) { return at / 60 == hour; };
            const auto last = std::ranges::find_if(cuts.rbegin(), cuts.rend(), of_hour);
            EXPECT_TRUE(std::ranges::binary_search(both, *last)) << ahead << " " << *last;
        }
    }
}

// As it goes: points are given up at each that is closed, marks come some time after their points,
// by clocks that differ, and with other points in between.
class CommonOverTimeTest : public CommonRetentionTest {
protected:
    // A target lives through it; which common cuts it has at the end.
    std::set<std::int64_t> live(const std::vector<std::int64_t>& cuts, std::mt19937_64& random) {
        const auto below = [&](std::int64_t n) {
            return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
        };
        const std::int64_t source = below(200) - 100, ours = below(200) - 100;
        const std::int64_t often = 2 + below(9);
        std::map<std::uint64_t, format::CommonCut> common;
        std::multimap<std::int64_t, std::pair<std::uint64_t, std::int64_t>> late;
        const auto common_of = [&](std::uint64_t epoch) {
            const auto found = common.find(epoch);
            return found == common.end() ? nullptr : &found->second;
        };
        points_.clear();
        auto next = cuts.begin();
        for (std::int64_t now = 0; now <= end; ++now) {
            const bool cut = next != cuts.end() && *next == now;
            if (!cut && below(often) != 0) continue;
            // So that no clock is before 1970.
            add_by(now + source + 200, now + ours + 200);
            if (cut) late.emplace(now + below(30), std::pair(epoch_, *next++));
            for (; !late.empty() && late.begin()->first <= now; late.erase(late.begin())) {
                format::CommonCut mark;
                mark.time.ns = late.begin()->second.second * minute;
                common[late.begin()->second.first] = mark;
            }
            while (auto step = next_by_age(points_, policy_, {}, common_of)) apply(*step);
        }
        std::set<std::int64_t> left;
        for (const auto& point : points_) {
            if (const auto* mark = common_of(point.epoch)) left.insert(mark->time.ns / minute);
        }
        return left;
    }
    static constexpr std::int64_t end = 2000;
};

TEST_F(CommonOverTimeTest, TheLastOfEachPeriodIsWithAll) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random(seed);
        policy_.thinned_to = std::chrono::minutes(20 + random() % 90);
        policy_.age = std::chrono::minutes(900);
        std::vector<std::int64_t> cuts;
        for (std::int64_t at = 0; at < end - 40; at += 1 + static_cast<std::int64_t>(random() % 25))
            cuts.push_back(at);
        const auto one = live(cuts, random), other = live(cuts, random);
        const std::int64_t every = policy_.thinned_to.count() / minute;
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
            // The newest points may be some minutes apart.
            if (cuts[i] < end - 900 + 20 || cuts[i] / every == cuts[i + 1] / every) continue;
            EXPECT_TRUE(one.contains(cuts[i])) << seed << " " << cuts[i];
            EXPECT_TRUE(other.contains(cuts[i])) << seed << " " << cuts[i];
        }
        EXPECT_LT(one.size(), cuts.size() * 900 / end);
    }
}

}  // namespace
}  // namespace ebb::core
