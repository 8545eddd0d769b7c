// SPDX-License-Identifier: Apache-2.0
// Certifying a point: what was sent of it is read back.
#include <algorithm>

#include "core/journal.h"
#include "target_fixture.h"

namespace ebb::core {
namespace {

class CertifyTest : public TargetTest {};

TEST_F(CertifyTest, WhatWasSentIsReadBack) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    for (int i = 0; i < 2; ++i) {
        const auto it = certify(0);
        ASSERT_TRUE(it.has_value()) << it.error().message;
        EXPECT_EQ(it->point.epoch, 1U);
        EXPECT_EQ(it->extents, 1U);
        EXPECT_EQ(it->bytes, block_bytes);
        EXPECT_EQ(it->equal_bytes, block_bytes);
        EXPECT_EQ(it->journal.points, 1U);
        EXPECT_NE(it->chain, format::Sha256{});
        restart();  // manifests are in the journal
    }
}

TEST_F(CertifyTest, WhatHasRottenIsSeen) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    disk_.current[3 * block_bytes + 5] ^= std::byte{1};
    const auto it = certify(1);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->different_bytes, block_bytes);
    EXPECT_EQ(it->equal_bytes, 0U);
}

TEST_F(CertifyTest, WhatWasOverwrittenIsReadFromTheJournal) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    close_epoch(peer, 2, 8);
    for (int i = 0; i < 2; ++i) {
        auto it = certify(1);
        ASSERT_TRUE(it.has_value()) << it.error().message;
        EXPECT_EQ(it->point.epoch, 1U);
        EXPECT_EQ(it->equal_bytes, block_bytes);
        EXPECT_EQ(it->journal_bytes, block_bytes);
        it = certify(2);
        ASSERT_TRUE(it.has_value());
        EXPECT_EQ(it->equal_bytes, block_bytes);
        EXPECT_EQ(it->journal_bytes, 0U);
        restart();
    }
}

TEST_F(CertifyTest, WhatAnOpenEpochOverwritesIsReadFromTheJournal) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    begin(peer, 2, 1, format::PassKind::live);
    peer.send_extent(head(1, 0, 3, block(8)), block(8));
    wait();
    const auto it = certify(1);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->equal_bytes, block_bytes);
    EXPECT_EQ(it->journal_bytes, block_bytes);
}

// It is the rotten block that was kept when it was overwritten.
TEST_F(CertifyTest, WhatHadRottenBeforeItWasOverwrittenIsSeen) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    disk_.current[3 * block_bytes + 5] ^= std::byte{1};
    close_epoch(peer, 2, 8);
    const auto it = certify(1);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->different_bytes, block_bytes);
    EXPECT_EQ(it->equal_bytes + it->journal_bytes, 0U);
    EXPECT_EQ(certify(2)->equal_bytes, block_bytes);
}

TEST_F(CertifyTest, AHistoryThatIsLongTakesNoMoreMemoryThanThePoint) {
    config_.certify_index_bytes = 4 * PieceIndex::piece_bytes;
    config_.certify_ranges = 4;
    restart();
    Peer& peer = welcomed();
    send(peer, 1, 3, 1, 9);
    for (std::uint64_t epoch = 2; epoch < 20; ++epoch) send(peer, epoch, 3 + 2 * epoch, 1, 7);
    send(peer, 20, 3, 1, 8);
    EXPECT_EQ(certify(1)->journal_bytes, block_bytes);
    // Of the whole it would be too much at once.
    const auto whole = certify(1, true);
    ASSERT_TRUE(whole.has_value()) << whole.error().message;
    EXPECT_EQ(whole->journal_bytes, block_bytes);
    EXPECT_EQ(life_->target.status().state, TargetState::receiving);
}

// New points go before whoever reads old ones.
TEST_F(CertifyTest, AFullVolumeEndsWhatReadsTheJournal) {
    Peer& peer = welcomed();
    for (std::uint64_t epoch = 1; epoch < 20; ++epoch) send(peer, epoch, epoch, 1, 7);
    std::optional<Result<CertifiedPoint>> certified;
    life_->target.certify(19, true, [&](auto done) { certified = std::move(done); });
    volume_.capacity = volume_.used() + 300;
    send(peer, 20, 3, 1, 8);
    EXPECT_EQ(life_->target.status().newest.epoch, 20U);
    ASSERT_TRUE(certified && !*certified);
    EXPECT_EQ(certified->error().code, ErrorCode::no_space);

    std::optional<Result<VerifiedJournal>> verified;
    life_->target.verify([&](auto done) { verified = std::move(done); });
    volume_.capacity = volume_.used();
    send(peer, 21, 3, 1, 9);
    EXPECT_EQ(life_->target.status().newest.epoch, 21U);
    // It can do without the oldest ones.
    ASSERT_TRUE(verified && *verified) << verified->error().message;
    EXPECT_LT((*verified)->points, 21U);
    EXPECT_TRUE(certify(21).has_value());
    EXPECT_TRUE(verify().has_value());
}

// At any step, and as often as it takes: what is read goes on without those that made room.
TEST_F(CertifyTest, AVolumeThatIsAlwaysFullIsReadToItsEnd) {
    Peer& peer = welcomed();
    std::uint64_t epoch = 0;
    while (++epoch < 20) send(peer, epoch, epoch % 60, 1, 7);
    for (std::uint64_t steps = 0; steps < 150; ++steps) {
        volume_.capacity = volume_.used();
        std::optional<Result<VerifiedJournal>> verified;
        std::optional<Result<CertifiedPoint>> certified;
        if (steps % 2 == 0) {
            life_->target.verify([&](auto done) { verified = std::move(done); });
        } else {
            life_->target.certify(0, false, [&](auto done) { certified = std::move(done); });
        }
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        send(peer, epoch, epoch % 60, 1, static_cast<int>(steps));
        EXPECT_EQ(life_->target.status().newest.epoch, epoch) << steps;
        ++epoch;
        ASSERT_TRUE(verified || certified) << steps;
        if (verified) {
            EXPECT_TRUE(verified->has_value()) << steps << " " << verified->error().message;
        } else if (*certified) {
            EXPECT_EQ((*certified)->equal_bytes, block_bytes);
        } else {
            ADD_FAILURE() << steps << " " << certified->error().message;
        }
    }
}

// It ends by itself, and room by giving up points there is none.
TEST_F(CertifyTest, AFullVolumeOfPointsWithNamesEndsNothing) {
    Peer& peer = welcomed();
    for (std::uint64_t epoch = 1; epoch < 20; ++epoch) close_epoch(peer, epoch, 7);
    std::optional<Result<CertifiedPoint>> certified;
    life_->target.certify(19, true, [&](auto done) { certified = std::move(done); });
    volume_.capacity = volume_.used();
    close_epoch(peer, 20, 8);
    EXPECT_EQ(life_->target.status().state, TargetState::no_space);
    ASSERT_TRUE(certified.has_value());
    EXPECT_TRUE(certified->has_value());
}

// Nor is there any by merging what cannot be read: what reads it says what is damaged.
TEST_F(CertifyTest, AFullVolumeOfPointsThatCannotBeMergedEndsNothing) {
    Peer& peer = welcomed();
    send(peer, 1, 0, 32, 1);
    close_epoch(peer, 2, 7);  // which has a name, and stays
    for (std::uint64_t epoch = 3; epoch < 20; ++epoch) send(peer, epoch, epoch, 1, 7);
    sim::FileState& file = *volume_.find(Journal::file_name({18, 18}));
    const Bytes frame = {std::byte{0x28}, std::byte{0xb5}, std::byte{0x2f}, std::byte{0xfd}};
    const auto found = std::ranges::search(file.current, frame);
    ASSERT_FALSE(found.empty());
    found.back() ^= std::byte{1};
    config_.retention.bytes = 1;
    restart();
    life_->target.trim([](const Status&) {});
    wait();
    ASSERT_EQ(life_->target.status().points, 18U);
    ASSERT_EQ(life_->target.status().error.code, ErrorCode::corrupt);
    Peer& next = welcomed();
    std::optional<Result<VerifiedJournal>> verified;
    life_->target.verify([&](auto done) { verified = std::move(done); });
    volume_.capacity = volume_.used();
    send(next, 20, 3, 1, 8);
    EXPECT_EQ(life_->target.status().state, TargetState::no_space);
    ASSERT_TRUE(verified && !*verified);
    EXPECT_EQ(verified->error().code, ErrorCode::corrupt);
}

TEST_F(CertifyTest, ThePointsBeforeItToo) {
    Peer& peer = welcomed();
    send(peer, 1, 0, 8, 1);
    send(peer, 2, 10, 2, 2);
    send(peer, 3, 11, 1, 3);  // a part of the one before
    send(peer, 4, 20, 1, 4);
    send(peer, 5, 0, 8, 5);
    auto it = certify(4, true);
    ASSERT_TRUE(it.has_value()) << it.error().message;
    EXPECT_TRUE(it->whole);
    EXPECT_EQ(it->extents, 4U);
    EXPECT_EQ(it->bytes, 12 * block_bytes);
    EXPECT_EQ(it->equal_bytes, 10 * block_bytes);
    EXPECT_EQ(it->journal_bytes, 8 * block_bytes);
    EXPECT_EQ(it->superseded_bytes, 2 * block_bytes);
    EXPECT_EQ(it->disk_bytes, disk_bytes);
    it = certify(2, true);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->equal_bytes, 10 * block_bytes);
    EXPECT_EQ(it->journal_bytes, 9 * block_bytes);
    // A fault of a point is one of those after it.
    disk_.current[20 * block_bytes] ^= std::byte{1};
    EXPECT_EQ(certify(3, true)->different_bytes, 0U);
    EXPECT_EQ(certify(4, true)->different_bytes, block_bytes);
    EXPECT_EQ(certify(5, true)->different_bytes, block_bytes);
    EXPECT_EQ(certify(5)->different_bytes, 0U);
}

TEST_F(CertifyTest, MergedPointsAmongThoseBefore) {
    config_.retention.all_for = std::chrono::seconds(2);
    config_.retention.thinned_to = std::chrono::seconds(4);
    restart();
    Peer& peer = welcomed();
    send(peer, 1, 0, 8, 1);
    for (std::uint64_t epoch = 2; epoch < 12; ++epoch)
        send(peer, epoch, epoch % 4, 1, static_cast<int>(epoch));
    wait();
    const auto points = life_->target.points();
    ASSERT_LT(points.size(), 11U);
    for (const Point& point : points) {
        const auto it = certify(point.epoch, true);
        ASSERT_TRUE(it.has_value()) << it.error().message;
        EXPECT_EQ(it->different_bytes, 0U) << point.epoch;
    }
}

TEST_F(CertifyTest, AFailoverMeanwhileEndsIt) {
    Peer& peer = welcomed();
    for (std::uint64_t epoch = 1; epoch < 6; ++epoch)
        close_epoch(peer, epoch, static_cast<int>(epoch));
    for (std::uint64_t steps = 0; steps < 40; ++steps) {
        std::optional<Result<CertifiedPoint>> result;
        life_->target.certify(1, true, [&](auto done) { result = std::move(done); });
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        ASSERT_TRUE(fail_over().has_value());
        ASSERT_TRUE(change_point(2).has_value());
        life_->target.resume([](const Status&) {});
        wait();
        ASSERT_TRUE(result.has_value());
        if (*result) {
            EXPECT_EQ((*result)->different_bytes, 0U) << steps;
        }
        (void)peer;
    }
}

TEST_F(CertifyTest, WhatWasSentAgainCountsOnce) {
    Peer& peer = welcomed();
    begin(peer, 1, 1, format::PassKind::live);
    const auto first = head(1, 0, 3, block(7));
    peer.send_extent(first, block(7));
    format::ManifestChain chain;
    chain.add(0, first.offset, first.length, first.kind, first.digest);
    peer.send(format::PassEnd{1, 1, format::PassKind::live, 1, chain.value, {}, ""});
    begin(peer, 1, 2);
    const auto second = head(2, 0, 3, block(8));
    peer.send_extent(second, block(8));
    chain = {};
    chain.add(0, second.offset, second.length, second.kind, second.digest);
    peer.send(format::PassEnd{1, 2, format::PassKind::frozen, 1, chain.value, {}, ""});
    wait();
    const auto it = certify(1);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->extents, 2U);
    EXPECT_EQ(it->equal_bytes, block_bytes);
    EXPECT_EQ(it->superseded_bytes, block_bytes);
}

TEST_F(CertifyTest, PointsThatAreNotThere) {
    EXPECT_EQ(certify(0).error().code, ErrorCode::not_found);
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    EXPECT_EQ(certify(7).error().code, ErrorCode::not_found);
    ASSERT_TRUE(fail_over().has_value());
    EXPECT_EQ(certify(1).error().code, ErrorCode::refused);
}

TEST_F(CertifyTest, AJournalThatIsDamagedCertifiesNothing) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    close_epoch(peer, 2, 8);
    sim::FileState& file = *volume_.find(Journal::file_name({1, 1}));
    file.current[file.current.size() / 2] ^= std::byte{1};
    EXPECT_EQ(certify(2).error().code, ErrorCode::corrupt);
}

}  // namespace
}  // namespace ebb::core
