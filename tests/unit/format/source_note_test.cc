// SPDX-License-Identifier: Apache-2.0
#include "format/source_note.h"

#include <gtest/gtest.h>

namespace ebb::format {
namespace {

TEST(SourceNote, ComesBackAndEveryFlippedBitIsNoticed) {
    SourceNote note;
    note.cookie.protection.bytes.fill(std::byte{1});
    note.cookie.incarnation.bytes.fill(std::byte{2});
    note.cookie.closed = 7;
    note.cookie.begun = 8;
    note.cookie.pass = 3;
    note.run.bytes.fill(std::byte{4});
    note.brought_run.bytes.fill(std::byte{5});
    note.brought = true;
    note.pass = 2;
    note.count = 77;
    note.sent = 78;
    note.chain.fill(std::byte{6});
    const auto bytes = encode(note);
    ASSERT_EQ(bytes.size(), source_note_bytes);
    EXPECT_EQ(decode_source_note(bytes), note);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto damaged = bytes;
        damaged[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        EXPECT_FALSE(decode_source_note(damaged).has_value()) << bit;
    }
    EXPECT_FALSE(decode_source_note(std::span(bytes).first(bytes.size() - 1)).has_value());
    EXPECT_FALSE(decode_source_note({}).has_value());
}

}  // namespace
}  // namespace ebb::format
