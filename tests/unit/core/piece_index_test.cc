// SPDX-License-Identifier: Apache-2.0
// The index beside a map with a piece for each sector.
#include "core/piece_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/units.h"

namespace ebb::core {
namespace {

constexpr std::uint64_t sectors = 20'000;

class PieceIndexTest : public testing::Test {
protected:
    // `at` tells one from another.
    Piece piece(std::uint64_t from, std::uint64_t length, format::UndoKind kind) {
        Piece one;
        one.from = from * sector_bytes;
        one.end = (from + length) * sector_bytes;
        one.at = ++last_;
        one.file = static_cast<std::uint32_t>(last_ % 7);
        one.kind = kind;
        one.entry_offset = one.from;
        one.entry_length = one.end - one.from;
        if (kind == format::UndoKind::zero) return one;
        // The entry reaches beyond the piece.
        const std::uint64_t room = format::undo_content_max - one.entry_length;
        const std::uint64_t before =
            std::min(from, random_() % (room / sector_bytes + 1)) * sector_bytes;
        one.entry_offset -= before;
        one.entry_length += before;
        one.stored = random_() % (1U << 17) + 1;
        one.digest = random_();
        return one;
    }
    void put(const Piece& one) {
        EXPECT_TRUE(PieceIndex::fits(one));
        index_.put(one, [this](std::uint32_t file, int n) { counts_[file] += n; });
        for (auto at = one.from; at < one.end; at += sector_bytes)
            by_sector_.insert_or_assign(at, one);
    }
    // Each sector has its piece, with all that it has; none has two, nor has a gap any.
    void check(std::uint64_t from, std::uint64_t end) {
        from *= sector_bytes;
        end *= sector_bytes;
        std::uint64_t at = 0;
        for (const Piece& found : index_.overlapping(from, end)) {
            ASSERT_TRUE(found.end > from && found.from < end);
            ASSERT_GE(found.from, at);
            const auto gap = by_sector_.lower_bound(std::max(at, from));
            ASSERT_TRUE(gap != by_sector_.end() && gap->first == std::max(found.from, from));
            for (at = std::max(found.from, from); at < std::min(found.end, end);
                 at += sector_bytes) {
                const Piece& wanted = by_sector_.at(at);
                ASSERT_EQ(found.at, wanted.at);
                ASSERT_EQ(found.file, wanted.file);
                ASSERT_EQ(found.kind, wanted.kind);
                ASSERT_EQ(found.digest, wanted.digest);
                ASSERT_EQ(found.stored, wanted.stored);
                if (found.kind == format::UndoKind::zero) continue;
                ASSERT_EQ(found.entry_offset, wanted.entry_offset);
                ASSERT_EQ(found.entry_length, wanted.entry_length);
            }
            at = found.end;
        }
        const auto rest = by_sector_.lower_bound(std::max(at, from));
        ASSERT_TRUE(rest == by_sector_.end() || rest->first >= end);
    }
    void check_counts() {
        std::map<std::uint32_t, std::int64_t> counts;
        std::uint64_t all = 0;
        for (const Piece& found : index_.overlapping(0, UINT64_MAX)) {
            ++counts[found.file];
            ++all;
        }
        std::erase_if(counts_, [](const auto& one) { return one.second == 0; });
        EXPECT_EQ(counts, counts_);
        EXPECT_EQ(index_.size(), all);
    }

    std::mt19937_64 random_{7};
    std::uint64_t last_ = 0;
    PieceIndex index_;
    std::map<std::uint64_t, Piece> by_sector_;
    std::map<std::uint32_t, std::int64_t> counts_;
};

TEST_F(PieceIndexTest, AnyOrderAnyLength) {
    for (int round = 0; round < 4000; ++round) {
        const std::uint64_t from = random_() % (sectors - 2500);
        const bool zero = random_() % 4 == 0;
        // Long ones take many others away, and whole leaves.
        const std::uint64_t length = 1 + random_() % (zero && round % 50 == 0 ? 2500
                                                      : zero                  ? 300
                                                                              : 16);
        put(piece(from, length, zero ? format::UndoKind::zero : format::UndoKind::compressed));
        const std::uint64_t at = random_() % sectors;
        check(at, at + 1 + random_() % 400);
        if (HasFatalFailure()) return;
    }
    check(0, sectors);
    check_counts();
    index_.clear();
    EXPECT_EQ(index_.size(), 0U);
    EXPECT_TRUE(index_.overlapping(0, UINT64_MAX).empty());
}

TEST_F(PieceIndexTest, Ascending) {
    for (std::uint64_t i = 0; i < 2000; ++i) put(piece(i * 8, 8, format::UndoKind::content));
    check(0, sectors);
    check_counts();
}

TEST_F(PieceIndexTest, Descending) {
    for (std::uint64_t i = 2000; i > 0; --i) put(piece(i * 8, 7, format::UndoKind::content));
    check(0, sectors);
    check_counts();
}

// The piece that begins before the leaf in which one looks.
TEST_F(PieceIndexTest, ALongOneThatReachesIntoTheNextLeaf) {
    for (std::uint64_t i = 0; i < 1000; ++i) put(piece(i * 8, 4, format::UndoKind::content));
    for (std::uint64_t i = 10; i < 900; i += 90) {
        put(piece(i * 8 + 2, 700, format::UndoKind::zero));
        check(i * 8 + 600, i * 8 + 650);
    }
    check(0, sectors);
    check_counts();
}

TEST_F(PieceIndexTest, WhatItCannotHold) {
    Piece one = piece(8, 8, format::UndoKind::content);
    EXPECT_TRUE(PieceIndex::fits(one));
    one.at = 1ULL << 48;
    EXPECT_FALSE(PieceIndex::fits(one));
    one = piece(8, 8, format::UndoKind::content);
    one.end += 1;
    EXPECT_FALSE(PieceIndex::fits(one));
    one = piece((1ULL << 48) - 8, 8, format::UndoKind::zero);
    EXPECT_FALSE(PieceIndex::fits(one));
    one = piece(8, 8, format::UndoKind::content);
    one.entry_length = format::undo_content_max + sector_bytes;
    EXPECT_FALSE(PieceIndex::fits(one));
}

}  // namespace
}  // namespace ebb::core
