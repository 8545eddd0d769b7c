// SPDX-License-Identifier: Apache-2.0
#include "core/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "source_fixture.h"

namespace ebb::core::test {
namespace {

constexpr Rendezvous::Terms terms{std::chrono::seconds(2), std::chrono::milliseconds(100)};

class RendezvousTest : public SourceTest {
protected:
    RendezvousTest() {
        source_->set_interval(Duration{0});
        target_->send(welcome());
        (void)receive_epoch();
        target_->send(format::EpochClosed{1});
        wait();
        EXPECT_EQ(source_->status().closed_epoch, 1U);
        rendezvous_ = std::make_shared<Rendezvous>(clock_, terms,
                                                   [this](bool held) { held_.push_back(held); });
        machine_.write(0, 3, sim::Bytes(block_bytes, std::byte{1}), [] {});
        wait();
    }
    ~RendezvousTest() override { rendezvous_.reset(); }

    void ask() {
        CheckpointRequest request;
        request.common = rendezvous_->request();
        source_->checkpoint(std::move(request), [this](Result<CheckpointResult> result) {
            result_ = std::move(result);
        });
    }
    Result<CheckpointResult> closed() {
        (void)receive_epoch();
        target_->send(format::EpochClosed{2});
        wait();
        return result_ ? std::move(*result_) : fail(ErrorCode::timeout, "no answer");
    }
    // What the step came to within a moment; E_TIMEOUT: nothing yet.
    Status step(MeetingPoint point) {
        auto answer = std::make_shared<Status>(fail(ErrorCode::timeout, "no answer"));
        rendezvous_->step(point, [answer](Status status) { *answer = std::move(status); });
        wait(a_second / 100);
        return *answer;
    }
    [[nodiscard]] bool landed(sim::Block block) {
        wait(a_second / 100);
        return machine_.now().content[0][block * block_bytes] == std::byte{7};
    }
    void write(sim::Block block) {
        machine_.write(0, block, sim::Bytes(block_bytes, std::byte{7}), [] {});
    }

    std::shared_ptr<Rendezvous> rendezvous_;
    std::vector<bool> held_;
    std::optional<Result<CheckpointResult>> result_;
};

TEST_F(RendezvousTest, WritesAreHeldFromClosingUntilAllHaveTakenTheCut) {
    ask();
    ASSERT_TRUE(step(MeetingPoint::ready));
    write(4);
    EXPECT_TRUE(landed(4));
    EXPECT_THAT(held_, testing::IsEmpty());
    ASSERT_TRUE(step(MeetingPoint::closed));
    write(5);
    EXPECT_FALSE(landed(5));
    ASSERT_TRUE(step(MeetingPoint::taken));
    EXPECT_FALSE(landed(5));
    EXPECT_THAT(held_, testing::ElementsAre(true));
    ASSERT_TRUE(step(MeetingPoint::opened));
    EXPECT_TRUE(landed(5));
    EXPECT_THAT(held_, testing::ElementsAre(true, false));
    const auto result = closed();
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(result->alone);
    EXPECT_EQ(result->gate.held, 1U);
    EXPECT_GT(result->gate.closed, std::chrono::milliseconds(20));
    const auto& cut = machine_.cuts().at(result->cut_time.ns);
    EXPECT_EQ(cut.content[0][4 * block_bytes], std::byte{7});
    EXPECT_NE(cut.content[0][5 * block_bytes], std::byte{7});
}

TEST_F(RendezvousTest, AStepThatComesBeforeTheSourceIsThereIsAwaited) {
    EXPECT_EQ(step(MeetingPoint::ready).error().code, ErrorCode::timeout);
    EXPECT_EQ(step(MeetingPoint::prepared).error().code, ErrorCode::busy);
    ask();
    wait(a_second / 100);
    EXPECT_TRUE(step(MeetingPoint::ready));
    EXPECT_TRUE(step(MeetingPoint::ready));
}

// The daemon was started anew, and the coordinator's words of before are said again to it.
TEST_F(RendezvousTest, NoStepIsTakenOver) {
    for (const auto point : {MeetingPoint::closed, MeetingPoint::taken, MeetingPoint::opened}) {
        SCOPED_TRACE(static_cast<int>(point));
        auto other = std::make_shared<Rendezvous>(clock_, terms, [](bool) {});
        rendezvous_.swap(other);
        EXPECT_EQ(step(point).error().code, ErrorCode::stale);
        EXPECT_EQ(step(MeetingPoint::ready).error().code, ErrorCode::stale);
    }
    auto other = std::make_shared<Rendezvous>(clock_, terms, [](bool) {});
    rendezvous_.swap(other);
    ask();
    ASSERT_TRUE(step(MeetingPoint::ready));
    EXPECT_EQ(step(MeetingPoint::opened).error().code, ErrorCode::stale);
    const auto result = closed();
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_TRUE(result->alone);
}

// Who is gone keeps nobody: not the machine's writes, nor its own points.
TEST_F(RendezvousTest, WithoutACoordinatorTheCutIsTakenAlone) {
    for (const auto last : {MeetingPoint::ready, MeetingPoint::closed, MeetingPoint::taken}) {
        SCOPED_TRACE(static_cast<int>(last));
        ask();
        for (const auto point : {MeetingPoint::ready, MeetingPoint::closed, MeetingPoint::taken}) {
            if (point <= last) {
                ASSERT_TRUE(step(point));
            }
        }
        wait(3 * a_second);
        write(6);
        EXPECT_TRUE(landed(6));
        EXPECT_EQ(step(MeetingPoint::opened).error().code, ErrorCode::timeout);
        // Behind a gate that has opened by itself the first pass is void.
        if (last == MeetingPoint::taken) (void)target_->take(FrameType::pass_begin);
        (void)receive_epoch();
        target_->send(format::EpochClosed{begin_.epoch});
        wait();
        ASSERT_TRUE(result_ && *result_);
        ASSERT_TRUE(result_->value().alone);
        result_.reset();
        if (!held_.empty()) {
            EXPECT_THAT(held_, testing::ElementsAre(true, false));
        }
        held_.clear();
        rendezvous_ = std::make_shared<Rendezvous>(clock_, terms,
                                                   [this](bool held) { held_.push_back(held); });
        write(7);
        wait();
    }
}

TEST_F(RendezvousTest, WhoeverLeavesTakesTheCutAlone) {
    ask();
    ASSERT_TRUE(step(MeetingPoint::ready));
    rendezvous_->leave({ErrorCode::cancelled, "another one is gone", {}, {}});
    EXPECT_EQ(step(MeetingPoint::closed).error().message, "another one is gone");
    const auto result = closed();
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_TRUE(result->alone);
    EXPECT_EQ(result->alone->message, "another one is gone");
    EXPECT_THAT(held_, testing::IsEmpty());
}

// The cut that is taken again is one of this machine.
TEST_F(RendezvousTest, ACutThatTurnsOutVoidAfterwardsIsNoCommonOne) {
    ask();
    for (const auto point :
         {MeetingPoint::ready, MeetingPoint::closed, MeetingPoint::taken, MeetingPoint::opened})
        ASSERT_TRUE(step(point));
    machine_.void_pass("simulated");
    const auto result = closed();
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_TRUE(result->alone);
    EXPECT_THAT(held_, testing::ElementsAre(true, false));
}

TEST_F(RendezvousTest, AGateThatOpensByItselfEndsIt) {
    ask();
    ASSERT_TRUE(step(MeetingPoint::ready));
    ASSERT_TRUE(step(MeetingPoint::closed));
    machine_.owner_died();  // its socket is closed
    EXPECT_FALSE(step(MeetingPoint::taken));
    const auto result = closed();
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_TRUE(result->alone);
    EXPECT_EQ(result->alone->code, ErrorCode::stale);
}

TEST_F(RendezvousTest, StoppingEndsTheWait) {
    ask();
    ASSERT_TRUE(step(MeetingPoint::ready));
    bool stopped = false;
    source_->stop([&](Status) { stopped = true; });
    rendezvous_->leave({ErrorCode::cancelled, "replication is being ended", {}, {}});
    wait();
    EXPECT_TRUE(stopped);
    ASSERT_TRUE(result_);
    EXPECT_EQ(result_->error().code, ErrorCode::cancelled);
}

}  // namespace
}  // namespace ebb::core::test
