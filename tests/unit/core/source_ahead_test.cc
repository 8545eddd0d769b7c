// SPDX-License-Identifier: Apache-2.0
// Live passes ahead of a cut.
#include "source_fixture.h"

namespace ebb::core {
namespace {

using format::FrameType;
using format::PassKind;
using test::a_second;
using test::disk_bytes;

constexpr std::int64_t a_millisecond = a_second / 1000;
constexpr std::int64_t interval_ns = test::interval.count();

class AheadTest : public test::SourceTest {
protected:
    AheadTest() : SourceTest(config()) {
        target_->send(welcome());
        until_end(PassKind::frozen);  // everything, for the first point
        sent_.clear();
    }
    static SourceConfig config() {
        SourceConfig config;
        config.frozen_limit_bytes = 8 * block_bytes;
        config.sampled_ahead = 1;
        return config;
    }
    void dirty(std::uint64_t first, std::uint64_t blocks) {
        const Extent extent{first * block_bytes, blocks * block_bytes, false};
        tracker_.mark(0, std::span(&extent, 1), [](const Status&) {});
        wait(a_millisecond);
    }
    // What a target does; passes as they end.
    void serve(std::int64_t ns) {
        for (std::int64_t at = 0; at < ns; at += a_millisecond) {
            wait(a_millisecond);
            while (!target_->received.empty()) take();
        }
    }
    void take() {
        const env::Frame frame = std::move(target_->received.front());
        target_->received.pop_front();
        if (test::Peer::type_of(frame) == FrameType::extent) {
            const auto head = format::decode_extent(frame)->head;
            bytes_ += head.length;
            target_->send(format::Ack{source_->status().open_epoch, head.pass, head.index + 1});
        }
        if (test::Peer::type_of(frame) != FrameType::pass_end) return;
        const auto end = *format::decode_pass_end(frame);
        sent_.push_back({end.epoch, end.kind, std::exchange(bytes_, 0) / block_bytes});
        if (end.kind == PassKind::frozen) target_->send(format::EpochClosed{end.epoch});
    }
    void until_end(PassKind kind) {
        for (int i = 0; i < 1000; ++i) {
            serve(a_millisecond);
            if (sent_.empty() || sent_.back().kind != kind) continue;
            return serve(2 * a_millisecond);
        }
        ADD_FAILURE() << "no such pass";
    }

    struct Ended {
        std::uint64_t epoch;
        PassKind kind;
        std::uint64_t blocks;
        bool operator==(const Ended&) const = default;
    };
    std::vector<Ended> sent_;
    std::uint64_t bytes_ = 0;
};

// By the end of the interval it would be more than the limit.
TEST_F(AheadTest, TheEpochStaysOpenUntilItsCutIsDue) {
    dirty(0, 5);
    serve(interval_ns / 2);
    ASSERT_EQ(sent_, (std::vector<Ended>{{2, PassKind::live, 5}}));
    auto status = source_->status();
    EXPECT_EQ(status.open_epoch, 2U);
    EXPECT_EQ(status.closed_epoch, 1U);
    EXPECT_FALSE(status.pass_open);
    EXPECT_EQ(status.passes_ahead, 1U);
    dirty(9, 2);
    serve(interval_ns);
    ASSERT_GE(sent_.size(), 2U);
    EXPECT_EQ(sent_[1], (Ended{2, PassKind::frozen, 2}));
    status = source_->status();
    EXPECT_GE(status.closed_epoch, 2U);
    EXPECT_LE(status.effective_interval, test::interval + test::interval / 10);
    EXPECT_EQ(status.passes_ahead, 1U);
}

TEST_F(AheadTest, WhatAFrozenPassMayHaveWaitsForIt) {
    dirty(0, 4);
    serve(3 * interval_ns);
    EXPECT_EQ(source_->status().passes_ahead, 0U);
    EXPECT_EQ(sent_.at(0), (Ended{2, PassKind::frozen, 4}));
}

// Late in the interval, and no more expected than now.
TEST_F(AheadTest, WhatIsNotExpectedToGrowWaitsForTheCut) {
    serve(interval_ns * 3 / 4);
    dirty(0, 5);
    serve(interval_ns);
    EXPECT_EQ(source_->status().passes_ahead, 0U);
}

// The second one brings what the first had brought; the cut is all the same taken when it is due.
TEST_F(AheadTest, WhatIsOverwrittenAgainAndAgainIsNotSentEachTime) {
    std::uint64_t frozen = 0;
    for (int i = 0; i < 80; ++i) {
        dirty(0, 9);
        serve(5 * a_millisecond);
    }
    for (const Ended& ended : sent_) frozen += ended.kind == PassKind::frozen ? 1 : 0;
    const auto status = source_->status();
    EXPECT_GE(frozen, 3U);
    EXPECT_GE(status.passes_ahead_again, frozen - 1);
    EXPECT_LE(status.passes_ahead, 2 * (frozen + 1));
}

TEST_F(AheadTest, ARequestIsNotKeptWaiting) {
    dirty(0, 5);
    serve(interval_ns / 2);
    ASSERT_EQ(sent_.size(), 1U);
    bool made = false;
    source_->checkpoint({}, [&](const Result<CheckpointResult>& result) {
        made = result.has_value() && result->epoch == 2;
    });
    serve(interval_ns / 10);
    EXPECT_TRUE(made);
}

TEST_F(AheadTest, AVerificationDoesNotWaitForTheCut) {
    dirty(0, 5);
    serve(interval_ns / 2);
    ASSERT_EQ(sent_.size(), 1U);
    source_->verify({}, [](const Result<VerifyResult>&) {});
    serve(interval_ns / 10);
    EXPECT_EQ(source_->status().closed_epoch, 2U);
}

// There is no time left at which its cut would be due.
TEST_F(AheadTest, WithoutAnIntervalItIsClosed) {
    dirty(0, 5);
    serve(interval_ns / 2);
    ASSERT_EQ(sent_.size(), 1U);
    source_->set_interval(Duration::zero());
    serve(interval_ns / 10);
    EXPECT_EQ(source_->status().closed_epoch, 2U);
    dirty(0, 16);
    serve(3 * interval_ns);
    EXPECT_EQ(source_->status().passes_ahead, 1U);
    EXPECT_EQ(source_->status().closed_epoch, 2U);
}

// The link breaks while the epoch waits: it goes on, and its cut is taken when it is due.
TEST_F(AheadTest, ItWaitsAcrossConnections) {
    dirty(0, 5);
    serve(interval_ns / 4);
    ASSERT_EQ(sent_.size(), 1U);
    // Nothing is known of what was begun: the epoch starts over, at once.
    target_->close();
    for (int i = 0; i < 1000 && target_->closed; ++i) wait(a_millisecond);
    wait(a_second);
    auto message = welcome();
    message.closed_epoch = 1;
    message.closed_incarnation = hello().incarnation;
    target_->send(message);
    sent_.clear();
    until_end(PassKind::frozen);
    EXPECT_EQ(sent_.back().epoch, 2U);
}

}  // namespace
}  // namespace ebb::core
