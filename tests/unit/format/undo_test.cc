// SPDX-License-Identifier: Apache-2.0
#include "format/undo.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ebb::format {
namespace {

using Bytes = std::vector<std::byte>;

Bytes filled(std::size_t size, int value) {
    return Bytes(size, static_cast<std::byte>(value));
}

Bytes noise(std::size_t size) {
    Bytes content(size);
    std::uint64_t state = 88172645463325252ULL;
    for (auto& byte : content) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        byte = static_cast<std::byte>(state);
    }
    return content;
}

struct Made {
    std::vector<UndoEntry> entries;
    Bytes payload;
};

Made make(UndoWriter& writer) {
    Made made;
    const auto record = writer.take(made.entries);
    made.payload.assign(record.begin() + record_header_bytes, record.end());
    return made;
}

Bytes content_of(const Made& made, const UndoEntry& entry) {
    Bytes content(entry.length);
    EXPECT_TRUE(unpack(entry, std::span(made.payload).subspan(entry.at, entry.stored), content)
                    .has_value());
    return content;
}

TEST(Undo, GivesBackWhatWasAdded) {
    UndoWriter writer(1);
    const Bytes random = noise(3 * block_bytes);
    const Bytes large = filled(undo_content_max + block_bytes, 7);
    writer.add(0, 0, random);
    writer.add(1, 8192, large);
    writer.add(1, 8192 + large.size(), filled(block_bytes, 0));
    writer.add_zeroes(1, 8192 + large.size() + block_bytes, 1ULL << 40);
    const Made made = make(writer);
    const auto table = decode_undo_table(made.payload, made.payload.size());
    ASSERT_TRUE(table.has_value());
    ASSERT_EQ(table->size(), 4U);
    EXPECT_EQ((*table)[0].kind, UndoKind::content);
    EXPECT_EQ(content_of(made, (*table)[0]), random);
    EXPECT_EQ((*table)[1].kind, UndoKind::compressed);
    EXPECT_EQ((*table)[1].length, undo_content_max);
    EXPECT_EQ(content_of(made, (*table)[1]), filled(undo_content_max, 7));
    EXPECT_EQ((*table)[2].offset, 8192 + undo_content_max);
    EXPECT_EQ((*table)[3].kind, UndoKind::zero);
    EXPECT_EQ((*table)[3].length, block_bytes + (1ULL << 40));
}

TEST(Undo, GoesOverAsItIsStored) {
    UndoWriter writer(1);
    writer.add(0, 4096, filled(block_bytes, 3));
    const Made first = make(writer);
    UndoWriter other(0);
    other.add(2, 0, noise(block_bytes));
    other.add_stored(
        first.entries[0],
        std::span(first.payload).subspan(first.entries[0].at, first.entries[0].stored));
    const Made second = make(other);
    ASSERT_EQ(second.entries.size(), 2U);
    EXPECT_EQ(content_of(second, second.entries[1]), filled(block_bytes, 3));
}

TEST(Undo, WhatWasExpectedChangesNothing) {
    const Bytes random = noise(3 * block_bytes);
    const auto record = [&](std::size_t expected) {
        UndoWriter writer(0);
        if (expected != 0) writer.expect(expected, expected * block_bytes);
        writer.add(0, 0, random);
        writer.add(0, 8 * block_bytes, filled(block_bytes, 0));
        writer.add(1, 0, filled(block_bytes, 5));
        std::vector<UndoEntry> entries;
        const std::uint64_t bytes = writer.bytes();
        auto taken = writer.take(entries);
        EXPECT_EQ(taken.size(), record_header_bytes + bytes);
        EXPECT_TRUE(writer.empty());
        return taken;
    };
    const auto plain = record(0);
    for (const std::size_t expected : {1U, 2U, 3U, 100U}) EXPECT_EQ(record(expected), plain);
}

TEST(Undo, DamageIsSeenWhereverItIs) {
    UndoWriter writer(0);
    writer.add(0, 0, noise(block_bytes));
    writer.add(0, 2 * block_bytes, noise(block_bytes));
    const Made made = make(writer);
    for (std::size_t at = 0; at < made.payload.size(); at += 7) {
        Made broken = made;
        broken.payload[at] ^= std::byte{4};
        const auto table = decode_undo_table(broken.payload, broken.payload.size());
        if (at < undo_head_bytes + 2 * undo_entry_bytes) {
            EXPECT_FALSE(table.has_value()) << at;
            continue;
        }
        ASSERT_TRUE(table.has_value());
        const auto good = std::ranges::count_if(*table, [&](const UndoEntry& entry) {
            Bytes content(entry.length);
            return unpack(entry, std::span(broken.payload).subspan(entry.at, entry.stored), content)
                .has_value();
        });
        EXPECT_EQ(good, 1) << at;
    }
}

TEST(Undo, TheTableStaysInsideItsPayload) {
    UndoWriter writer(0);
    writer.add(0, 0, noise(block_bytes));
    const Made made = make(writer);
    EXPECT_TRUE(decode_undo_table(made.payload, made.payload.size()).has_value());
    EXPECT_FALSE(decode_undo_table(made.payload, made.payload.size() - 1).has_value());
    const auto head = std::span(made.payload).first(undo_head_bytes);
    EXPECT_EQ(undo_table_bytes(head, made.payload.size()).value(),
              undo_head_bytes + undo_entry_bytes);
    EXPECT_FALSE(undo_table_bytes(head, undo_head_bytes).has_value());
    EXPECT_FALSE(undo_table_bytes(head.first(4), made.payload.size()).has_value());
}

}  // namespace
}  // namespace ebb::format
