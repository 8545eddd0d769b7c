// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>

#include "format/codec.h"
#include "format/frame.h"
#include "format/message.h"
#include "format/record.h"

namespace ebb::format {
namespace {

std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> data(size);
    for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<std::byte>(i * 31 + i / 7);
    return data;
}

TEST(Frame, SplitterGivesWholeFramesWhateverThePieces) {
    std::vector<std::byte> stream;
    for (std::uint64_t i = 0; i < 5; ++i) {
        const auto frame = encode(Notice{false, ErrorCode::no_space, "full"}, i);
        stream.insert(stream.end(), frame.begin(), frame.end());
    }
    for (std::size_t piece : {1U, 7U, 33U, 1000U}) {
        FrameSplitter splitter;
        std::uint64_t seen = 0;
        for (std::size_t at = 0; at < stream.size(); at += piece) {
            splitter.push(std::span(stream).subspan(at, std::min(piece, stream.size() - at)));
            while (true) {
                auto frame = splitter.next();
                ASSERT_TRUE(frame.has_value());
                if (!*frame) break;
                EXPECT_EQ(frame_of(**frame)->sequence, seen++);
            }
        }
        EXPECT_EQ(seen, 5U);
    }
}

TEST(Frame, EveryFlippedHeaderBitIsRefused) {
    const auto frame = encode(Ack{1, 2, 3}, 9);
    for (std::size_t bit = 0; bit < frame_header_bytes * 8; ++bit) {
        auto damaged = frame;
        damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        EXPECT_FALSE(decode_frame_header(damaged).has_value()) << bit;
    }
}

TEST(Message, HelloComesBack) {
    Hello hello;
    hello.protection.bytes.fill(std::byte{3});
    hello.session = 77;
    hello.disks = {{"wwn-1", 4096}, {"wwn-2", 1 << 20}};
    auto back = decode_hello(encode(hello, 0));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->session, 77U);
    EXPECT_EQ(back->protection, hello.protection);
    ASSERT_EQ(back->disks.size(), 2U);
    EXPECT_EQ(back->disks[1].stable_id, "wwn-2");
    EXPECT_EQ(back->disks[1].size, 1U << 20);
}

TEST(Message, WelcomeComesBack) {
    Welcome welcome;
    welcome.closed_epoch = 5;
    welcome.window_bytes = 1 << 20;
    welcome.extent_bytes = 1 << 20;
    welcome.open = {6, {}, true, true, 3, {}, PassKind::frozen, 99, {}};
    auto back = decode_welcome(encode(welcome, 1));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->open.epoch, 6U);
    EXPECT_EQ(back->open.kind, PassKind::frozen);
    EXPECT_EQ(back->open.count, 99U);
    EXPECT_TRUE(back->open.full && back->open.resumable);
}

TEST(Message, ExtentKeepsItsContentCompressedOrNot) {
    for (int level : {0, 1}) {
        auto content = pattern(64 << 10);
        std::memset(content.data(), 1, 32 << 10);
        ExtentHead head{1, 2, 0, 8192, 64 << 10, ExtentKind::data, xxh3_128(content)};
        const auto frame = encode(head, content, level, 0);
        if (level > 0) {
            EXPECT_LT(frame.size(), content.size());
        }
        auto view = decode_extent(frame);
        ASSERT_TRUE(view.has_value());
        EXPECT_EQ(view->compressed, level > 0);
        std::vector<std::byte> back(content.size());
        ASSERT_TRUE(unpack(*view, back).has_value());
        EXPECT_EQ(back, content);
    }
}

TEST(Message, DamagedContentIsADigestError) {
    const auto content = pattern(4096);
    ExtentHead head{1, 0, 0, 0, 4096, ExtentKind::data, xxh3_128(content)};
    auto frame = encode(head, content, 0, 0);
    frame.back() ^= std::byte{1};
    auto view = decode_extent(frame);
    ASSERT_TRUE(view.has_value());
    std::vector<std::byte> back(4096);
    auto status = unpack(*view, back);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, ErrorCode::digest);
}

TEST(Message, ExtentsOutOfBoundsAreRefused) {
    ExtentHead head{1, 0, 0, UINT64_MAX - 511, 4096, ExtentKind::zero, {}};
    EXPECT_FALSE(decode_extent(encode(head, {}, 0, 0)).has_value());
    head = {1, 0, 0, 100, 4096, ExtentKind::zero, {}};
    EXPECT_FALSE(decode_extent(encode(head, {}, 0, 0)).has_value());
    head = {1, 0, 0, 0, 0, ExtentKind::zero, {}};
    EXPECT_FALSE(decode_extent(encode(head, {}, 0, 0)).has_value());
}

TEST(Message, SeveralExtentsInAFrame) {
    const auto noise = pattern(4096);
    auto soft = pattern(16 << 10);
    std::memset(soft.data(), 1, 12 << 10);
    const std::vector<ExtentHead> heads = {
        {7, 40, 0, 8192, 4096, ExtentKind::data, xxh3_128(noise)},
        {7, 41, 1, 0, 1 << 20, ExtentKind::zero, {}},
        {7, 42, 2, 512, 16 << 10, ExtentKind::data, xxh3_128(soft)},
        {7, 43, 0, 4096, 4096, ExtentKind::same, xxh3_128(noise)},
    };
    ExtentsWriter writer;
    EXPECT_EQ(writer.bytes(), 0U);
    writer.add(heads[0], noise, 0);
    EXPECT_EQ(writer.bytes(), 12U + 38U + 4096U);
    writer.add(heads[1], {}, 1);
    writer.add(heads[2], soft, 1);
    writer.add(heads[3], {}, 1);
    const auto frame = writer.take(5);
    EXPECT_TRUE(writer.empty());
    EXPECT_EQ(frame_of(frame)->type, FrameType::extents);
    EXPECT_EQ(frame_of(frame)->sequence, 5U);
    const auto extents = decode_extents(frame);
    ASSERT_TRUE(extents.has_value());
    ASSERT_EQ(extents->size(), heads.size());
    for (std::size_t i = 0; i < heads.size(); ++i) {
        const ExtentView& extent = (*extents)[i];
        EXPECT_EQ(extent.head.pass, 7U);
        EXPECT_EQ(extent.head.index, heads[i].index);
        EXPECT_EQ(extent.head.disk, heads[i].disk);
        EXPECT_EQ(extent.head.offset, heads[i].offset);
        EXPECT_EQ(extent.head.length, heads[i].length);
        EXPECT_EQ(extent.head.kind, heads[i].kind);
        EXPECT_EQ(extent.head.digest, heads[i].digest);
        EXPECT_EQ(extent.compressed, i == 2);
        if (extent.head.kind != ExtentKind::data) continue;
        std::vector<std::byte> back(extent.head.length);
        ASSERT_TRUE(unpack(extent, back).has_value());
        EXPECT_EQ(back, i == 0 ? noise : soft);
    }
}

TEST(Message, OneBadExtentOfSeveralIsRefused) {
    const auto encoded = [](const ExtentHead& last) {
        ExtentsWriter writer;
        writer.add({1, 0, 0, 0, 4096, ExtentKind::zero, {}}, {}, 0);
        writer.add(last, {}, 0);
        return writer.take(0);
    };
    EXPECT_TRUE(decode_extents(encoded({1, 1, 0, 4096, 4096, ExtentKind::zero, {}})).has_value());
    for (const ExtentHead& last : {
             ExtentHead{1, 1, 0, UINT64_MAX - 511, 4096, ExtentKind::zero, {}},
             ExtentHead{1, 1, 0, 100, 4096, ExtentKind::zero, {}},
             ExtentHead{1, 1, 0, 0, 0, ExtentKind::zero, {}},
             ExtentHead{1, 1, 0, 0, 4096, ExtentKind::data, {}},  // without content
         }) {
        EXPECT_FALSE(decode_extents(encoded(last)).has_value());
    }
    std::vector<std::byte> frame(frame_header_bytes + 12);
    seal_frame(frame, FrameType::extents, 0);
    EXPECT_FALSE(decode_extents(frame).has_value());
}

TEST(Message, NoPrefixOfAPayloadDecodes) {
    const auto frame =
        encode(PassEnd{4, 2, PassKind::frozen, 7, {}, {5}, "name", PointKind::application}, 0);
    ASSERT_TRUE(decode_pass_end(frame).has_value());
    for (std::size_t size = 0; size < frame.size(); ++size) {
        EXPECT_FALSE(decode_pass_end(std::span(frame).first(size)).has_value());
    }
}

TEST(Message, ComparisonsComeBack) {
    const Compare asked{3, 8, 1, 4096, 8192, sha256(pattern(8192))};
    const auto back = decode_compare(encode(asked, 0));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->pass, 3U);
    EXPECT_EQ(back->id, 8U);
    EXPECT_EQ(back->offset, 4096U);
    EXPECT_EQ(back->digest, asked.digest);
    auto bad = asked;
    bad.length = 0;
    EXPECT_FALSE(decode_compare(encode(bad, 0)).has_value());
    bad.length = extent_bytes_max + 512;
    EXPECT_FALSE(decode_compare(encode(bad, 0)).has_value());
    bad = asked;
    bad.offset = UINT64_MAX - 511;
    EXPECT_FALSE(decode_compare(encode(bad, 0)).has_value());

    const Compared told{8, Verdict::differs, block_digests(pattern(5000))};
    ASSERT_EQ(told.blocks.size(), 2U);
    const auto frame = encode(told, 0);
    const auto again = decode_compared(frame);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->blocks, told.blocks);
    for (std::size_t size = 0; size < frame.size(); ++size)
        EXPECT_FALSE(decode_compared(std::span(frame).first(size)).has_value());
    // What is the same is not told block by block, and what differs is.
    EXPECT_FALSE(decode_compared(encode({8, Verdict::same, told.blocks}, 0)).has_value());
    EXPECT_FALSE(decode_compared(encode({8, Verdict::differs, {}}, 0)).has_value());
}

TEST(Digest, AllZeroSeesEveryByte) {
    for (std::size_t size : {0U, 1U, 15U, 16U, 17U, 512U, 4096U}) {
        std::vector<std::byte> data(size);
        EXPECT_TRUE(all_zero(data));
        for (std::size_t i = 0; i < size; ++i) {
            data[i] = std::byte{1};
            EXPECT_FALSE(all_zero(data)) << size << " " << i;
            data[i] = std::byte{0};
        }
    }
}

TEST(Digest, ManifestDependsOnOrder) {
    const Digest128 one = xxh3_128(pattern(10)), two = xxh3_128(pattern(11));
    ManifestChain a, b;
    a.add(0, 0, 4096, ExtentKind::data, one);
    a.add(0, 4096, 4096, ExtentKind::data, two);
    b.add(0, 4096, 4096, ExtentKind::data, two);
    b.add(0, 0, 4096, ExtentKind::data, one);
    EXPECT_NE(a.value, b.value);
}

TEST(Record, ChainsAndIsVerified) {
    Sha256 chain{};
    const auto payload = pattern(1000);
    const auto made = [&](std::uint64_t sequence, std::uint64_t durable) {
        auto record = blank_record(payload.size());
        record.insert(record.end(), payload.begin(), payload.end());
        const auto header = seal_record(record, RecordType::undo, 3, sequence, durable, chain);
        EXPECT_EQ(header.payload_bytes, payload.size());
        return record;
    };
    const auto first = made(0, 0);
    const auto second = made(1, first.size());
    auto header = decode_record_header(first);
    ASSERT_TRUE(header.has_value());
    EXPECT_EQ(header->epoch, 3U);
    EXPECT_TRUE(check_record(*header, std::span(first).subspan(record_header_bytes)).has_value());
    auto next = decode_record_header(second);
    ASSERT_TRUE(next.has_value());
    EXPECT_EQ(next->durable_bytes, first.size());
    EXPECT_EQ(next->previous, chain_after(std::span(first).first(record_header_bytes)));
    auto torn = first;
    torn[record_header_bytes + 500] ^= std::byte{4};
    EXPECT_FALSE(check_record(*header, std::span(torn).subspan(record_header_bytes)).has_value());
}

TEST(Record, PayloadsComeBack) {
    ClosedRecord closed;
    closed.name = "before-upgrade";
    closed.point = PointKind::application;
    closed.cut_time.ns = 12;
    closed.unreadable = {{1, 4096, 512}};
    auto back = decode_closed_record(encode(closed));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->name, "before-upgrade");
    EXPECT_EQ(back->point, PointKind::application);
    auto other = encode(closed);
    other.back() = std::byte{2};
    EXPECT_FALSE(decode_closed_record(other).has_value());
    EXPECT_EQ(back->unreadable[0].offset, 4096U);

    auto position = decode_position_record(
        encode(PositionRecord{3, {}, PassKind::live, 9, {}, 8, true, 512, {{1, 4096, 512}}}));
    ASSERT_TRUE(position.has_value());
    EXPECT_EQ(position->count, 9U);
    ASSERT_EQ(position->unreadable.size(), 1U);
    EXPECT_EQ(position->unreadable[0].offset, 4096U);
    EXPECT_TRUE(position->frozen_began);

    MetaFile meta;
    meta.disks = {{"a", "b", 512}};
    auto bytes = encode(meta);
    ASSERT_TRUE(decode_meta_file(bytes).has_value());
    bytes.back() ^= std::byte{1};
    EXPECT_EQ(decode_meta_file(bytes).error().code, ErrorCode::corrupt);
    EXPECT_EQ(decode_session_file(encode(SessionFile{5, true}))->session, 5U);
}

TEST(Names, ThereAndBack) {
    const NamesFile names{{{3, "before-the-upgrade"}, {9, ""}}};
    const auto back = decode_names_file(encode(names));
    ASSERT_TRUE(back.has_value());
    ASSERT_EQ(back->entries.size(), 2U);
    EXPECT_EQ(back->entries[0].name, "before-the-upgrade");
    EXPECT_EQ(back->entries[1].epoch, 9U);
    EXPECT_TRUE(back->entries[1].name.empty());
    // Twice the same epoch, or out of order.
    EXPECT_FALSE(decode_names_file(encode(NamesFile{{{3, "a"}, {3, "b"}}})).has_value());
    EXPECT_FALSE(decode_names_file(encode(NamesFile{{{4, "a"}, {3, "b"}}})).has_value());
    const auto bytes = encode(names);
    for (std::size_t size = 0; size < bytes.size(); ++size)
        EXPECT_FALSE(decode_names_file(std::span(bytes).first(size)).has_value());
}

TEST(Meta, CommonCutsOfPoints) {
    CommonCut common;
    common.cut.bytes.fill(std::byte{5});
    common.time.ns = -7;
    const CommonFile file{{{3, common}, {9, {}}}};
    const auto back = decode_common_file(encode(file));
    ASSERT_TRUE(back.has_value());
    ASSERT_EQ(back->entries.size(), 2U);
    EXPECT_EQ(back->entries[0].common, common);
    EXPECT_EQ(back->entries[1].epoch, 9U);
    // Twice the same epoch, or out of order.
    EXPECT_FALSE(decode_common_file(encode(CommonFile{{{3, common}, {3, common}}})).has_value());
    EXPECT_FALSE(decode_common_file(encode(CommonFile{{{4, common}, {3, common}}})).has_value());
    const auto bytes = encode(file);
    for (std::size_t size = 0; size < bytes.size(); ++size)
        EXPECT_FALSE(decode_common_file(std::span(bytes).first(size)).has_value());
    EXPECT_FALSE(decode_names_file(bytes).has_value());
}

}  // namespace
}  // namespace ebb::format
