// SPDX-License-Identifier: Apache-2.0
#include "format/map_directory.h"

#include <gtest/gtest.h>

#include <cstring>

#include "format/crc32c.h"

namespace ebb::format {
namespace {

constexpr std::uint64_t mib = 1 << 20;

MapDirectory two_disks() {
    MapDirectory directory;
    directory.uuid.bytes.fill(std::byte{9});
    directory.sequence = 4;
    directory.device_bytes = 16 * mib;
    EXPECT_TRUE(directory.reserve("naa.1", 64 * mib, 7).has_value());
    EXPECT_TRUE(directory.reserve("naa.2", 1024 * mib, 7).has_value());
    return directory;
}

TEST(Crc32c, KnownValues) {
    const char* text = "123456789";
    EXPECT_EQ(crc32c(std::as_bytes(std::span(text, 9))), 0xe3069283U);
    const std::vector<std::byte> zeroes(32);
    EXPECT_EQ(crc32c(zeroes), 0x8a9136aaU);
}

TEST(MapDirectory, ComesBack) {
    const auto directory = two_disks();
    const auto copy = encode(directory);
    ASSERT_EQ(copy.size(), directory_copy_bytes);
    const auto back = decode_map_directory(copy);
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->uuid, directory.uuid);
    EXPECT_EQ(back->sequence, 4U);
    EXPECT_EQ(back->device_bytes, directory.device_bytes);
    EXPECT_EQ(back->slots, directory.slots);
}

TEST(MapDirectory, EveryFlippedBitIsNoticed) {
    const auto copy = encode(two_disks());
    for (std::size_t bit = 0; bit < copy.size() * 8; bit += 37) {
        auto damaged = copy;
        damaged[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        EXPECT_FALSE(decode_map_directory(damaged).has_value()) << bit;
    }
}

TEST(MapDirectory, TheNewerWholeCopyCounts) {
    auto directory = two_disks();
    const auto older = encode(directory);
    directory.sequence = 5;
    directory.remove("naa.1");
    const auto newer = encode(directory);
    EXPECT_EQ(newest_map_directory(older, newer)->sequence, 5U);
    EXPECT_EQ(newest_map_directory(newer, older)->sequence, 5U);
    auto torn = newer;
    torn[300] ^= std::byte{1};
    EXPECT_EQ(newest_map_directory(older, torn)->slots.size(), 2U);
    EXPECT_EQ(newest_map_directory(torn, torn).error().name(), "E_MAP_DAMAGED");
    const std::vector<std::byte> nothing(directory_copy_bytes);
    EXPECT_EQ(newest_map_directory(nothing, newer)->sequence, 5U);
    EXPECT_EQ(newest_map_directory(torn, nothing).error().name(), "E_MAP_DAMAGED");
    EXPECT_EQ(newest_map_directory(nothing, nothing).error().name(), "E_MAP_NOT_FOUND");
}

TEST(MapDirectory, AreasNeverOverlapAndAreUsedAgain) {
    auto directory = two_disks();
    const auto first = *directory.find("naa.1");
    EXPECT_TRUE(directory.remove("naa.1"));
    EXPECT_FALSE(directory.remove("naa.1"));
    EXPECT_EQ(directory.reserve("naa.3", 8 * mib, 1)->offset, first.offset);
    EXPECT_EQ(directory.reserve("naa.2", 512 * mib, 3)->offset, directory.find("naa.2")->offset);
    EXPECT_EQ(directory.find("naa.2")->group, 3U);
    for (int i = 10; i < 40; ++i) {
        const auto slot = directory.reserve("naa." + std::to_string(i), 100ULL * i * mib, 1);
        if (!slot) {
            EXPECT_EQ(slot.error().name(), "E_MAP_FULL");
        }
        EXPECT_TRUE(decode_map_directory(encode(directory)).has_value());
    }
}

TEST(MapDirectory, ALargerDiskGetsALargerArea) {
    MapDirectory directory;
    directory.device_bytes = 256 * mib;
    ASSERT_TRUE(directory.reserve("a", mib, 1).has_value());
    ASSERT_TRUE(directory.reserve("b", mib, 1).has_value());
    const auto grown = directory.reserve("a", 2ULL << 40, 1);
    ASSERT_TRUE(grown.has_value());
    EXPECT_GE(grown->length, 64 * mib);
    EXPECT_EQ(directory.slots.size(), 2U);
    EXPECT_TRUE(decode_map_directory(encode(directory)).has_value());
}

TEST(MapDirectory, WhatIsNoDirectoryIsRefused) {
    auto directory = two_disks();
    directory.slots[1].offset = directory.slots[0].offset;
    EXPECT_EQ(decode_map_directory(encode(directory)).error().code, ErrorCode::corrupt);
    directory = two_disks();
    directory.slots[0].length = 32 * mib;
    EXPECT_EQ(decode_map_directory(encode(directory)).error().code, ErrorCode::corrupt);
    directory = two_disks();
    directory.slots[1].stable_id = "naa.1";
    EXPECT_EQ(decode_map_directory(encode(directory)).error().code, ErrorCode::corrupt);
    directory = two_disks();
    directory.slots[1].offset = 4096;
    EXPECT_EQ(decode_map_directory(encode(directory)).error().code, ErrorCode::corrupt);
    EXPECT_EQ(directory.reserve(std::string(200, 'x'), mib, 1).error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace ebb::format
