// SPDX-License-Identifier: Apache-2.0
#include "service/interval_watch.h"

#include <gtest/gtest.h>

#include <vector>

namespace ebb::service {
namespace {

constexpr std::int64_t second = 1'000'000'000;

class IntervalWatchTest : public testing::Test {
protected:
    // What is seen for so long, looked at each second; what is told goes to told_.
    void pass(std::int64_t seconds, std::uint64_t seen_ms) {
        for (; seconds > 0; --seconds, now_ += second)
            if (watch_.see(seen_ms, now_)) told_.push_back(watch_.told_ms());
    }
    IntervalWatch watch_;
    std::int64_t now_ = 100 * second;
    std::vector<std::uint64_t> told_;
};

using Told = std::vector<std::uint64_t>;

TEST_F(IntervalWatchTest, TellsOnceWhenItGrowsAndOnceWhenItReturns) {
    pass(600, 0);
    pass(15, 12'000);
    EXPECT_EQ(told_, Told{});
    pass(3'600, 12'000);
    EXPECT_EQ(told_, Told{12'000});
    pass(60, 0);
    EXPECT_EQ(told_, Told{12'000});
    pass(3'600, 0);
    EXPECT_EQ(told_, (Told{12'000, 0}));
}

TEST_F(IntervalWatchTest, WhatPassesAtOnceIsNotTold) {
    for (int i = 0; i < 500; ++i) {
        pass(10, 12'000);
        pass(10, 0);
    }
    EXPECT_EQ(told_, Told{});
    pass(20, 12'000);
    for (int i = 0; i < 500; ++i) {
        pass(40, 0);
        pass(10, 12'000);
    }
    EXPECT_EQ(told_, Told{12'000});
}

// It is told in steps of two, however it wavers between them.
TEST_F(IntervalWatchTest, NewsOfGrowthDoNotFlood) {
    pass(60, 8'000);
    for (std::uint64_t i = 0; i < 1'000; ++i) pass(20, 7'000 + 100 * (i % 80));
    EXPECT_EQ(told_, Told{8'000});
    pass(60, 16'000);
    for (std::uint64_t seen = 16'000; seen < 300'000; seen += 1'000) pass(20, seen);
    EXPECT_EQ(told_, (Told{8'000, 16'000, 32'000, 64'000, 128'000, 256'000}));
    pass(300, 60'000);
    EXPECT_EQ(told_.back(), 60'000U);
}

TEST_F(IntervalWatchTest, GoesOnAfterARestart) {
    watch_ = IntervalWatch(12'000);
    pass(300, 12'000);
    EXPECT_EQ(told_, Told{});
    pass(300, 0);
    EXPECT_EQ(told_, Told{0});
}

TEST_F(IntervalWatchTest, AClockThatIsSetTellsNothing) {
    pass(10, 12'000);
    now_ -= 3'600 * second;
    pass(10, 12'000);
    EXPECT_EQ(told_, Told{});
    pass(10, 12'000);
    EXPECT_EQ(told_, Told{12'000});
}

}  // namespace
}  // namespace ebb::service
