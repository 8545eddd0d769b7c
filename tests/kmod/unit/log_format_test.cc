// SPDX-License-Identifier: Apache-2.0
// What is in a map area (kmod/log_format.c, docs/map-format.md).
#include "log_format.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Block = std::array<std::uint8_t, EBB_FORMAT_BLOCK>;
using Payload = std::array<std::uint8_t, EBB_FORMAT_PAYLOAD>;

const std::array<std::uint8_t, EBB_UUID_LEN> uuid = {1, 2, 3};

ebb_format_id log_id(std::uint32_t index) {
    return {EBB_FORMAT_LOG, index, uuid.data()};
}

Payload pattern(unsigned seed) {
    Payload payload;
    for (std::size_t i = 0; i < payload.size(); ++i)
        payload[i] = static_cast<std::uint8_t>(i * 7 + seed);
    return payload;
}

Block encoded(const ebb_format_id& id, std::uint64_t seq, const Payload& payload) {
    Block block{};
    ebb_format_encode(block.data(), &id, seq, payload.data());
    return block;
}

ebb_format_verdict decoded(const Block& block, const ebb_format_id& id, std::uint64_t& seq,
                           Payload& payload) {
    __u64 n = 0;
    const auto verdict = ebb_format_decode(block.data(), &id, &n, payload.data());
    seq = n;
    return verdict;
}

ebb_super some_super() {
    ebb_super super{};
    super.state = EBB_SUPER_SEALED;
    super.reasons = 0x1234;
    super.flags = EBB_SUPER_F_SUSPECT;
    std::memcpy(super.uuid, uuid.data(), uuid.size());
    std::strcpy(super.stable_id, "wwn-0x5000c29000000001");
    super.disk_sectors = 1ull << 31;
    struct ebb_format_geometry g;
    ebb_format_geometry(super.disk_sectors, &g);
    super.region_sectors = g.region_sectors;
    super.log_blocks = g.log_blocks;
    super.fine_blocks = g.fine_blocks;
    super.log_since = 77;
    super.seal_seq = 76;
    super.seal_bits = 12345678901;
    super.seal_blocks = 9;
    super.seal_crc = 0xdeadbeef;
    super.nr_boots = 2;
    super.boots[1][15] = 9;
    super.nr_witnesses = EBB_WITNESSES_MAX;
    super.witnesses[63] = {(1ull << 28) - 1, 0x55aa55aa, 1};
    super.cookie[63] = 'x';
    return super;
}

}  // namespace

TEST(LogFormat, CrcIsCastagnolis) {
    EXPECT_EQ(ebb_format_crc(0, "123456789", 9), 0xE3069283u);
    EXPECT_EQ(ebb_format_crc(ebb_format_crc(0, "1234", 4), "56789", 5), 0xE3069283u);
}

TEST(LogFormat, GeometryIsWhatTheHeaderSays) {
    struct {
        std::uint64_t gib;
        std::uint32_t region_sectors;
    } sizes[] = {{1, 2048}, {256, 2048}, {257, 4096}, {512, 4096}, {513, 8192}, {16384, 8192}};
    for (const auto& size : sizes) {
        struct ebb_format_geometry g;
        const std::uint64_t sectors = size.gib << 21;
        ebb_format_geometry(sectors, &g);
        EXPECT_EQ(g.region_sectors, size.region_sectors) << size.gib;
        EXPECT_EQ(g.regions, (sectors + size.region_sectors - 1) / size.region_sectors);
        EXPECT_EQ(g.log_blocks, (g.regions + 31743) / 31744);
        EXPECT_EQ(g.fine_blocks, (sectors / 8 + 31679) / 31680);
        EXPECT_EQ(g.area_sectors, 8 * (2 + 2ull * g.log_blocks + g.fine_blocks));
        // Figure F11: hot, on disk, idle.
        EXPECT_LE(g.regions, 262144 * ((size.gib + 1023) / 1024));
    }
    struct ebb_format_geometry g;
    ebb_format_geometry(1, &g);
    EXPECT_EQ(g.regions, 1u);
    EXPECT_EQ(g.area_sectors, 8u * 5);
}

TEST(LogFormat, ABlockComesBack) {
    const Payload payload = pattern(1);
    const Block block = encoded(log_id(5), 42, payload);
    Payload back{};
    std::uint64_t seq = 0;
    EXPECT_EQ(decoded(block, log_id(5), seq, back), EBB_FORMAT_WHOLE);
    EXPECT_EQ(seq, 42u);
    EXPECT_EQ(back, payload);
}

TEST(LogFormat, AnotherPlaceMapOrKindIsBad) {
    const Block block = encoded(log_id(5), 42, pattern(1));
    auto other = uuid;
    other[15] ^= 1;
    Payload back{};
    std::uint64_t seq = 0;
    EXPECT_EQ(decoded(block, log_id(6), seq, back), EBB_FORMAT_BAD);
    EXPECT_EQ(decoded(block, {EBB_FORMAT_LOG, 5, other.data()}, seq, back), EBB_FORMAT_BAD);
    EXPECT_EQ(decoded(block, {EBB_FORMAT_FINE_BLOCK, 5, uuid.data()}, seq, back), EBB_FORMAT_BAD);
    EXPECT_EQ(seq, 0u);
}

TEST(LogFormat, EveryBitCounts) {
    const Block block = encoded(log_id(0), 7, pattern(3));
    Payload back{};
    std::uint64_t seq = 0;
    for (std::size_t bit = 0; bit < block.size() * 8; ++bit) {
        Block damaged = block;
        damaged[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        ASSERT_EQ(decoded(damaged, log_id(0), seq, back), EBB_FORMAT_BAD) << bit;
    }
}

// Power fails in the middle of a write: each sector is the old one or the new one.
TEST(LogFormat, EveryMixtureIsTorn) {
    const Block older = encoded(log_id(0), 7, pattern(1));
    const Block newer = encoded(log_id(0), 9, pattern(2));
    for (unsigned mask = 1; mask < 255; ++mask) {
        Block mixed = older;
        for (unsigned i = 0; i < EBB_FORMAT_SECTORS; ++i)
            if (mask & 1u << i)
                std::memcpy(&mixed[i * EBB_FORMAT_SECTOR], &newer[i * EBB_FORMAT_SECTOR],
                            EBB_FORMAT_SECTOR);
        Payload back = pattern(9);
        std::uint64_t seq = 0;
        EXPECT_EQ(decoded(mixed, log_id(0), seq, back), EBB_FORMAT_TORN) << mask;
        EXPECT_EQ(seq, 9u);
        EXPECT_EQ(back, pattern(9));
        mixed[700] ^= 4;
        EXPECT_EQ(decoded(mixed, log_id(0), seq, back), EBB_FORMAT_BAD) << mask;
    }
}

TEST(LogFormat, ASuperblockComesBack) {
    const ebb_super super = some_super();
    Payload payload;
    ebb_super_encode(&super, payload.data());
    ebb_super back{};
    ASSERT_TRUE(ebb_super_decode(payload.data(), &back));
    Payload again;
    ebb_super_encode(&back, again.data());
    EXPECT_EQ(payload, again);
    EXPECT_EQ(back.seal_bits, super.seal_bits);
    EXPECT_EQ(back.witnesses[63].block, super.witnesses[63].block);
    EXPECT_STREQ(back.stable_id, super.stable_id);
}

TEST(LogFormat, ASuperblockThatCannotBeIsRefused) {
    std::vector<void (*)(ebb_super&)> faults = {
        [](ebb_super& s) { s.state = 0; },
        [](ebb_super& s) { s.state = 5; },
        [](ebb_super& s) { s.disk_sectors = 0; },
        [](ebb_super& s) { s.disk_sectors = 1ull << 48; },
        [](ebb_super& s) { s.disk_sectors += 1ull << 30; },
        [](ebb_super& s) { s.region_sectors /= 2; },
        [](ebb_super& s) { ++s.log_blocks; },
        [](ebb_super& s) { --s.fine_blocks; },
        [](ebb_super& s) { s.seal_blocks = s.fine_blocks + 1; },
        [](ebb_super& s) { s.nr_boots = EBB_BOOTS_MAX + 1; },
        [](ebb_super& s) { s.nr_witnesses = EBB_WITNESSES_MAX + 1; },
        [](ebb_super& s) { s.witnesses[s.nr_witnesses - 1].block = (s.disk_sectors + 7) / 8; },
        [](ebb_super& s) { s.stable_id[0] = 0; },
        [](ebb_super& s) { s.stable_id[EBB_ID_MAX - 1] = 'x'; },
    };
    for (std::size_t i = 0; i < faults.size(); ++i) {
        ebb_super super = some_super();
        faults[i](super);
        Payload payload;
        ebb_super_encode(&super, payload.data());
        ebb_super back;
        EXPECT_FALSE(ebb_super_decode(payload.data(), &back)) << i;
    }
    const ebb_super super = some_super();
    Payload payload;
    ebb_super_encode(&super, payload.data());
    payload[8] = 2;  // version
    ebb_super back;
    EXPECT_FALSE(ebb_super_decode(payload.data(), &back));
}
