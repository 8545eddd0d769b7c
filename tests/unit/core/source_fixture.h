// SPDX-License-Identifier: Apache-2.0
// A source whose target is played by the test.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/source.h"
#include "peer.h"
#include "sim/tracker.h"

namespace ebb::core::test {

inline constexpr std::uint64_t disk_bytes = 16 * block_bytes;
inline constexpr Duration interval = std::chrono::milliseconds(100);

// One whose commands a test lets fail.
class Tracker : public sim::SimTracker {
public:
    using sim::SimTracker::SimTracker;
    // The pass is there, and nobody knows.
    void begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                    env::Callback<env::PassInfo> done) override {
        if (!std::exchange(lose_begin, false))
            return sim::SimTracker::begin_pass(kind, whole, gate, std::move(done));
        sim::SimTracker::begin_pass(kind, whole, gate,
                                    [done = std::move(done)](const Result<env::PassInfo>&) mutable {
                                        done(fail(ErrorCode::io, "the answer is lost"));
                                    });
    }
    void abandon(env::StatusCallback done) override {
        if (!std::exchange(refuse_abandon, false)) return sim::SimTracker::abandon(std::move(done));
        done(fail(ErrorCode::io, "not now"));
    }
    bool lose_begin = false;
    bool refuse_abandon = false;
};

class SourceTest : public testing::Test {
protected:
    SourceTest() : SourceTest(SourceConfig{}) {}
    explicit SourceTest(SourceConfig config, std::uint64_t size = disk_bytes)
        : machine_(executor_, faults_, {size}) {
        network_.listener = [this](std::shared_ptr<env::Connection> connection) {
            target_ =
                std::make_unique<Peer>(std::static_pointer_cast<sim::End>(std::move(connection)));
        };
        config.disks = {{"source-0", size}};
        config.session = 5;
        config.interval = interval;
        config_ = config;
        start();
    }
    ~SourceTest() override {
        life_.end();
        source_.reset();
    }

    void start() {
        source_ = std::make_unique<Source>(config_, tracker_, connector_, clock_, random_, cpus_);
        source_->start();
        wait();
    }
    void restart() {
        source_.reset();
        machine_.owner_died();
        start();
    }
    void wait(std::int64_t ns = a_second) { test::run_for(executor_, ns); }
    // What the source says first.
    format::Hello hello() {
        const auto frame = target_->take(FrameType::hello);
        EXPECT_TRUE(frame.has_value());
        return frame ? *format::decode_hello(*frame) : format::Hello{};
    }
    static format::Welcome welcome() {
        format::Welcome message;
        message.window_bytes = 1 << 20;
        message.extent_bytes = 64 << 10;
        return message;
    }
    // Its newest point is of another tracker: everything is compared.
    static format::Welcome welcome_with_gap() {
        auto message = welcome();
        message.closed_epoch = 4;
        message.closed_incarnation.bytes.fill(std::byte{1});
        return message;
    }
    // The connection ends, and the source comes again.
    void expect_dropped() {
        const Peer* before = target_.get();
        wait(5 * a_second);
        EXPECT_NE(target_.get(), before);
        EXPECT_EQ(source_->status().closed_epoch, 0U);
        (void)hello();
    }
    // Takes what comes, and counts it; the first pass is acknowledged and closed.
    format::PassEnd receive_epoch() {
        format::PassEnd end;
        for (int i = 0; i < 100 && end.count == 0; ++i) {
            wait(a_second / 100);
            if (auto frame = target_->take(FrameType::pass_begin)) {
                begin_ = *format::decode_pass_begin(*frame);
                count_ = 0;
            }
            for (const auto& head : target_->take_extents()) {
                kinds_.push_back(head.kind);
                target_->send(format::Ack{begin_.epoch, begin_.pass, ++count_});
            }
            if (auto frame = target_->take(FrameType::pass_end)) {
                end = *format::decode_pass_end(*frame);
            }
        }
        EXPECT_NE(end.count, 0U);
        return end;
    }
    // Answers questions, takes what comes until the pass has ended, and says what that was.
    template <class Answer>
    std::vector<format::ExtentHead> receive_compared(Answer answer) {
        std::vector<format::ExtentHead> sent;
        bool ended = false;
        for (int i = 0; i < 100 && !ended; ++i) {
            wait(a_second / 100);
            while (auto frame = target_->take(FrameType::compare))
                target_->send(answer(*format::decode_compare(*frame)));
            for (const auto& head : target_->take_extents()) {
                sent.push_back(head);
                target_->send(format::Ack{5, sent.back().pass, sent.size()});
            }
            ended = target_->take(FrameType::pass_end).has_value();
        }
        EXPECT_TRUE(ended);
        return sent;
    }

    SourceConfig config_;
    sim::Executor executor_{3};
    sim::Faults faults_;
    sim::SourceMachine machine_;
    sim::Network network_{executor_, faults_};
    sim::Life life_{executor_};
    sim::SimClock clock_{life_};
    sim::SimRandom random_{executor_.rng};
    sim::SimCpus cpus_{life_};
    Tracker tracker_{life_, machine_};
    sim::SimConnector connector_{life_, network_};
    std::unique_ptr<Peer> target_;
    std::unique_ptr<Source> source_;
    format::PassBegin begin_;
    std::uint64_t count_ = 0;
    std::vector<format::ExtentKind> kinds_;
};

}  // namespace ebb::core::test
