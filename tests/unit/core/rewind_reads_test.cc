// SPDX-License-Identifier: Apache-2.0
// What a rewind reads: what is wanted, where a request costs little, and what lies between where it
// costs more; each table once. And when: it waits neither for what was asked for before, nor for
// what is computed.
#include "core/rewind.h"
#include "target_fixture.h"

namespace ebb::core {

namespace {

class CountedDisk : public sim::SimDisk {
public:
    using SimDisk::SimDisk;
    [[nodiscard]] std::uint64_t request_cost() const override { return cost; }
    void read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) override {
        ++reads;
        const bool bad = offset < bad_below;
        const bool hold = !bad && offset >= held_from;
        SimDisk::read(
            offset, into, [this, bad, hold, done = std::move(done)](Status status) mutable {
                if (bad) status = fail(ErrorCode::io, "the disk fails");
                if (hold)
                    held.push_back([status, done = std::move(done)]() mutable { done(status); });
                else
                    done(status);
            });
    }
    void release() {
        held_from = UINT64_MAX;
        for (auto& answer : std::exchange(held, {})) answer();
    }
    std::uint64_t cost = 0;
    std::uint64_t reads = 0;
    std::uint64_t bad_below = 0;
    // From here on nothing is answered until release().
    std::uint64_t held_from = UINT64_MAX;
    std::vector<std::move_only_function<void()>> held;
};

class HeldCpus : public sim::SimCpus {
public:
    using SimCpus::SimCpus;
    void compute(std::move_only_function<void()> work, env::StatusCallback done) override {
        if (!hold) return SimCpus::compute(std::move(work), std::move(done));
        held.push_back([this, work = std::move(work), done = std::move(done)]() mutable {
            SimCpus::compute(std::move(work), std::move(done));
        });
    }
    void release() {
        hold = false;
        for (auto& begin : std::exchange(held, {})) begin();
    }
    bool hold = false;
    std::vector<std::move_only_function<void()>> held;
};

class CountedVolume : public sim::SimVolume {
public:
    using SimVolume::SimVolume;
    [[nodiscard]] std::uint64_t request_cost() const override { return cost; }
    void read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override {
        ++reads;
        read_bytes += into.size();
        SimVolume::read(name, offset, into, std::move(done));
    }
    void sync(const std::string& name, std::string_view site, env::StatusCallback done) override {
        if (site == "rewind-undo") ++syncs;
        if (site != "rewind-undo" || !hold) return SimVolume::sync(name, site, std::move(done));
        held = [this, name, site, done = std::move(done)]() mutable {
            SimVolume::sync(name, site, std::move(done));
        };
    }
    void release() {
        hold = false;
        std::exchange(held, {})();
    }
    std::uint64_t cost = 0;
    std::uint64_t reads = 0;
    std::uint64_t read_bytes = 0;
    std::uint64_t syncs = 0;  // of what is overwritten
    bool hold = false;
    std::move_only_function<void()> held;
};

}  // namespace

class RewindReadsTest : public TargetTest {
protected:
    explicit RewindReadsTest(std::uint64_t slice_bytes = TargetConfig{}.rewind_bytes) {
        life_.reset();
        config_.undo_compression = 0;
        config_.rewind_bytes = slice_bytes;
        target_ = std::make_unique<Target>(config_, std::vector<env::Disk*>{&disk_now_},
                                           volume_now_, clock_, cpus_);
        std::optional<Status> opened;
        target_->open([&](Status status) { opened = std::move(status); });
        wait();
        EXPECT_TRUE(opened && *opened);
        network_.listener = [this](std::shared_ptr<env::Connection> connection) {
            target_->accept(std::move(connection));
        };
    }
    ~RewindReadsTest() override {
        peers_.clear();
        target_.reset();
        now_.end();
    }
    // Every fourth block has changed by the second point, and every second one by the third.
    void three_points() {
        Peer& peer = welcomed();
        send(peer, 1, 0, blocks, 1);
        change_every(peer, 2, 4);
        change_every(peer, 3, 2);
        const auto done = wait_for<FailoverResult>(
            [this](auto callback) { target_->failover(6, std::move(callback)); });
        ASSERT_TRUE(done.has_value());
    }
    void change_every(Peer& peer, std::uint64_t epoch, std::uint64_t step) {
        begin(peer, epoch, 1);
        const Bytes content = block(static_cast<int>(epoch));
        format::ManifestChain chain;
        for (std::uint64_t at = 0; at < blocks; at += step) {
            const auto extent = head(1, at / step, at, content);
            peer.send_extent(extent, content);
            chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        }
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(format::PassEnd{epoch, 1, format::PassKind::frozen, blocks / step, chain.value,
                                  cut, ""});
        wait();
    }
    void go_to_the_first() {
        volume_now_.read_bytes = disk_.read_bytes = 0;
        const auto done = wait_for<FailoverResult>(
            [this](auto callback) { target_->change_point(1, std::move(callback)); });
        ASSERT_TRUE(done.has_value()) << done.error().message;
        EXPECT_EQ(disk_.current, Bytes(disk_bytes, std::byte{1}));
    }

    static constexpr std::uint64_t blocks = disk_bytes / block_bytes;
    // Of 16 and 32 entries, and little more.
    static constexpr std::uint64_t tables = 3000;
    sim::Life now_{executor_};
    sim::SimClock clock_{now_};
    HeldCpus cpus_{now_};
    CountedVolume volume_now_{now_, volume_, faults_};
    CountedDisk disk_now_{now_, disk_, faults_};
    std::unique_ptr<Target> target_;
};

// Blocks that the second epoch has undo of lie between those that the third one's is wanted of.
TEST_F(RewindReadsTest, WhatIsWantedAloneWhereARequestCostsLittle) {
    three_points();
    go_to_the_first();
    EXPECT_EQ(disk_.read_bytes, disk_bytes / 2);
    EXPECT_LE(volume_now_.read_bytes, disk_bytes / 2 + tables);
}

TEST_F(RewindReadsTest, WhatLiesBetweenWhereItCostsMore) {
    three_points();
    volume_now_.cost = disk_now_.cost = block_bytes;
    go_to_the_first();
    EXPECT_EQ(disk_.read_bytes, disk_bytes - block_bytes);
    EXPECT_EQ(volume_now_.read_bytes, (16 + 31) * block_bytes + 2 * volume_now_.cost);
}

class RewindStagesTest : public RewindReadsTest {
protected:
    RewindStagesTest() : RewindReadsTest(slice * block_bytes) {}
    // Every second block is wanted: of four slices each begins where the one before ends.
    static constexpr std::uint64_t slice = blocks / 2 / 4;

    void begin_to_go_to_the_first() {
        disk_now_.reads = 0;
        writes_ = disk_.writes;
        newest_ = disk_.current;
        target_->change_point(1, [this](Result<FailoverResult> result) {
            held_at_the_end_ = disk_now_.held.size();
            done_ = std::move(result);
        });
        wait();
    }
    std::uint64_t writes_ = 0;
    Bytes newest_;
    std::size_t held_at_the_end_ = 0;
    std::optional<Result<FailoverResult>> done_;
};

TEST_F(RewindStagesTest, ASliceIsAskedForBeforeTheOneBeforeHasCome) {
    three_points();
    disk_now_.held_from = 0;
    begin_to_go_to_the_first();
    EXPECT_EQ(disk_now_.reads, 4 * slice);
    EXPECT_FALSE(done_);
    disk_now_.release();
    wait();
    ASSERT_TRUE(done_ && *done_);
    EXPECT_EQ(disk_.current, Bytes(disk_bytes, std::byte{1}));
}

TEST_F(RewindStagesTest, AndBeforeTheOneBeforeIsComputed) {
    three_points();
    cpus_.hold = true;
    begin_to_go_to_the_first();
    EXPECT_EQ(disk_now_.reads, 4 * slice);
    EXPECT_EQ(cpus_.held.size(), 2U);  // what it is to have, and what it has
    EXPECT_EQ(disk_.writes, writes_);
    EXPECT_FALSE(done_);
    cpus_.release();
    wait();
    ASSERT_TRUE(done_ && *done_);
    EXPECT_EQ(disk_.current, Bytes(disk_bytes, std::byte{1}));
}

TEST_F(RewindStagesTest, ThoseThatWaitForASyncHaveTheNextOneTogether) {
    three_points();
    volume_now_.hold = true;
    begin_to_go_to_the_first();
    EXPECT_EQ(volume_now_.syncs, 1U);
    EXPECT_EQ(disk_.writes, writes_);
    volume_now_.release();
    wait();
    ASSERT_TRUE(done_ && *done_);
    EXPECT_EQ(volume_now_.syncs, 2U);
    EXPECT_EQ(disk_.current, Bytes(disk_bytes, std::byte{1}));
    // What was overwritten is there, whichever record has it.
    const auto done = wait_for<FailoverResult>(
        [this](auto callback) { target_->change_point(3, std::move(callback)); });
    ASSERT_TRUE(done.has_value()) << done.error().message;
    EXPECT_EQ(disk_.current, newest_);
}

// What was asked for has memory of the move's, and reads what the next one may overwrite.
TEST_F(RewindStagesTest, AfterAnErrorNothingIsUnderWay) {
    three_points();
    disk_now_.bad_below = 2 * slice * block_bytes;
    disk_now_.held_from = disk_now_.bad_below;
    begin_to_go_to_the_first();
    EXPECT_EQ(disk_now_.held.size(), 3 * slice);
    EXPECT_FALSE(done_);
    disk_now_.release();
    wait();
    ASSERT_TRUE(done_);
    EXPECT_EQ(held_at_the_end_, 0U);
    ASSERT_FALSE(done_->has_value());
    EXPECT_EQ(done_->error().code, ErrorCode::io);
    EXPECT_EQ(disk_.writes, writes_);
}

// What is read last is saved and written when nothing is read any more.
TEST(RewindSlices, AreShortInAShortMove) {
    constexpr std::uint64_t mib = 1ULL << 20;
    EXPECT_EQ(Rewind::slice_length(mib, 16 * mib), mib);
    EXPECT_EQ(Rewind::slice_length(64 * mib, 16 * mib), 2 * mib);
    EXPECT_EQ(Rewind::slice_length(1024 * mib, 16 * mib), 16 * mib);
    EXPECT_EQ(Rewind::slice_length(1024 * mib, 8192), 8192U);
}

}  // namespace ebb::core
