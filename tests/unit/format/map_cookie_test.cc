// SPDX-License-Identifier: Apache-2.0
#include "format/map_cookie.h"

#include <gtest/gtest.h>

#include <vector>

namespace ebb::format {
namespace {

TEST(MapCookie, ComesBackAndEveryFlippedBitIsNoticed) {
    MapCookie cookie;
    cookie.protection.bytes.fill(std::byte{1});
    cookie.incarnation.bytes.fill(std::byte{2});
    cookie.closed = 7;
    cookie.begun = 8;
    cookie.pass = 3;
    const auto closes = encode(cookie);
    EXPECT_EQ(decode_map_cookie(closes), cookie);
    cookie.closes = false;
    const auto bytes = encode(cookie);
    EXPECT_NE(bytes, closes);
    EXPECT_EQ(decode_map_cookie(bytes), cookie);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto damaged = bytes;
        damaged[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        EXPECT_FALSE(decode_map_cookie(damaged).has_value()) << bit;
    }
    EXPECT_FALSE(decode_map_cookie(std::vector<std::byte>(map_cookie_bytes)).has_value());
    EXPECT_FALSE(decode_map_cookie(std::span(bytes).first(63)).has_value());
}

}  // namespace
}  // namespace ebb::format
