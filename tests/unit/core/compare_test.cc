// SPDX-License-Identifier: Apache-2.0
// Comparing before sending: the target's answers, and what it does not believe.
#include "target_fixture.h"

namespace ebb::core {
namespace {

using format::ExtentKind;
using format::Verdict;

class CompareTest : public TargetTest {
protected:
    static format::Compare compare(std::uint32_t pass, std::uint64_t compare_id, std::uint64_t at,
                                   const Bytes& content) {
        return {pass,
                compare_id,
                0,
                at * block_bytes,
                static_cast<std::uint32_t>(content.size()),
                format::sha256(content)};
    }
    std::optional<format::Compared> answer(Peer& peer) {
        wait();
        const auto frame = peer.take(FrameType::compared);
        if (!frame) return std::nullopt;
        return *format::decode_compared(*frame);
    }
    // One point; block 3 is `value`.
    Peer& with_point(int value) {
        Peer& peer = welcomed();
        close_epoch(peer, 1, value);
        EXPECT_TRUE(peer.take(FrameType::epoch_closed).has_value());
        return peer;
    }
    static format::ExtentHead same(std::uint64_t index, std::uint64_t at, const Bytes& content) {
        auto extent = head(1, index, at, content);
        extent.kind = ExtentKind::same;
        return extent;
    }
};

TEST_F(CompareTest, SaysWhatIsThere) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    peer.send(compare(1, 0, 3, block(9)));
    auto told = answer(peer);
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->verdict, Verdict::same);
    EXPECT_TRUE(told->blocks.empty());
    Bytes two = block(0);
    two.resize(2 * block_bytes, std::byte{8});
    peer.send(compare(1, 1, 2, two));
    told = answer(peer);
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->id, 1U);
    EXPECT_EQ(told->verdict, Verdict::differs);
    ASSERT_EQ(told->blocks.size(), 2U);
    EXPECT_EQ(told->blocks[0], format::sha256(block(0)));
    EXPECT_EQ(told->blocks[1], format::sha256(block(9)));
}

TEST_F(CompareTest, WhatIsTheSameIsAcknowledgedAndKeepsNoUndo) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1, format::PassKind::live);
    peer.send(compare(1, 0, 3, block(9)));
    ASSERT_TRUE(answer(peer).has_value());
    const auto extent = same(0, 3, block(9));
    peer.send_extent(extent, {});
    wait();
    const auto ack = peer.take(FrameType::ack);
    ASSERT_TRUE(ack.has_value());
    EXPECT_EQ(format::decode_ack(*ack)->count, 1U);
    format::ManifestChain chain;
    chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
    peer.send(format::PassEnd{2, 1, format::PassKind::live, 1, chain.value, {}, ""});
    peer.send(format::PassBegin{2, 2, format::PassKind::frozen, {}, 0});
    peer.send(format::PassEnd{2, 2, format::PassKind::frozen, 0, {}, {}, ""});
    wait();
    EXPECT_TRUE(peer.take(FrameType::epoch_closed).has_value());
    EXPECT_EQ(life_->target.points().back().undo_bytes, 0U);
}

TEST_F(CompareTest, WhatWasNotComparedIsNotTheSame) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    peer.send_extent(same(0, 3, block(9)), {});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(CompareTest, AnAnswerHoldsForItsPassAlone) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    peer.send(compare(1, 0, 3, block(9)));
    ASSERT_TRUE(answer(peer).has_value());
    peer.send(format::PassBegin{2, 2, format::PassKind::frozen, {}, block_bytes});
    auto extent = same(0, 3, block(9));
    extent.pass = 2;
    peer.send_extent(extent, {});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(CompareTest, AnAnswerHoldsOnce) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    peer.send(compare(1, 0, 3, block(9)));
    ASSERT_TRUE(answer(peer).has_value());
    peer.send_extent(head(1, 0, 3, block(8)), block(8));
    peer.send_extent(same(1, 3, block(9)), {});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(CompareTest, NothingIsSentOfWhatIsBeingCompared) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    peer.send(compare(1, 0, 3, block(9)));
    peer.send_extent(head(1, 0, 3, block(8)), block(8));
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(CompareTest, WhatWaitsCounts) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    peer.send_extent(head(1, 0, 3, block(8)), block(8));
    peer.send(compare(1, 0, 3, block(8)));
    const auto told = answer(peer);
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->verdict, Verdict::same);
}

TEST_F(CompareTest, OutOfOrderOrBeyond) {
    const Bytes content = block(9);
    for (int i = 0; i < 6; ++i) {
        Peer& peer = i == 0 ? with_point(9) : welcomed();
        begin(peer, 2, 1);
        auto message = compare(1, 0, 3, content);
        if (i == 0) message.id = 1;
        if (i == 1) message.pass = 2;
        if (i == 2) message.disk = 1;
        if (i == 3) message.offset = disk_bytes;
        if (i == 4) message.pass = 0;  // of the newest point, and an epoch is open
        if (i == 5) message.length = 100;
        peer.send(message);
        expect_refused(peer, ErrorCode::protocol);
    }
}

TEST_F(CompareTest, AnOlderSourceMayNotAsk) {
    Peer& peer = connect();
    auto message = hello();
    message.version_max = 1;
    peer.send(message);
    wait();
    const auto frame = peer.take(FrameType::welcome);
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(format::decode_welcome(*frame)->version, 1);
    begin(peer, 1, 1);
    peer.send(compare(1, 0, 3, block(9)));
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(CompareTest, ADiskThatCannotBeReadSaysSo) {
    Peer& peer = with_point(9);
    begin(peer, 2, 1);
    wait();
    life_->disk.errors_per_thousand = 1000;
    peer.send(compare(1, 0, 3, block(9)));
    const auto told = answer(peer);
    ASSERT_TRUE(told.has_value());
    EXPECT_EQ(told->verdict, Verdict::unreadable);
    life_->disk.errors_per_thousand = 0;
}

}  // namespace
}  // namespace ebb::core
