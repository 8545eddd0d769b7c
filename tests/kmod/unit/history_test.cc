// SPDX-License-Identifier: Apache-2.0
// The judge must be able to say no: one test per rule of History::check.
#include "lib/history.h"

#include <gtest/gtest.h>

#include <array>

namespace ebb::kmodtest {
namespace {

LogRecord record(LogKind kind, std::uint32_t disk, std::uint64_t block, std::uint64_t sequence,
                 std::uint64_t ticket) {
    LogRecord r;
    r.kind = kind;
    r.disk = disk;
    r.block = block;
    r.sequence = sequence;
    r.ticket = ticket;
    return r;
}

// Writer 0: 1 to disk 0 (tickets 1-2), 2 to disk 1 (3-4), 3 to disk 0 again (7-8), 4 to disk 1
// (9-).
History example() {
    History history;
    history.add({
        record(LogKind::issued, 0, 5, 1, 1),
        record(LogKind::acknowledged, 0, 5, 1, 2),
        record(LogKind::issued, 1, 6, 2, 3),
        record(LogKind::acknowledged, 1, 6, 2, 4),
        record(LogKind::issued, 0, 5, 3, 7),
        record(LogKind::acknowledged, 0, 5, 3, 8),
        record(LogKind::issued, 1, 6, 4, 9),
    });
    history.finish();
    return history;
}

void put(Found& found, std::uint32_t disk, std::uint64_t block, std::uint64_t sequence) {
    for (auto& sector : found[{disk, block}].sectors) sector = {disk, 0, block, sequence, 0};
}

TEST(History, AcceptsTheCut) {
    Found found;
    put(found, 0, 5, 1);
    put(found, 1, 6, 2);
    EXPECT_TRUE(example().check(found, 5, 6, 9).empty());
}

TEST(History, AcceptsWhatWasUnderWay) {
    Found found;
    put(found, 0, 5, 3);
    put(found, 1, 6, 4);
    EXPECT_TRUE(example().check(found, 10, 11, 9).empty());
    put(found, 1, 6, 2);
    EXPECT_TRUE(example().check(found, 10, 11, 9).empty());
    found[{1, 6}].sectors[3].sequence = 4;  // torn, and the newer one is not acknowledged
    EXPECT_TRUE(example().check(found, 10, 11, 9).empty());
}

TEST(History, MissesAnAcknowledgedWrite) {
    Found found;
    put(found, 0, 5, 1);
    EXPECT_EQ(example().check(found, 5, 6, 9).size(), 1U);
}

TEST(History, MissesAPredecessorOnAnotherDisk) {
    Found found;
    put(found, 1, 6, 2);  // disk 0 lacks what had been acknowledged before
    EXPECT_EQ(example().check(found, 0, 20, 9).size(), 1U);
}

TEST(History, RefusesTheFuture) {
    Found found;
    put(found, 0, 5, 3);
    put(found, 1, 6, 2);
    EXPECT_EQ(example().check(found, 5, 6, 9).size(), 1U);
}

TEST(History, RefusesATornAcknowledgedWrite) {
    Found found;
    put(found, 0, 5, 3);
    put(found, 1, 6, 2);
    found[{0, 5}].sectors[7].sequence = 1;
    EXPECT_EQ(example().check(found, 10, 11, 9).size(), 1U);
}

TEST(History, RefusesDamage) {
    Found found;
    put(found, 0, 5, 1);
    put(found, 1, 6, 2);
    found[{0, 5}].sectors[0].sequence = never;
    EXPECT_EQ(example().check(found, 5, 6, 9).size(), 1U);
}

TEST(History, PassesOverDiscards) {
    Found found;
    put(found, 1, 6, 2);
    found[{0, 5}].discarded = true;
    EXPECT_TRUE(example().check(found, 5, 6, 9).empty());
}

TEST(Stamp, EachSectorProvesItself) {
    std::array<std::byte, stamp_block> block;
    Stamp stamp{1, 2, 3, 4, 5}, found;
    stamp_fill(block, stamp);
    for (unsigned i = 0; i < sectors_of_block; ++i) {
        std::span sector(block.data() + i * stamp_sector, stamp_sector);
        EXPECT_EQ(stamp_read(sector, i, found), SectorState::stamped);
        EXPECT_EQ(found, stamp);
        EXPECT_EQ(stamp_read(sector, (i + 1) % 8, found), SectorState::damaged);
        sector[300] ^= std::byte{1};
        EXPECT_EQ(stamp_read(sector, i, found), SectorState::damaged);
    }
}

}  // namespace
}  // namespace ebb::kmodtest
