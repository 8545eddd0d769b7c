// SPDX-License-Identifier: Apache-2.0
#include "core/ranges.h"

#include <gtest/gtest.h>

#include <bitset>
#include <random>

namespace ebb::core {
namespace {

TEST(Ranges, AgreesWithABitmap) {
    std::mt19937_64 random(5);
    for (int round = 0; round < 200; ++round) {
        Ranges ranges;
        std::bitset<256> bits;
        for (int i = 0; i < 40; ++i) {
            const std::uint64_t begin = random() % 256;
            const std::uint64_t end = begin + random() % (257 - begin);
            std::bitset<256> missing;
            for (const auto& [from, to] : ranges.missing(begin, end)) {
                ASSERT_LT(from, to);
                for (auto at = from; at < to; ++at) missing.set(at);
            }
            for (auto at = begin; at < end; ++at) ASSERT_EQ(missing[at], !bits[at]);
            std::bitset<256> common;
            for (const auto& [from, to] : ranges.common(begin, end)) {
                ASSERT_LT(from, to);
                for (auto at = from; at < to; ++at) common.set(at);
            }
            for (auto at = begin; at < end; ++at) ASSERT_EQ(common[at], bits[at]);
            if (i % 2 == 0) continue;
            if (i % 4 == 1) {
                ranges.add(begin, end);
                for (auto at = begin; at < end; ++at) bits.set(at);
            } else {
                ranges.remove(begin, end);
                for (auto at = begin; at < end; ++at) bits.reset(at);
            }
            ASSERT_EQ(ranges.bytes(), bits.count());
        }
    }
}

}  // namespace
}  // namespace ebb::core
