// SPDX-License-Identifier: Apache-2.0
// The source, and targets that do not behave.
#include "core/source.h"

#include <gtest/gtest.h>

#include "source_fixture.h"

namespace ebb::core {
namespace {

using format::FrameType;
using test::a_second;
using test::disk_bytes;
using test::Peer;
using test::SourceTest;

TEST_F(SourceTest, SaysWhoItIs) {
    const auto message = hello();
    EXPECT_EQ(message.session, 5U);
    ASSERT_EQ(message.disks.size(), 1U);
    EXPECT_EQ(message.disks[0].stable_id, "source-0");
    EXPECT_EQ(message.disks[0].size, disk_bytes);
}

TEST_F(SourceTest, BringsAnEpochAndBelievesOnlyItsClosing) {
    target_->send(welcome());
    const auto end = receive_epoch();
    EXPECT_EQ(end.epoch, 1U);
    EXPECT_EQ(end.kind, format::PassKind::frozen);
    wait(a_second / 10);
    EXPECT_EQ(source_->status().closed_epoch, 0U);
    target_->send(format::EpochClosed{1});
    wait(a_second / 10);
    EXPECT_EQ(source_->status().closed_epoch, 1U);
}

TEST_F(SourceTest, GarbageEndsTheConnection) {
    target_->send_raw(env::Frame(40, std::byte{0x5a}));
    expect_dropped();
    target_->send_raw({});
    expect_dropped();
}

TEST_F(SourceTest, WelcomesThatCannotBe) {
    for (int i = 0; i < 5; ++i) {
        auto message = welcome();
        if (i == 0) message.extent_bytes = 0;
        if (i == 1) message.extent_bytes = block_bytes + 1;
        if (i == 2) message.window_bytes = 0;
        if (i == 3) message.extent_bytes = format::extent_bytes_max + block_bytes;
        if (i == 4) message.version = format::protocol_version + 1;
        target_->send(message);
        expect_dropped();
    }
}

TEST_F(SourceTest, OneWelcome) {
    target_->send(welcome());
    target_->send(welcome());
    expect_dropped();
}

TEST_F(SourceTest, NothingIsAcknowledgedBeforeWelcome) {
    target_->send(format::Ack{1, 1, 0});
    expect_dropped();
    target_->send(format::EpochClosed{1});
    expect_dropped();
}

TEST_F(SourceTest, NotMoreThanWasSentIsAcknowledged) {
    target_->send(welcome());
    wait(a_second / 10);
    target_->send(format::Ack{1, 1, 1000});
    expect_dropped();
}

TEST_F(SourceTest, AnEpochThatDidNotEndIsNotClosed) {
    target_->send(welcome());
    wait(a_second / 10);
    target_->send(format::EpochClosed{1});
    expect_dropped();
}

TEST_F(SourceTest, FramesOfASourceEndTheConnection) {
    target_->send(welcome());
    target_->send(format::EpochBegin{1, {}, true});
    expect_dropped();
}

TEST_F(SourceTest, AFrameIsMissing) {
    target_->skip_sequence();
    target_->send(welcome());
    expect_dropped();
}

// Retried, then named: an error that stays, though connections are made, until a point is there.
TEST_F(SourceTest, WhatIsDamagedAgainAndAgainIsNamed) {
    const auto damaged = [this] {
        target_->send(welcome());
        wait(a_second / 10);
        target_->send(format::Refused{ErrorCode::digest, "an extent does not match its digest"});
        wait(30 * a_second);
        (void)hello();
        target_->send(welcome());
        wait(a_second / 10);
    };
    for (int i = 1; i < 3; ++i) {
        damaged();
        EXPECT_FALSE(source_->status().has_error) << i;
        target_->close();
        wait(30 * a_second);
        (void)hello();
    }
    damaged();
    ASSERT_TRUE(source_->status().has_error);
    const Error error = source_->status().error;
    EXPECT_EQ(error.code, ErrorCode::digest);
    EXPECT_NE(error.message.find("3 times"), std::string::npos) << error.message;
    EXPECT_FALSE(error.remedy.empty());
    const auto end = receive_epoch();
    target_->send(format::EpochClosed{end.epoch});
    wait(a_second / 10);
    EXPECT_FALSE(source_->status().has_error);
    EXPECT_EQ(source_->status().digest_mismatches, 0U);
}

// What was begun at the tracker does not stay there, where it would be in the way of all others.
class LeftPassTest : public SourceTest {
protected:
    // A target that has something of an epoch, all that was acknowledged.
    [[nodiscard]] static format::Welcome with_open_epoch(const Uuid& incarnation) {
        auto message = welcome();
        message.open.epoch = 1;
        message.open.incarnation = incarnation;
        message.open.full = message.open.resumable = true;
        return message;
    }
    // The source is refused in the middle of a pass, or when it has let go of all of it; what the
    // target says when it comes again.
    format::Welcome refused(bool let_go) {
        const auto first = hello();
        target_->send(welcome());
        wait(a_second / 10);
        const auto epoch =
            format::decode_epoch_begin(target_->take(FrameType::epoch_begin).value());
        if (let_go) {
            (void)receive_epoch();
        } else {
            begin_ = *format::decode_pass_begin(target_->take(FrameType::pass_begin).value());
        }
        target_->send(format::Refused{ErrorCode::protocol, "another sequence"});
        wait(30 * a_second);
        (void)hello();
        auto message = with_open_epoch(epoch->incarnation);
        message.open.pass = begin_.pass;
        message.open.run = first.run;
        message.open.kind = begin_.kind;
        message.open.count = count_;
        return message;
    }
    // It starts the epoch over, and closes it.
    void expect_another_pass() {
        EXPECT_TRUE(target_->take(FrameType::epoch_begin).has_value());
        const auto end = receive_epoch();
        target_->send(format::EpochClosed{end.epoch});
        wait(a_second / 10);
        EXPECT_FALSE(source_->status().has_error) << source_->status().error.message;
        EXPECT_EQ(source_->status().closed_epoch, 1U);
    }
};

TEST_F(LeftPassTest, WhoIsRefusedInAPassBeginsAnother) {
    const auto message = refused(false);
    target_->send(message);
    wait(a_second / 100);
    expect_another_pass();
}

// What waits in the target's memory is dropped by the next pass.
TEST_F(LeftPassTest, NorWhenAllOfItWasLetGo) {
    const auto message = refused(true);
    target_->send(message);
    wait(a_second / 100);
    expect_another_pass();
}

TEST_F(LeftPassTest, NorWhenTheTrackerDoesNotPutItBackAtOnce) {
    const auto message = refused(true);
    tracker_.refuse_abandon = true;
    target_->send(message);
    wait(30 * a_second);
    EXPECT_FALSE(tracker_.refuse_abandon);
    (void)hello();
    target_->send(message);
    wait(a_second / 100);
    expect_another_pass();
}

TEST_F(LeftPassTest, NorWhenNobodyKnowsOfIt) {
    tracker_.lose_begin = true;
    const auto message = with_open_epoch(hello().incarnation);
    target_->send(message);
    wait(30 * a_second);
    EXPECT_FALSE(tracker_.lose_begin);
    EXPECT_TRUE(source_->status().has_error);
    (void)hello();
    target_->send(message);
    wait(a_second / 100);
    expect_another_pass();
}

TEST_F(SourceTest, PingIsAnswered) {
    target_->send(welcome());
    target_->send_raw(format::encode_ping(FrameType::ping, 1));
    wait(a_second / 10);
    EXPECT_TRUE(target_->take(FrameType::pong).has_value());
    EXPECT_FALSE(target_->closed);
}

TEST_F(SourceTest, FencedForEver) {
    std::optional<ErrorCode> answer;
    source_->checkpoint({}, [&](const Result<CheckpointResult>& result) {
        answer = result ? ErrorCode::internal : result.error().code;
    });
    target_->send(format::Refused{ErrorCode::fenced, "was failed over"});
    wait();
    EXPECT_EQ(source_->status().state, SourceState::fenced);
    EXPECT_EQ(answer, ErrorCode::fenced);
    const Peer* before = target_.get();
    wait(100 * a_second);
    EXPECT_EQ(target_.get(), before);
}

TEST_F(SourceTest, ATargetThatLostPointsGetsEverything) {
    target_->send(welcome());
    (void)receive_epoch();
    target_->send(format::EpochClosed{1});
    wait(a_second / 10);
    ASSERT_EQ(source_->status().closed_epoch, 1U);
    target_->close();
    wait(5 * a_second);
    (void)hello();
    kinds_.clear();
    target_->send(welcome());  // of a target without any point
    (void)receive_epoch();
    EXPECT_FALSE(source_->status().resync_reasons.empty());
    EXPECT_FALSE(kinds_.empty());
}

TEST_F(SourceTest, APointOfAnotherTrackerIsAGap) {
    auto message = welcome_with_gap();
    message.version = 1;
    target_->send(message);
    EXPECT_EQ(receive_epoch().epoch, 5U);
    EXPECT_FALSE(source_->status().resync_reasons.empty());
}

// An older state of the machine: the target has begun an epoch of which the map knows nothing.
TEST_F(SourceTest, AnEpochThatTheMapDoesNotKnow) {
    machine_.keep_map(0);
    restart();
    const Uuid incarnation = hello().incarnation;
    target_->send(welcome());
    (void)receive_epoch();
    target_->send(format::EpochClosed{1});
    wait(a_second / 100);  // before the next epoch
    machine_.take_snapshot();
    for (const bool begun : {false, true}) {
        machine_.restore_snapshot();
        restart();
        (void)hello();
        auto message = welcome();
        message.closed_epoch = 1;
        message.closed_incarnation = incarnation;
        if (begun) {
            message.open.epoch = 2;
            message.open.incarnation = incarnation;
        }
        target_->send(message);
        wait(a_second / 10);
        EXPECT_EQ(source_->status().resync_reasons.empty(), !begun);
        EXPECT_EQ(source_->status().state == SourceState::initial_sync, begun);
    }
    EXPECT_EQ(source_->status().resync_reasons.front(), "source-0: map-out-of-step");
}

// An older state of the machine, kept while a pass of an epoch was under way that has closed since.
class SnapshotTest : public SourceTest {
protected:
    std::vector<std::string> reasons(std::uint64_t frozen_limit) {
        machine_.keep_map(0);
        restart();
        auto message = welcome();
        message.closed_incarnation = hello().incarnation;
        target_->send(welcome());
        (void)receive_epoch();
        target_->send(format::EpochClosed{1});
        wait(a_second / 100);
        EXPECT_EQ(source_->status().closed_epoch, 1U);
        config_.frozen_limit_bytes = frozen_limit;
        config_.looks_ahead = 0;
        restart();
        (void)hello();
        message.closed_epoch = 1;
        target_->send(message);
        for (int i = 0; i < 200; ++i) machine_.app_write(executor_.rng);
        wait(a_second / 2);
        EXPECT_TRUE(source_->status().pass_open);
        machine_.take_snapshot();
        machine_.restore_snapshot();
        restart();
        (void)hello();
        message.closed_epoch = 2;
        target_->send(message);
        wait(a_second / 10);
        return source_->status().resync_reasons;
    }
};

TEST_F(SnapshotTest, AFrozenPassMayHaveClosedIt) {
    EXPECT_EQ(reasons(256ULL << 20), std::vector<std::string>{});
}

TEST_F(SnapshotTest, ALivePassHasNotClosedIt) {
    EXPECT_EQ(reasons(block_bytes), std::vector<std::string>{"source-0: map-out-of-step"});
}

// What is compared, and how much of it travels.
TEST_F(SourceTest, WhatTheTargetHasDoesNotTravel) {
    auto message = welcome_with_gap();
    target_->send(message);
    std::uint64_t asked = 0;
    const auto sent = receive_compared([&](const format::Compare& question) {
        EXPECT_EQ(question.id, asked++);
        format::Compared answer{question.id, format::Verdict::differs, {}};
        const sim::Cut now = machine_.now();
        const auto& disk = now.content[0];
        answer.blocks =
            format::block_digests(std::span(disk).subspan(question.offset, question.length));
        answer.blocks[0][0] ^= std::byte{1};  // the first block alone is another one
        return answer;
    });
    EXPECT_GT(asked, 0U);
    std::uint64_t same = 0;
    for (const auto& extent : sent) {
        if (extent.kind == format::ExtentKind::same) {
            same += extent.length;
        } else {
            EXPECT_EQ(extent.length, block_bytes);
        }
    }
    EXPECT_EQ(same, disk_bytes - asked * block_bytes);
    EXPECT_EQ(source_->status().same_bytes, same);
    EXPECT_EQ(source_->status().compared_bytes, disk_bytes);
}

// A block that was to be compared, and is all there is of its extent.
TEST_F(SourceTest, WhatCannotBeReadIsNotCompared) {
    machine_.bad_block = {0, 3};
    auto message = welcome();
    message.extent_bytes = block_bytes;
    message.closed_epoch = 4;
    message.closed_incarnation.bytes.fill(std::byte{1});
    target_->send(message);
    const auto sent = receive_compared([](const format::Compare& question) {
        return format::Compared{question.id, format::Verdict::same, {}};
    });
    std::vector<std::uint64_t> unreadable;
    for (const auto& extent : sent)
        if (extent.kind == format::ExtentKind::unreadable) unreadable.push_back(extent.offset);
    EXPECT_EQ(unreadable, std::vector<std::uint64_t>{3 * block_bytes});
}

// They share a frame; before version 3 each has its own.
TEST_F(SourceTest, ExtentsShareFrames) {
    for (const std::uint16_t version : {format::protocol_version, std::uint16_t{2}}) {
        auto message = welcome();
        message.version = version;
        message.extent_bytes = block_bytes;
        target_->send(message);
        for (int i = 0; i < 10; ++i) wait(a_second / 100);
        std::size_t frames = 0, extents = 0;
        for (const auto& frame : target_->received) {
            const auto type = test::Peer::type_of(frame);
            EXPECT_NE(type, version < 3 ? FrameType::extents : FrameType::extent);
            const auto heads = test::Peer::extents_of(frame);
            frames += heads.empty() ? 0 : 1;
            extents += heads.size();
        }
        EXPECT_GT(extents, 2U);
        if (version >= 3) {
            EXPECT_LT(2 * frames, extents + 1);
        }
        target_->close();
        wait(5 * a_second);
        (void)hello();
    }
}

TEST_F(SourceTest, ATargetOfTheFirstVersionGetsEverything) {
    auto message = welcome_with_gap();
    message.version = 1;
    target_->send(message);
    (void)receive_epoch();
    EXPECT_FALSE(target_->take(FrameType::compare).has_value());
    EXPECT_EQ(source_->status().same_bytes, 0U);
}

TEST_F(SourceTest, AnswersThatNobodyAskedFor) {
    for (int i = 0; i < 2; ++i) {
        auto message = welcome_with_gap();
        target_->send(message);
        wait(a_second / 10);
        const auto frame = target_->take(FrameType::compare);
        ASSERT_TRUE(frame.has_value());
        const auto question = *format::decode_compare(*frame);
        if (i == 0) target_->send(format::Compared{question.id + 99, format::Verdict::same, {}});
        if (i == 1) target_->send(format::Compared{question.id, format::Verdict::differs, {{}}});
        const Peer* before = target_.get();
        wait(5 * a_second);
        EXPECT_NE(target_.get(), before);
        (void)hello();
    }
}

class QuiesceTest : public SourceTest {
protected:
    void SetUp() override {
        target_->send(welcome());
        (void)receive_epoch();
        target_->send(format::EpochClosed{1});
        wait(a_second / 10);
        ASSERT_EQ(source_->status().closed_epoch, 1U);
    }
    void ask() {
        CheckpointRequest request;
        request.name = "app";
        request.quiesce = CheckpointRequest::Quiesce{[this](env::StatusCallback ready) {
                                                         ++before_;
                                                         ready_ = std::move(ready);
                                                     },
                                                     [this](bool cut, env::StatusCallback done) {
                                                         ++after_;
                                                         cut_ = cut;
                                                         done_ = std::move(done);
                                                     }};
        source_->checkpoint(std::move(request), [this](Result<CheckpointResult> result) {
            answer_.emplace(std::move(result));
        });
    }
    // Epochs that are under way are closed on the way.
    void until_asked_to_rest() {
        for (int i = 0; i < 100 && before_ == 0; ++i) {
            wait(a_second / 100);
            if (auto frame = target_->take(FrameType::pass_end))
                target_->send(format::EpochClosed{format::decode_pass_end(*frame)->epoch});
        }
    }
    // The named point's PASS_END; those of others are closed on the way.
    format::PassEnd closing() {
        for (int i = 0; i < 500; ++i) {
            wait(a_second / 100);
            auto frame = target_->take(FrameType::pass_end);
            if (!frame) continue;
            const auto end = *format::decode_pass_end(*frame);
            target_->send(format::EpochClosed{end.epoch});
            if (end.name == "app") return end;
        }
        ADD_FAILURE() << "no such cut";
        return {};
    }

    unsigned before_ = 0;
    unsigned after_ = 0;
    bool cut_ = false;
    env::StatusCallback ready_;
    env::StatusCallback done_;
    std::optional<Result<CheckpointResult>> answer_;
};

TEST_F(QuiesceTest, TheCutIsTakenWhileApplicationsAreAtRest) {
    ask();
    until_asked_to_rest();
    ASSERT_EQ(before_, 1U);
    const auto begun = source_->status().cuts_begun;
    wait(3 * a_second);
    EXPECT_EQ(source_->status().cuts_begun, begun);
    EXPECT_EQ(source_->status().pace, Pace::quiescing);
    EXPECT_EQ(after_, 0U);
    const auto from = clock_.wall();
    ready_({});
    wait(a_second);
    ASSERT_EQ(after_, 1U);
    EXPECT_TRUE(cut_);
    // Nothing of it is said before they go on.
    EXPECT_FALSE(target_->take(FrameType::pass_end).has_value());
    const auto to = clock_.wall();
    done_({});
    const auto end = closing();
    EXPECT_EQ(end.point, format::PointKind::application);
    EXPECT_EQ(source_->status().pace, Pace::link);  // it took its time
    wait(a_second / 10);
    ASSERT_TRUE(answer_ && *answer_);
    EXPECT_EQ((*answer_)->kind, format::PointKind::application);
    EXPECT_FALSE((*answer_)->degraded);
    EXPECT_LE(clock_.wall().ns - to.ns, to.ns - from.ns + 2 * a_second);
}

TEST_F(QuiesceTest, WhereItFailsThePointIsCrashConsistent) {
    ask();
    until_asked_to_rest();
    ready_(fail("E_APP_SCRIPT", ErrorCode::refused, "10-db failed"));
    EXPECT_EQ(closing().point, format::PointKind::crash);
    wait(a_second / 10);
    EXPECT_EQ(after_, 0U);
    ASSERT_TRUE(answer_ && *answer_);
    EXPECT_EQ((*answer_)->kind, format::PointKind::crash);
    ASSERT_TRUE((*answer_)->degraded);
    EXPECT_EQ((*answer_)->degraded->name(), "E_APP_SCRIPT");
}

TEST_F(QuiesceTest, StoppedMeanwhileTheyGoOn) {
    ask();
    until_asked_to_rest();
    bool stopped = false;
    source_->stop([&](const Status&) { stopped = true; });
    wait(a_second / 10);
    EXPECT_FALSE(stopped);
    ready_({});
    wait(a_second / 10);
    ASSERT_EQ(after_, 1U);
    EXPECT_FALSE(cut_);
    done_({});
    wait(a_second / 10);
    EXPECT_TRUE(stopped);
    ASSERT_TRUE(answer_);
    EXPECT_EQ(answer_->error().code, ErrorCode::cancelled);
}

// A link that is slow: each cut is closed so long after it was taken. Cuts come when the one before
// is closed, and at the interval as soon as that is quick again.
TEST_F(SourceTest, TheIntervalAdaptsToTheLinkAndReturns) {
    target_->send(welcome());
    (void)receive_epoch();
    target_->send(format::EpochClosed{1});
    const auto close_after = [&](std::int64_t ns) {
        for (int i = 0; i < 1'000; ++i) {
            wait(a_second / 100);
            for (const auto& head : target_->take_extents()) {
                target_->send(format::Ack{source_->status().open_epoch, head.pass, head.index + 1});
            }
            const auto frame = target_->take(FrameType::pass_end);
            if (!frame) continue;
            const auto begun = source_->status().cuts_begun;
            wait(ns);
            EXPECT_EQ(source_->status().cuts_begun, begun);  // never two at once
            target_->send(format::EpochClosed{format::decode_pass_end(*frame)->epoch});
            return;
        }
        ADD_FAILURE() << "no cut";
    };
    for (int i = 0; i < 3; ++i) close_after(0);
    EXPECT_EQ(source_->status().pace, Pace::kept);
    for (const int seconds : {2, 5, 11, 11}) close_after(seconds * a_second);
    wait(a_second / 10);
    auto status = source_->status();
    EXPECT_EQ(status.pace, Pace::link);
    EXPECT_GE(status.effective_interval, std::chrono::seconds(11));
    EXPECT_LT(status.effective_interval, std::chrono::seconds(13));
    EXPECT_GE(status.epoch_time, std::chrono::seconds(11));
    // Nobody hurries, and nobody waits longer than before, when it has recovered.
    for (int i = 0; i < 3; ++i) close_after(0);
    wait(a_second / 10);
    status = source_->status();
    EXPECT_EQ(status.pace, Pace::kept);
    EXPECT_LT(status.effective_interval, std::chrono::seconds(1));
    EXPECT_LT(status.epoch_time, std::chrono::seconds(1));
}

TEST_F(SourceTest, StopAnswersWhatWasAsked) {
    std::optional<ErrorCode> answer;
    bool stopped = false;
    source_->checkpoint({}, [&](const Result<CheckpointResult>& result) {
        answer = result ? ErrorCode::internal : result.error().code;
    });
    source_->stop([&](const Status& status) { stopped = status.has_value(); });
    wait();
    EXPECT_EQ(answer, ErrorCode::cancelled);
    EXPECT_TRUE(stopped);
    EXPECT_EQ(source_->status().state, SourceState::stopped);
}

}  // namespace
}  // namespace ebb::core
