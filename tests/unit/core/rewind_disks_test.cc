// SPDX-License-Identifier: Apache-2.0
// A rewind of several disks: they are read and written side by side, each its share.
#include "target_fixture.h"

namespace ebb::core {

namespace {

class HeldDisk : public sim::SimDisk {
public:
    using SimDisk::SimDisk;
    void read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) override {
        ++reads;
        SimDisk::read(offset, into, std::move(done));
    }
    void write(std::uint64_t offset, std::span<const std::byte> from,
               env::StatusCallback done) override {
        ++writes;
        if (!hold) return SimDisk::write(offset, from, std::move(done));
        held.push_back([this, offset, from, done = std::move(done)]() mutable {
            SimDisk::write(offset, from, std::move(done));
        });
    }
    void release() {
        hold = false;
        for (auto& begin : std::exchange(held, {})) begin();
    }
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;
    bool hold = false;
    std::vector<std::move_only_function<void()>> held;
};

}  // namespace

class RewindDisksTest : public TargetTest {
protected:
    // The second disk has a quarter as much to be written as the first.
    RewindDisksTest() {
        life_.reset();
        config_.disks.push_back({"second", "second target", disk_bytes});
        config_.undo_compression = 0;
        config_.rewind_bytes = slice * block_bytes;
    }
    ~RewindDisksTest() override {
        peers_.clear();
        target_.reset();
        now_.end();
    }
    void two_points() {
        target_ =
            std::make_unique<Target>(config_, std::vector<env::Disk*>{&first_now_, &second_now_},
                                     volume_now_, clock_, cpus_);
        std::optional<Status> opened;
        target_->open([&](Status status) { opened = std::move(status); });
        wait();
        ASSERT_TRUE(opened && *opened);
        network_.listener = [this](std::shared_ptr<env::Connection> connection) {
            target_->accept(std::move(connection));
        };
        Peer& peer = connect();
        auto message = hello();
        message.disks.push_back({"second", disk_bytes});
        peer.send(message);
        wait();
        ASSERT_TRUE(peer.take(FrameType::welcome).has_value());
        change(peer, 1, blocks, blocks);
        change(peer, 2, blocks, blocks / 4);
        const auto done = wait_for<FailoverResult>(
            [this](auto callback) { target_->failover(6, std::move(callback)); });
        ASSERT_TRUE(done.has_value());
    }
    // So many blocks of each disk.
    void change(Peer& peer, std::uint64_t epoch, std::uint64_t first, std::uint64_t second) {
        begin(peer, epoch, 1);
        format::ManifestChain chain;
        std::uint64_t index = 0;
        for (DiskIndex disk = 0; disk < 2; ++disk) {
            const Bytes content(block_bytes, static_cast<std::byte>(10 * epoch + disk));
            for (std::uint64_t at = 0; at < (disk == 0 ? first : second); ++at) {
                auto extent = head(1, index++, at, content);
                extent.disk = disk;
                peer.send_extent(extent, content);
                chain.add(disk, extent.offset, extent.length, extent.kind, extent.digest);
            }
        }
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(format::PassEnd{epoch, 1, format::PassKind::frozen, index, chain.value, cut, ""});
        wait();
    }
    void begin_to_go_to_the_first() {
        for (HeldDisk* disk : {&first_now_, &second_now_}) disk->reads = disk->writes = 0;
        target_->change_point(1,
                              [this](Result<FailoverResult> result) { done_ = std::move(result); });
        wait();
    }
    void expect_the_first() {
        ASSERT_TRUE(done_ && *done_);
        EXPECT_EQ((*done_)->rewound_bytes, (blocks + blocks / 4) * block_bytes);
        EXPECT_EQ(disk_.current, Bytes(disk_bytes, std::byte{10}));
        EXPECT_EQ(second_.current, Bytes(disk_bytes, std::byte{11}));
    }

    static constexpr std::uint64_t blocks = disk_bytes / block_bytes;
    static constexpr std::uint64_t slice = 10;
    sim::DiskState second_{disk_bytes};
    sim::VolumeState fresh_;
    sim::Life now_{executor_};
    sim::SimClock clock_{now_};
    sim::SimCpus cpus_{now_};
    sim::SimVolume volume_now_{now_, fresh_, faults_};
    HeldDisk first_now_{now_, disk_, faults_};
    HeldDisk second_now_{now_, second_, faults_};
    std::unique_ptr<Target> target_;
    std::optional<Result<FailoverResult>> done_;
};

TEST_F(RewindDisksTest, AreWrittenSideBySide) {
    two_points();
    first_now_.hold = second_now_.hold = true;
    begin_to_go_to_the_first();
    EXPECT_FALSE(done_);
    // Of the first slice, each its share; neighbours are one write.
    EXPECT_EQ(first_now_.held.size(), 1U);
    EXPECT_EQ(second_now_.held.size(), 1U);
    first_now_.release();
    second_now_.release();
    wait();
    expect_the_first();
}

TEST_F(RewindDisksTest, ComeToTheirEndTogether) {
    two_points();
    begin_to_go_to_the_first();
    expect_the_first();
    // Something of both is in each of the slices.
    const std::uint64_t slices = (blocks + blocks / 4) / slice;
    EXPECT_EQ(first_now_.writes, slices);
    EXPECT_EQ(second_now_.writes, slices);
}

TEST_F(RewindDisksTest, AndSoDoChapters) {
    config_.rewind_chapter_bytes = 2 * slice * block_bytes;
    two_points();
    first_now_.hold = second_now_.hold = true;
    begin_to_go_to_the_first();
    EXPECT_EQ(first_now_.held.size(), 1U);
    EXPECT_EQ(second_now_.held.size(), 1U);
    first_now_.release();
    second_now_.release();
    wait();
    expect_the_first();
}

}  // namespace ebb::core
