// SPDX-License-Identifier: Apache-2.0
// A target of one disk on the simulator's storage, and sources that say what a test wants.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/target.h"
#include "peer.h"

namespace ebb::core {

using format::FrameType;
using sim::Bytes;
using test::a_second;
using test::Peer;

constexpr std::uint64_t disk_bytes = 64 * block_bytes;

inline Uuid id(int value) {
    Uuid uuid;
    uuid.bytes.fill(static_cast<std::byte>(value));
    return uuid;
}

inline Bytes block(int value) {
    return Bytes(block_bytes, static_cast<std::byte>(value));
}

class TargetTest : public testing::Test {
protected:
    struct Life {
        Life(TargetTest& test, const TargetConfig& config)
            : life(test.executor_),
              clock(life),
              cpus(life),
              volume(life, test.volume_, test.faults_),
              disk(life, test.disk_, test.faults_),
              target(config, {&disk}, volume, clock, cpus) {
            target.open([this](Status status) { opened = status; });
        }
        ~Life() { life.end(); }
        sim::Life life;
        sim::SimClock clock;
        sim::SimCpus cpus;
        sim::SimVolume volume;
        sim::SimDisk disk;
        Target target;
        std::optional<Status> opened;
    };

    TargetTest() {
        config_.protection = id(7);
        config_.disks = {{"source", "target", disk_bytes}};
        config_.session = 5;
        config_.reserve_bytes = 0;
        network_.listener = [this](std::shared_ptr<env::Connection> connection) {
            life_->target.accept(std::move(connection));
        };
        start();
    }
    ~TargetTest() override {
        peers_.clear();
        life_.reset();
    }

    void start() {
        life_ = std::make_unique<Life>(*this, config_);
        wait();
        ASSERT_TRUE(life_->opened.has_value());
    }
    void restart() {
        peers_.clear();
        life_.reset();
        start();
        ASSERT_TRUE(life_->opened->has_value()) << life_->opened->error().message;
    }
    void wait() { test::run_for(executor_, a_second); }
    Peer& connect() {
        peers_.push_back(std::make_unique<Peer>(network_.connect()));
        return *peers_.back();
    }
    format::Hello hello() const {
        format::Hello message;
        message.protection = config_.protection;
        message.session = 5;
        message.run = id(1);
        message.incarnation = id(2);
        message.disks = {{"source", disk_bytes}};
        return message;
    }
    // Connected and welcomed.
    Peer& welcomed(format::Welcome* welcome = nullptr) {
        Peer& peer = connect();
        peer.send(hello());
        wait();
        const auto frame = peer.take(FrameType::welcome);
        EXPECT_TRUE(frame.has_value());
        if (frame && welcome != nullptr) *welcome = *format::decode_welcome(*frame);
        return peer;
    }
    static format::ExtentHead head(std::uint32_t pass, std::uint64_t index, std::uint64_t at,
                                   const Bytes& content) {
        format::ExtentHead extent;
        extent.pass = pass;
        extent.index = index;
        extent.offset = at * block_bytes;
        extent.length = static_cast<std::uint32_t>(content.size());
        extent.digest = format::xxh3_128(content);
        return extent;
    }
    void begin(Peer& peer, std::uint64_t epoch, std::uint32_t pass,
               format::PassKind kind = format::PassKind::frozen) {
        if (pass == 1) peer.send(format::EpochBegin{epoch, id(2), true});
        peer.send(format::PassBegin{epoch, pass, kind, {}, block_bytes});
    }
    // One epoch with one block of `value` in it.
    void close_epoch(Peer& peer, std::uint64_t epoch, int value, const char* name = "name") {
        begin(peer, epoch, 1);
        const auto extent = head(1, 0, 3, block(value));
        peer.send_extent(extent, block(value));
        format::ManifestChain chain;
        chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(format::PassEnd{epoch, 1, format::PassKind::frozen, 1, chain.value, cut, name});
        wait();
    }
    // One epoch: one extent of `blocks` from block `at` on.
    void send(Peer& peer, std::uint64_t epoch, std::uint64_t at, std::size_t blocks, int value) {
        begin(peer, epoch, 1);
        const Bytes content(blocks * block_bytes, static_cast<std::byte>(value));
        const auto extent = head(1, 0, at, content);
        peer.send_extent(extent, content);
        format::ManifestChain chain;
        chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(format::PassEnd{epoch, 1, format::PassKind::frozen, 1, chain.value, cut, ""});
        wait();
    }
    template <class T>
    Result<T> wait_for(const std::function<void(env::Callback<T>)>& ask) {
        std::optional<Result<T>> result;
        ask([&](Result<T> done) { result = std::move(done); });
        wait();
        if (!result) return fail(ErrorCode::timeout, "no answer");
        return std::move(*result);
    }
    Result<FailoverResult> fail_over() {
        return wait_for<FailoverResult>(
            [this](auto done) { life_->target.failover(6, std::move(done)); });
    }
    Result<FailoverResult> change_point(std::uint64_t epoch) {
        return wait_for<FailoverResult>(
            [&](auto done) { life_->target.change_point(epoch, std::move(done)); });
    }
    Result<CertifiedPoint> certify(std::uint64_t epoch, bool whole = false) {
        return wait_for<CertifiedPoint>(
            [&](auto done) { life_->target.certify(epoch, whole, std::move(done)); });
    }
    Result<VerifiedJournal> verify() {
        return wait_for<VerifiedJournal>(
            [this](auto done) { life_->target.verify(std::move(done)); });
    }
    void expect_refused(Peer& peer, ErrorCode code) {
        wait();
        EXPECT_EQ(peer.refusal(), code);
        EXPECT_TRUE(peer.closed);
        EXPECT_FALSE(peer.take(FrameType::welcome).has_value());
        // It is the peer's fault: nothing here is broken, and the next one is received.
        EXPECT_EQ(life_->target.status().state, TargetState::waiting);
        EXPECT_FALSE(life_->target.status().has_error);
        (void)welcomed();
    }

    sim::Executor executor_{1};
    sim::Faults faults_;
    sim::DiskState disk_{disk_bytes};
    sim::VolumeState volume_;
    sim::Network network_{executor_, faults_};
    TargetConfig config_;
    std::unique_ptr<Life> life_;
    std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace ebb::core
