// SPDX-License-Identifier: Apache-2.0
#include "ctl/bisect.h"

#include <gtest/gtest.h>

#include <set>

namespace ebb::ctl {
namespace {

// Of each number of points, and each first bad one.
TEST(BisectSearch, FindsIt) {
    for (std::size_t points = 1; points < 40; ++points) {
        for (std::size_t first_bad = 0; first_bad <= points; ++first_bad) {
            BisectSearch search(points);
            std::size_t looks = 0;
            while (const auto at = search.next()) {
                ASSERT_LT(*at, points);
                search.judge(*at, *at < first_bad ? Verdict::good : Verdict::bad);
                ASSERT_LE(++looks, 8U);
            }
            EXPECT_EQ(search.last_good().has_value(), first_bad > 0);
            if (first_bad > 0) {
                EXPECT_EQ(*search.last_good(), first_bad - 1);
            }
            EXPECT_EQ(search.first_bad().has_value(), first_bad < points);
            if (first_bad < points) {
                EXPECT_EQ(*search.first_bad(), first_bad);
            }
            EXPECT_TRUE(search.skipped().empty());
        }
    }
}

TEST(BisectSearch, GoesRoundWhatNobodyCanTell) {
    for (std::size_t first_bad = 0; first_bad <= 12; ++first_bad) {
        for (unsigned mask = 0; mask < 1U << 12; mask += 7) {
            BisectSearch search(12);
            std::set<std::size_t> seen;
            while (const auto at = search.next()) {
                ASSERT_TRUE(seen.insert(*at).second);
                if ((mask >> *at & 1) != 0)
                    search.judge(*at, Verdict::skip);
                else
                    search.judge(*at, *at < first_bad ? Verdict::good : Verdict::bad);
            }
            // Nothing that could be told is left between both.
            const std::size_t from = search.last_good() ? *search.last_good() + 1 : 0;
            const std::size_t to = search.first_bad().value_or(12);
            ASSERT_LE(from, first_bad);
            ASSERT_GE(to, first_bad);
            for (std::size_t i = from; i < to; ++i) EXPECT_NE(mask >> i & 1, 0U);
            EXPECT_EQ(search.skipped().size(), to - from);
        }
    }
}

TEST(BisectSearch, OfNothing) {
    BisectSearch search(0);
    EXPECT_FALSE(search.next());
    EXPECT_FALSE(search.last_good());
    EXPECT_FALSE(search.first_bad());
}

}  // namespace
}  // namespace ebb::ctl
