// SPDX-License-Identifier: Apache-2.0
// Certifying a point: what was sent of it is read back.
#include "core/journal.h"
#include "target_fixture.h"

namespace ebb::core {
namespace {

class CertifyTest : public TargetTest {
protected:
    Result<CertifiedPoint> certify(std::uint64_t epoch) {
        return wait_for<CertifiedPoint>(
            [&](auto done) { life_->target.certify(epoch, std::move(done)); });
    }
    void restart() {
        peers_.clear();
        life_.reset();
        start();
    }
};

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

TEST_F(CertifyTest, WhatWasOverwrittenIsNotClaimed) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    close_epoch(peer, 2, 8);
    auto it = certify(1);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->point.epoch, 1U);
    EXPECT_EQ(it->overwritten_bytes, block_bytes);
    EXPECT_EQ(it->equal_bytes + it->different_bytes, 0U);
    it = certify(2);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->equal_bytes, block_bytes);
}

TEST_F(CertifyTest, WhatAnOpenEpochOverwritesIsNotClaimed) {
    Peer& peer = welcomed();
    close_epoch(peer, 1, 9);
    begin(peer, 2, 1, format::PassKind::live);
    peer.send_extent(head(1, 0, 3, block(8)), block(8));
    wait();
    const auto it = certify(1);
    ASSERT_TRUE(it.has_value());
    EXPECT_EQ(it->overwritten_bytes, block_bytes);
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
