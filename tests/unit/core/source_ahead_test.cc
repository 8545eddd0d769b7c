// SPDX-License-Identifier: Apache-2.0
// Live passes ahead of a cut.
#include "source_fixture.h"

namespace ebb::core {
namespace {

using format::FrameType;
using format::PassKind;
using test::a_second;

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
        for (const auto& head : test::Peer::extents_of(frame)) {
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

// The link breaks while the epoch waits: it is gone on with, and its cut is taken when it is due.
TEST_F(AheadTest, ItWaitsAcrossConnections) {
    source_->set_interval(std::chrono::seconds(20));
    dirty(0, 16);
    serve(5 * a_second);
    ASSERT_EQ(sent_, (std::vector<Ended>{{2, PassKind::live, 16}}));
    target_->close();
    wait(a_second);
    auto message = welcome();
    message.closed_epoch = 1;
    message.closed_incarnation = message.open.incarnation = hello().incarnation;
    message.open.epoch = 2;
    message.open.resumable = true;
    target_->send(message);
    serve(5 * a_second);
    EXPECT_EQ(source_->status().open_epoch, 2U);
    EXPECT_EQ(sent_.size(), 1U);
    dirty(3, 1);
    serve(15 * a_second);
    ASSERT_EQ(sent_.size(), 2U);
    EXPECT_EQ(sent_[1], (Ended{2, PassKind::frozen, 1}));
}

// What that target has not of the epoch is sent again, and nothing waits for a cut that is due
// later.
TEST_F(AheadTest, OneThatStartsOverIsClosedAtOnce) {
    source_->set_interval(std::chrono::seconds(20));
    dirty(0, 16);
    serve(5 * a_second);
    target_->close();
    wait(a_second);
    auto message = welcome();
    message.closed_epoch = 1;
    message.closed_incarnation = hello().incarnation;
    target_->send(message);
    serve(a_second);
    ASSERT_EQ(sent_.size(), 3U);
    EXPECT_EQ(sent_[1], (Ended{2, PassKind::live, 16}));
    EXPECT_EQ(sent_[2].kind, PassKind::frozen);
    EXPECT_EQ(source_->status().closed_epoch, 2U);
}

// As `make bench` has it at 80 % of 1 Gbit/s, a block for each half of a MiB: a disk of 2 GiB,
// written to at random, with 256 MiB for a frozen pass.
class LinkTest : public test::SourceTest, public testing::WithParamInterface<bool> {
protected:
    static constexpr std::uint64_t disk_blocks = 4096;
    static constexpr double link = 1192.0 / 5000;  // blocks in a millisecond
    static constexpr auto interval = std::chrono::seconds(5);

    LinkTest() : SourceTest(config(), disk_blocks * block_bytes) {
        auto message = welcome();
        message.window_bytes = 128 * block_bytes;
        target_->send(message);
        for (int ms = 0; source_->status().closed_epoch == 0 && ms < 60'000; ++ms) step(0);
        source_->set_interval(interval);
    }
    static SourceConfig config() {
        SourceConfig config;
        config.frozen_limit_bytes = 512 * block_bytes;
        config.extent_bytes = 4 * block_bytes;
        if (!GetParam()) config.looks_ahead = 0;
        return config;
    }
    // A millisecond of the link, and of `writes` blocks.
    void step(double writes) {
        for (written_ += writes; written_ >= 1; --written_) {
            const Extent extent{executor_.rng.below(disk_blocks) * block_bytes, block_bytes, false};
            tracker_.mark(0, std::span(&extent, 1), [](const Status&) {});
        }
        wait(a_millisecond);
        room_ = std::min(room_ + link, 2 * link);
        while (!target_->received.empty() && room_ > 0) {
            const env::Frame frame = std::move(target_->received.front());
            target_->received.pop_front();
            for (const auto& head : test::Peer::extents_of(frame)) {
                room_ -= static_cast<double>(head.length) / block_bytes;
                target_->send(format::Ack{source_->status().open_epoch, head.pass, head.index + 1});
            }
            if (test::Peer::type_of(frame) == FrameType::pass_end) {
                const auto end = *format::decode_pass_end(frame);
                if (end.kind == PassKind::frozen) target_->send(format::EpochClosed{end.epoch});
            }
        }
    }
    double written_ = 0;
    double room_ = 0;
};

TEST_P(LinkTest, TheNewestPointIsNotOlderThanTwoIntervals) {
    for (int ms = 0; ms < 30'000; ++ms) step(0.8 * link);
    std::int64_t oldest = 0;
    for (int ms = 0; ms < 120'000; ++ms) {
        step(0.8 * link);
        oldest = std::max(oldest, clock_.wall().ns - source_->status().last_cut.ns);
    }
    const double intervals = static_cast<double>(oldest) / Duration(interval).count();
    RecordProperty("intervals", std::to_string(intervals));
    if (GetParam()) {
        EXPECT_LE(intervals, 2);
        EXPECT_GT(source_->status().passes_ahead, 20U);
    } else {
        EXPECT_GT(intervals, 2);  // what it is for
    }
}

INSTANTIATE_TEST_SUITE_P(Ahead, LinkTest, testing::Bool());

}  // namespace
}  // namespace ebb::core
