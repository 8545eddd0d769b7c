// SPDX-License-Identifier: Apache-2.0
// Targets that share the memory for closings.
#include "core/closing_budget.h"

#include <gtest/gtest.h>

#include "core/target.h"
#include "format/message.h"
#include "sim/network.h"
#include "sim/storage.h"

namespace ebb::sim {
namespace {

constexpr std::uint64_t disk_bytes = 64 * block_bytes;
constexpr std::uint64_t budget_bytes = 8 * block_bytes;

// A target and a source that says what it is told to.
struct Machine {
    Machine(Executor& executor, std::shared_ptr<core::ClosingBudget> budget)
        : life(executor),
          clock(life),
          cpus(life),
          disk_state(disk_bytes),
          disk(life, disk_state, faults),
          volume(life, volume_state, faults),
          network(executor, faults) {
        core::TargetConfig config;
        config.protection.bytes[0] = std::byte{1};
        config.disks = {{"s", "t", disk_bytes}};
        config.closing_budget = std::move(budget);
        target = std::make_unique<core::Target>(config, std::vector<env::Disk*>{&disk}, volume,
                                                clock, cpus);
        target->open([this](Status status) { open = status.has_value(); });
        network.listener = [this](std::shared_ptr<env::Connection> connection) {
            target->accept(std::move(connection));
        };
    }
    void connect() {
        source = network.connect();
        source->start(
            [this](const env::Frame& frame) {
                const auto ack = format::decode_ack(frame);
                if (format::frame_of(frame)->type == format::FrameType::ack && ack)
                    acknowledged = ack->count;
            },
            [](const Error&) {});
        format::Hello hello;
        hello.protection.bytes[0] = std::byte{1};
        hello.disks = {{"s", disk_bytes}};
        source->send(format::encode(hello, sequence++));
        source->send(format::encode(format::EpochBegin{1, {}, true}, sequence++));
    }
    void begin_pass(std::uint32_t pass, std::uint64_t blocks) {
        source->send(format::encode(
            format::PassBegin{1, pass, format::PassKind::frozen, {}, blocks * block_bytes},
            sequence++));
    }
    void send(std::uint32_t pass, std::uint64_t index) {
        const Bytes content(block_bytes, std::byte{0x5a});
        format::ExtentHead head{pass,
                                index,
                                0,
                                index * block_bytes,
                                block_bytes,
                                format::ExtentKind::data,
                                format::xxh3_128(content)};
        source->send(format::encode(head, content, 0, sequence++));
    }
    [[nodiscard]] bool written(std::uint64_t block) const {
        return disk_state.current[block * block_bytes] == std::byte{0x5a};
    }

    Life life;
    SimClock clock;
    SimCpus cpus;
    Faults faults;
    DiskState disk_state;
    VolumeState volume_state;
    SimDisk disk;
    SimVolume volume;
    Network network;
    std::unique_ptr<core::Target> target;
    std::shared_ptr<End> source;
    std::uint64_t sequence = 0;
    std::uint64_t acknowledged = 0;
    bool open = false;
};

class ClosingBudgetTest : public testing::Test {
protected:
    // Timers of a target never end.
    bool run(const std::function<bool()>& until) {
        for (int i = 0; i < 100'000; ++i) {
            if (until()) return true;
            if (!executor_.step()) break;
        }
        return until();
    }
    // `blocks` of a closing in memory, acknowledged.
    void wait_in_memory(Machine& machine, std::uint32_t pass, std::uint64_t blocks) {
        machine.begin_pass(pass, blocks);
        for (std::uint64_t i = 0; i < blocks; ++i) machine.send(pass, i);
        ASSERT_TRUE(run([&] { return machine.acknowledged == blocks; }));
    }

    Executor executor_{1};
    std::shared_ptr<core::ClosingBudget> budget_ =
        std::make_shared<core::ClosingBudget>(budget_bytes);
};

TEST_F(ClosingBudgetTest, WhatOneMachineTakesAnotherHasNot) {
    Machine a(executor_, budget_);
    Machine b(executor_, budget_);
    ASSERT_TRUE(run([&] { return a.open && b.open; }));
    a.connect();
    b.connect();
    wait_in_memory(a, 1, 5);
    EXPECT_FALSE(a.written(0));
    EXPECT_LT(budget_->left(), 3 * block_bytes);
    // It would fit a budget of its own.
    wait_in_memory(b, 1, 5);
    EXPECT_TRUE(b.written(0));
    EXPECT_FALSE(a.written(0));
    // Nor does it fit when it grows larger than was announced.
    b.acknowledged = 0;
    b.begin_pass(2, 1);
    for (std::uint64_t i = 0; i < 5; ++i) b.send(2, i);
    ASSERT_TRUE(run([&] { return b.acknowledged == 5; }));
    EXPECT_LT(budget_->left(), 3 * block_bytes);
    // A pass that is superseded gives back what it took, and so does a target that ends.
    a.begin_pass(2, 5);
    EXPECT_TRUE(run([&] { return budget_->left() == budget_bytes; }));
    a.acknowledged = 0;
    for (std::uint64_t i = 0; i < 5; ++i) a.send(2, i);
    ASSERT_TRUE(run([&] { return a.acknowledged == 5; }));
    EXPECT_LT(budget_->left(), budget_bytes);
    a.target.reset();
    EXPECT_EQ(budget_->left(), budget_bytes);
}

}  // namespace
}  // namespace ebb::sim
