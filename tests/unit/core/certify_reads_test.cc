// SPDX-License-Identifier: Apache-2.0
// Certifying reads several extents at once, and neighbours as one.
#include "target_fixture.h"

namespace ebb::core {
namespace {

class CertifyReadsTest : public TargetTest {
protected:
    struct Sent {
        std::uint64_t at = 0;  // blocks
        int value = 0;
    };
    // One epoch, an extent for each block.
    void send_blocks(Peer& peer, std::uint64_t epoch, const std::vector<Sent>& all) {
        begin(peer, epoch, 1);
        format::ManifestChain chain;
        std::uint64_t index = 0;
        for (const Sent& sent : all) {
            const Bytes content = block(sent.value);
            const auto extent = head(1, index++, sent.at, content);
            peer.send_extent(extent, content);
            chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        }
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(format::PassEnd{epoch, 1, format::PassKind::frozen, index, chain.value, cut, ""});
        wait();
    }
    static std::vector<Sent> every_second(int value) {
        std::vector<Sent> all;
        for (std::uint64_t at = 0; at < disk_bytes / block_bytes; at += 2)
            all.push_back({at, value + static_cast<int>(at)});
        return all;
    }
    // As long as it takes.
    Result<CertifiedPoint> certify_slowly(std::uint64_t epoch, bool whole) {
        std::optional<Result<CertifiedPoint>> result;
        life_->target.certify(epoch, whole, [&](auto done) { result = std::move(done); });
        for (int seconds = 0; !result && seconds < 60; ++seconds) wait();
        if (!result) return fail(ErrorCode::timeout, "no answer");
        return std::move(*result);
    }
    sim::SimDisk& disk() { return life_->disk; }
};

TEST_F(CertifyReadsTest, SeveralAtOnce) {
    Peer& peer = welcomed();
    send_blocks(peer, 1, every_second(1));
    for (const auto& [reads, bytes, most] :
         std::vector<std::tuple<std::size_t, std::uint64_t, std::uint64_t>>{
             {16, 16 << 20, 16}, {4, 16 << 20, 4}, {16, 3 * block_bytes, 3}, {16, 1, 1}}) {
        config_.certify_reads = reads;
        config_.certify_bytes = bytes;
        restart();
        const auto it = certify(1);
        ASSERT_TRUE(it.has_value()) << it.error().message;
        EXPECT_EQ(it->extents, 32U);
        EXPECT_EQ(it->equal_bytes, 32 * block_bytes);
        EXPECT_EQ(disk().reads, 32U);
        EXPECT_EQ(disk().most_reads_under_way, most);
    }
}

// Whichever epoch they are of, and in whichever order they were sent.
TEST_F(CertifyReadsTest, NeighboursAreOneRead) {
    Peer& peer = welcomed();
    send_blocks(peer, 1, {{7, 1}, {3, 2}, {5, 3}, {20, 4}});
    send_blocks(peer, 2, {{6, 5}, {4, 6}, {21, 7}});
    const std::uint64_t before = disk().reads;
    const auto it = certify(2, true);
    ASSERT_TRUE(it.has_value()) << it.error().message;
    EXPECT_EQ(it->extents, 7U);
    EXPECT_EQ(it->equal_bytes, 7 * block_bytes);
    EXPECT_EQ(disk().reads - before, 2U);
    // One of them is told from the others.
    disk_.current[4 * block_bytes] ^= std::byte{1};
    const auto rotten = certify(2, true);
    EXPECT_EQ(rotten->equal_bytes, 6 * block_bytes);
    EXPECT_EQ(rotten->different_bytes, block_bytes);
}

// Of what was read as one, some is from the disk and some from the journal.
TEST_F(CertifyReadsTest, WhatIsOfTheJournalIsCountedByExtent) {
    Peer& peer = welcomed();
    std::vector<Sent> all;
    for (std::uint64_t at = 0; at < 32; ++at) all.push_back({at, 1 + static_cast<int>(at)});
    send_blocks(peer, 1, all);
    disk_.current[9 * block_bytes] ^= std::byte{1};
    send_blocks(peer, 2, {{1, 70}, {2, 71}, {9, 72}, {30, 73}, {40, 74}});
    const auto it = certify(1);
    ASSERT_TRUE(it.has_value()) << it.error().message;
    EXPECT_EQ(it->equal_bytes, 31 * block_bytes);
    EXPECT_EQ(it->different_bytes, block_bytes);
    EXPECT_EQ(it->journal_bytes, 3 * block_bytes);
}

// However little memory there is, by which disks are divided.
TEST_F(CertifyReadsTest, InChapters) {
    Peer& peer = welcomed();
    const auto send_long = [&](std::uint64_t epoch, std::uint64_t at, std::size_t blocks) {
        send(peer, epoch, at, blocks, static_cast<int>(epoch));
    };
    for (std::uint64_t epoch = 1; epoch < 30; ++epoch)
        send_long(epoch, epoch * 7 % 53, 1 + epoch * 5 % 9);
    send_blocks(peer, 30, every_second(3));
    for (std::uint64_t epoch = 31; epoch < 60; ++epoch)
        send_long(epoch, epoch * 11 % 57, 1 + epoch * 3 % 5);
    for (const std::uint64_t epoch : {8, 20, 30, 59}) {
        for (const bool whole : {false, true}) {
            config_.certify_index_bytes = 1 << 20;
            config_.certify_ranges = 1000;
            restart();
            const auto all = certify_slowly(epoch, whole);
            ASSERT_TRUE(all.has_value()) << all.error().message;
            EXPECT_EQ(all->different_bytes, 0U);
            for (const std::uint64_t places : {6, 9, 14, 25}) {
                config_.certify_index_bytes = PieceIndex::piece_bytes * 2 * places;
                config_.certify_ranges = places;
                restart();
                const auto it = certify_slowly(epoch, whole);
                ASSERT_TRUE(it.has_value()) << it.error().message << " " << places;
                EXPECT_EQ(it->extents, all->extents) << places;
                EXPECT_EQ(it->bytes, all->bytes);
                EXPECT_EQ(it->equal_bytes, all->equal_bytes) << places;
                EXPECT_EQ(it->journal_bytes, all->journal_bytes);
                EXPECT_EQ(it->superseded_bytes, all->superseded_bytes);
                EXPECT_EQ(it->different_bytes, 0U);
                EXPECT_EQ(it->undigested_bytes, all->undigested_bytes);
            }
        }
    }
}

// What is overwritten meanwhile makes it too much: it is begun anew with less.
TEST_F(CertifyReadsTest, InChaptersOfWhatIsOverwrittenMeanwhile) {
    config_.certify_index_bytes = PieceIndex::piece_bytes * 8;
    restart();
    Peer& peer = welcomed();
    send_blocks(peer, 1, every_second(1));
    for (std::uint64_t epoch = 2; epoch < 40; ++epoch) {
        std::optional<Result<CertifiedPoint>> result;
        life_->target.certify(epoch - 1, false, [&](auto done) { result = std::move(done); });
        for (std::uint64_t i = 0; i < 3 * epoch && executor_.step(); ++i) {
        }
        send_blocks(peer, epoch, every_second(static_cast<int>(epoch)));
        wait();
        ASSERT_TRUE(result && *result) << epoch;
        EXPECT_EQ((*result)->extents, 32U);
        EXPECT_EQ((*result)->equal_bytes, 32 * block_bytes);
    }
}

// It is answered when none is under way any more, whichever it is that fails.
TEST_F(CertifyReadsTest, AReadThatFailsAmongOthers) {
    Peer& peer = welcomed();
    send_blocks(peer, 1, every_second(1));
    for (std::uint64_t bad = 0; bad < 64; bad += 2) {
        disk().bad_block = bad;
        disk().most_reads_under_way = 0;
        std::optional<Result<CertifiedPoint>> result;
        std::uint64_t left = 0;
        life_->target.certify(1, false, [&](Result<CertifiedPoint> it) {
            left = disk().reads_under_way;
            result = std::move(it);
        });
        wait();
        ASSERT_TRUE(result && !*result) << bad;
        EXPECT_EQ(result->error().code, ErrorCode::io) << bad;
        EXPECT_EQ(left, 0U) << bad;
        EXPECT_EQ(disk().reads_under_way, 0U) << bad;
        EXPECT_GT(disk().most_reads_under_way, 1U) << bad;
    }
    disk().bad_block.reset();
    EXPECT_TRUE(certify(1).has_value());
    EXPECT_EQ(life_->target.status().state, TargetState::receiving);
}

TEST_F(CertifyReadsTest, AtAnyStepOverwrittenOrEndedWithTheDaemon) {
    Peer* peer = &welcomed();
    send_blocks(*peer, 1, every_second(1));
    std::uint64_t epoch = 1;
    for (std::uint64_t steps = 0; steps < 120; ++steps) {
        std::optional<Result<CertifiedPoint>> result;
        life_->target.certify(1, true, [&](auto done) { result = std::move(done); });
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        if (steps % 2 == 0) {
            restart();
            peer = &welcomed();
            continue;
        }
        ++epoch;
        send_blocks(*peer, epoch, every_second(static_cast<int>(epoch)));
        ASSERT_TRUE(result && *result) << steps;
        EXPECT_EQ((*result)->equal_bytes, 32 * block_bytes) << steps;
        EXPECT_EQ(disk().reads_under_way, 0U) << steps;
    }
}

TEST_F(CertifyReadsTest, AtAnyStepFailedOver) {
    Peer& peer = welcomed();
    send_blocks(peer, 1, every_second(1));
    send_blocks(peer, 2, every_second(2));
    std::uint64_t ended = 0;
    for (std::uint64_t steps = 0; steps < 120; ++steps) {
        std::optional<Result<CertifiedPoint>> result;
        life_->target.certify(1, true, [&](auto done) { result = std::move(done); });
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        ASSERT_TRUE(fail_over().has_value());
        ASSERT_TRUE(change_point(1).has_value());
        ASSERT_TRUE(result.has_value());
        if (*result) {
            EXPECT_EQ((*result)->equal_bytes, 32 * block_bytes) << steps;
        } else {
            ++ended;
        }
        life_->target.resume([](const Status&) {});
        wait();
        EXPECT_EQ(disk().reads_under_way, 0U) << steps;
    }
    EXPECT_GT(ended, 0U);
}

}  // namespace
}  // namespace ebb::core
