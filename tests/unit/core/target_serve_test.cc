// SPDX-License-Identifier: Apache-2.0
// Points that are read while replication goes on, and what ends that.
#include <algorithm>

#include "target_fixture.h"

namespace ebb::core {
namespace {

class TargetServeTest : public TargetTest {
protected:
    // Point n has n + 3 in block 3.
    void close_epochs(Peer& peer, int from, int to, const char* name = "") {
        for (int i = from; i <= to; ++i)
            close_epoch(peer, static_cast<std::uint64_t>(i), i + 3, name);
    }
    Status serve(std::uint64_t epoch) {
        return wait_for<void>([&](auto done) { life_->target.serve(epoch, std::move(done)); });
    }
    Status unserve(std::uint64_t epoch) {
        return wait_for<void>([&](auto done) { life_->target.unserve(epoch, std::move(done)); });
    }
    Status read(std::uint64_t epoch, std::uint64_t offset, std::uint64_t bytes) {
        buffer_ = std::make_shared<Buffer>(bytes);
        return wait_for<void>([&](auto done) {
            life_->target.read_served(epoch, 0, offset, buffer_, std::move(done));
        });
    }
    // Of block 3; negative: it cannot be read.
    int content(std::uint64_t epoch) {
        const auto status = read(epoch, 3 * block_bytes, block_bytes);
        if (!status) return -1;
        const auto all = buffer_->span();
        const bool same = std::ranges::all_of(all, [&](std::byte b) { return b == all[0]; });
        return same ? std::to_integer<int>(all[0]) : -2;
    }
    std::optional<Error> given_up(std::uint64_t epoch) const {
        for (const auto& served : life_->target.status().served)
            if (served.epoch == epoch) return served.error;
        return std::nullopt;
    }
    std::vector<std::uint64_t> epochs() const {
        std::vector<std::uint64_t> all;
        for (const Point& point : life_->target.points()) all.push_back(point.epoch);
        return all;
    }
    std::shared_ptr<Buffer> buffer_;
};

TEST_F(TargetServeTest, EachPointIsWhatItWasWhileTheReplicaMovesOn) {
    Peer& peer = welcomed();
    close_epochs(peer, 1, 4);
    for (const std::uint64_t epoch : {1, 2, 4}) ASSERT_TRUE(serve(epoch).has_value());
    for (int last = 4; last < 9; ++last) {
        for (const std::uint64_t epoch : {1, 2, 4})
            EXPECT_EQ(content(epoch), static_cast<int>(epoch) + 3);
        close_epochs(peer, last + 1, last + 1);
        EXPECT_EQ(std::to_integer<int>(disk_.current[3 * block_bytes]), last + 4);
    }
    // Parts of blocks, and what never changed.
    ASSERT_TRUE(read(2, 3 * block_bytes - sector_bytes, 3 * sector_bytes).has_value());
    EXPECT_EQ(std::to_integer<int>(buffer_->span()[0]), 0);
    EXPECT_EQ(std::to_integer<int>(buffer_->span()[sector_bytes]), 5);
}

TEST_F(TargetServeTest, WhatIsAppliedOfAnOpenEpochIsNotSeen) {
    Peer& peer = welcomed();
    close_epochs(peer, 1, 1);
    ASSERT_TRUE(serve(1).has_value());
    begin(peer, 2, 1, format::PassKind::live);
    const auto extent = head(1, 0, 3, block(77));
    peer.send_extent(extent, block(77));
    format::ManifestChain chain;
    chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
    peer.send(format::PassEnd{2, 1, format::PassKind::live, 1, chain.value, {}, ""});
    wait();
    ASSERT_EQ(std::to_integer<int>(disk_.current[3 * block_bytes]), 77);
    EXPECT_EQ(content(1), 4);
    // One that is served from now on finds the undo in the journal.
    ASSERT_TRUE(unserve(1).has_value());
    EXPECT_EQ(content(1), -1);
    ASSERT_TRUE(serve(1).has_value());
    EXPECT_EQ(content(1), 4);
}

TEST_F(TargetServeTest, TheReplicaIsNotTouched) {
    Peer& peer = welcomed();
    close_epochs(peer, 1, 3);
    const auto before = disk_.current;
    const auto writes = disk_.pending.size();
    ASSERT_TRUE(serve(1).has_value());
    EXPECT_EQ(content(1), 4);
    ASSERT_TRUE(unserve(1).has_value());
    EXPECT_EQ(disk_.current, before);
    EXPECT_EQ(disk_.pending.size(), writes);
}

TEST_F(TargetServeTest, WhatCannotBeServed) {
    Peer& peer = welcomed();
    close_epochs(peer, 1, 2);
    EXPECT_EQ(serve(3).error().code, ErrorCode::not_found);
    EXPECT_EQ(read(1, 0, block_bytes).error().name(), "E_POINT_NOT_SERVED");
    ASSERT_TRUE(serve(1).has_value());
    EXPECT_TRUE(serve(1).has_value());
    EXPECT_EQ(read(1, 1, block_bytes).error().code, ErrorCode::invalid);
    EXPECT_EQ(read(1, disk_bytes, sector_bytes).error().code, ErrorCode::invalid);
    EXPECT_EQ(read(1, 0, disk_bytes + sector_bytes).error().code, ErrorCode::invalid);
    EXPECT_TRUE(read(1, 0, disk_bytes).has_value());
    EXPECT_TRUE(unserve(7).has_value());
    ASSERT_TRUE(fail_over().has_value());
    EXPECT_EQ(serve(1).error().code, ErrorCode::refused);
}

TEST_F(TargetServeTest, NotMoreAtOnceThanMayBe) {
    config_.served_points = 2;
    life_.reset();
    start();
    close_epochs(welcomed(), 1, 3);
    ASSERT_TRUE(serve(1).has_value());
    ASSERT_TRUE(serve(2).has_value());
    EXPECT_EQ(serve(3).error().name(), "E_POINTS_SERVED");
    ASSERT_TRUE(unserve(1).has_value());
    EXPECT_TRUE(serve(3).has_value());
}

TEST_F(TargetServeTest, AFailoverEndsIt) {
    close_epochs(welcomed(), 1, 2);
    ASSERT_TRUE(serve(1).has_value());
    ASSERT_TRUE(fail_over().has_value());
    EXPECT_EQ(read(1, 0, block_bytes).error().name(), "E_POINT_GIVEN_UP");
    EXPECT_TRUE(given_up(1).has_value());
}

// Who has read it meanwhile had errors, and is to find out.
TEST_F(TargetServeTest, OneThatIsServedAnewIsAnotherServing) {
    const auto number = [&] {
        const auto all = life_->target.status().served;
        return all.size() == 1 ? all[0].serving : 0;
    };
    close_epochs(welcomed(), 1, 2);
    ASSERT_TRUE(serve(1).has_value());
    const auto first = number();
    EXPECT_GT(first, 0U);
    ASSERT_TRUE(serve(1).has_value());
    EXPECT_EQ(number(), first);
    ASSERT_TRUE(unserve(1).has_value());
    ASSERT_TRUE(serve(1).has_value());
    EXPECT_GT(number(), first);
}

TEST_F(TargetServeTest, OneThatWasGivenUpAndIsServedAnewIsAnotherServing) {
    Peer& peer = welcomed();
    close_epochs(peer, 1, 2, "kept");
    ASSERT_TRUE(serve(1).has_value());
    const auto first = life_->target.status().served.at(0).serving;
    volume_.capacity = volume_.used() + 300;
    close_epochs(peer, 3, 3);
    ASSERT_TRUE(given_up(1).has_value());
    volume_.capacity = 1 << 30;
    ASSERT_TRUE(serve(1).has_value());
    EXPECT_FALSE(given_up(1).has_value());
    EXPECT_GT(life_->target.status().served.at(0).serving, first);
}

TEST_F(TargetServeTest, AServedPointIsNotMergedAway) {
    config_.retention.all_for = std::chrono::seconds(4);
    config_.retention.thinned_to = std::chrono::seconds(3);
    config_.retention.age = std::chrono::seconds(8);
    life_.reset();
    start();
    Peer& peer = welcomed();
    close_epochs(peer, 1, 3);
    for (const std::uint64_t epoch : {1, 2}) ASSERT_TRUE(serve(epoch).has_value());
    for (int i = 4; i < 18; ++i) {
        close_epochs(peer, i, i);
        EXPECT_EQ(content(1), 4);
        EXPECT_EQ(content(2), 5);
    }
    EXPECT_LT(epochs().size(), 14U);
    EXPECT_EQ(epochs()[0], 1U);
    EXPECT_EQ(epochs()[1], 2U);
    std::uint64_t followed = 0;
    for (const auto& served : life_->target.status().served) followed += served.merges_followed;
    EXPECT_GT(followed, 0U);
    // Then they go as any other.
    for (const std::uint64_t epoch : {1, 2}) ASSERT_TRUE(unserve(epoch).has_value());
    close_epochs(peer, 18, 19);
    wait();
    EXPECT_GT(epochs()[0], 2U);
    EXPECT_TRUE(verify().has_value());
}

TEST_F(TargetServeTest, AFullVolumeEndsItRatherThanReplication) {
    Peer& peer = welcomed();
    close_epochs(peer, 1, 2);
    ASSERT_TRUE(serve(1).has_value());
    volume_.capacity = volume_.used() + 300;
    close_epochs(peer, 3, 3);
    EXPECT_EQ(life_->target.status().newest.epoch, 3U);
    ASSERT_TRUE(given_up(1).has_value());
    EXPECT_EQ(given_up(1)->name(), "E_POINT_GIVEN_UP");
    EXPECT_THAT(given_up(1)->message, testing::HasSubstr("full"));
    EXPECT_EQ(content(1), -1);
    EXPECT_FALSE(serve(1).has_value());
    EXPECT_TRUE(serve(3).has_value());
}

TEST_F(TargetServeTest, MemoryOfTheIndexIsBounded) {
    config_.serve_index_bytes = 3 * PieceIndex::piece_bytes / 2;
    life_.reset();
    start();
    Peer& peer = welcomed();
    close_epochs(peer, 1, 4);
    // One block, however often.
    EXPECT_TRUE(serve(1).has_value());
    begin(peer, 5, 1);
    format::ManifestChain chain;
    for (const std::uint64_t index : {0, 1}) {
        const auto extent = head(1, index, 9 + 11 * index, block(1));
        peer.send_extent(extent, block(1));
        chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
    }
    peer.send(format::PassEnd{5, 1, format::PassKind::frozen, 2, chain.value, {}, ""});
    wait();
    EXPECT_EQ(life_->target.status().newest.epoch, 5U);
    ASSERT_TRUE(given_up(1).has_value());
    EXPECT_EQ(given_up(1)->name(), "E_POINT_TOO_LARGE");
    EXPECT_EQ(serve(1).error().name(), "E_POINT_TOO_LARGE");
    EXPECT_EQ(serve(4).error().name(), "E_POINT_TOO_LARGE");
    EXPECT_TRUE(serve(5).has_value());
}

TEST_F(TargetServeTest, DamagedUndoIsNeverServed) {
    config_.undo_compression = 0;
    life_.reset();
    start();
    Peer& peer = welcomed();
    close_epochs(peer, 1, 3);
    ASSERT_TRUE(serve(1).has_value());
    auto& file = *volume_.find(Journal::file_name({2, 2}));
    const auto found = std::ranges::search(file.current, block(4));
    ASSERT_FALSE(found.empty());
    file.current[static_cast<std::size_t>(found.begin() - file.current.begin())] ^= std::byte{1};
    EXPECT_EQ(read(1, 3 * block_bytes, block_bytes).error().code, ErrorCode::corrupt);
    // And only that.
    EXPECT_TRUE(read(1, 0, block_bytes).has_value());
}

}  // namespace
}  // namespace ebb::core
