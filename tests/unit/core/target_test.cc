// SPDX-License-Identifier: Apache-2.0
// The target, and sources that do not behave.
#include "core/target.h"

#include "target_fixture.h"

namespace ebb::core {
namespace {

TEST_F(TargetTest, GarbageIsRefused) {
    for (const std::size_t size : {0, 1, 31, 32, 33, 500}) {
        Peer& peer = connect();
        peer.send_raw(env::Frame(size, std::byte{0x5a}));
        expect_refused(peer, ErrorCode::protocol);
    }
}

TEST_F(TargetTest, ALengthThatIsNotTheFramesIsRefused) {
    Peer& peer = connect();
    auto frame = format::encode(hello(), 0);
    frame.resize(frame.size() + 8);
    peer.send_raw(std::move(frame));
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, ADamagedHeaderIsRefused) {
    Peer& peer = connect();
    auto frame = format::encode(hello(), 0);
    frame[9] ^= std::byte{1};
    peer.send_raw(std::move(frame));
    expect_refused(peer, ErrorCode::digest);
}

TEST_F(TargetTest, TheFirstFrameIsHello) {
    Peer& peer = connect();
    peer.send(format::EpochBegin{1, id(2), true});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, HelloOnce) {
    Peer& peer = welcomed();
    peer.send(hello());
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, FramesOfATargetAreRefused) {
    for (int i = 0; i < 4; ++i) {
        Peer& peer = welcomed();
        if (i == 0) peer.send(format::Welcome{});
        if (i == 1) peer.send(format::Ack{1, 1, 1});
        if (i == 2) peer.send(format::EpochClosed{1});
        if (i == 3) peer.send(format::Notice{});
        expect_refused(peer, ErrorCode::protocol);
    }
}

TEST_F(TargetTest, NoVersionInCommon) {
    Peer& peer = connect();
    auto message = hello();
    message.version_min = format::protocol_version + 1;
    message.version_max = format::protocol_version + 2;
    peer.send(message);
    expect_refused(peer, ErrorCode::version);
}

TEST_F(TargetTest, ALaterSourceSpeaksTheVersionInCommon) {
    Peer& peer = connect();
    auto message = hello();
    message.version_max = format::protocol_version + 1;
    auto frame = format::encode(message, 0);
    frame.resize(frame.size() + 20, std::byte{9});
    format::seal_frame(frame, FrameType::hello, 0);
    peer.send_raw(std::move(frame));
    wait();
    const auto answer = peer.take(FrameType::welcome);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(format::decode_welcome(*answer)->version, format::protocol_version);
}

TEST_F(TargetTest, AnotherProtectionsSource) {
    Peer& peer = connect();
    auto message = hello();
    message.protection = id(8);
    peer.send(message);
    expect_refused(peer, ErrorCode::not_found);
}

TEST_F(TargetTest, OtherDisks) {
    for (int i = 0; i < 3; ++i) {
        Peer& peer = connect();
        auto message = hello();
        if (i == 0) message.disks.push_back({"more", disk_bytes});
        if (i == 1) message.disks[0].size += sector_bytes;
        if (i == 2) message.disks[0].stable_id = "other";
        peer.send(message);
        expect_refused(peer, ErrorCode::refused);
    }
}

TEST_F(TargetTest, AnOldSessionIsFencedAcrossRestarts) {
    Peer& newer = connect();
    auto message = hello();
    message.session = 9;
    newer.send(message);
    wait();
    ASSERT_TRUE(newer.take(FrameType::welcome).has_value());
    for (int i = 0; i < 2; ++i) {
        Peer& old = connect();
        message.session = 8;
        old.send(message);
        wait();
        EXPECT_EQ(old.refusal(), ErrorCode::fenced);
        life_.reset();
        disk_.power_cut(executor_.rng, faults_);
        volume_.power_cut(executor_.rng, faults_);
        start();
    }
}

TEST_F(TargetTest, AFrameIsMissing) {
    Peer& peer = welcomed();
    peer.skip_sequence();
    peer.send(format::EpochBegin{1, id(2), true});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, EpochsInOrder) {
    for (const std::uint64_t epoch : {2, 7}) {
        Peer& peer = welcomed();
        peer.send(format::EpochBegin{epoch, id(2), true});
        expect_refused(peer, ErrorCode::protocol);
    }
    Peer& peer = welcomed();
    close_epoch(peer, 1, 4);
    EXPECT_TRUE(peer.take(FrameType::epoch_closed).has_value());
    peer.send(format::EpochBegin{1, id(2), true});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, PassesInOrder) {
    Peer& early = welcomed();
    early.send(format::PassBegin{1, 1, format::PassKind::live, {}, 0});
    expect_refused(early, ErrorCode::protocol);
    Peer& peer = welcomed();
    begin(peer, 1, 1, format::PassKind::live);
    peer.send(format::PassBegin{1, 1, format::PassKind::live, {}, 0});
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, APassThatDidNotBeginDoesNotEnd) {
    Peer& peer = welcomed();
    begin(peer, 1, 1, format::PassKind::live);
    peer.send(format::PassEnd{1, 1, format::PassKind::frozen, 0, {}, {}, {}});
    expect_refused(peer, ErrorCode::protocol);
    EXPECT_FALSE(life_->target.status().has_point);
}

TEST_F(TargetTest, ExtentsOutOfOrderOrPlace) {
    for (int i = 0; i < 6; ++i) {
        Peer& peer = welcomed();
        begin(peer, 1, 1);
        auto extent = head(1, 0, 3, block(1));
        if (i == 0) extent.index = 1;
        if (i == 1) extent.pass = 2;
        if (i == 2) extent.disk = 1;
        if (i == 3) extent.offset = disk_bytes;
        if (i == 4) extent.offset = UINT64_MAX - block_bytes + 1;  // its end wraps
        if (i == 5) extent.offset = 100;
        peer.send_extent(extent, block(1));
        expect_refused(peer, ErrorCode::protocol);
    }
    EXPECT_TRUE(disk_.pending.empty());
}

TEST_F(TargetTest, SeveralExtentsInAFrame) {
    Peer& peer = welcomed();
    begin(peer, 1, 1);
    format::ExtentsWriter writer;
    format::ManifestChain chain;
    for (std::uint64_t i = 0; i < 5; ++i) {
        const auto content = block(static_cast<int>(i + 1));
        const auto extent = head(1, i, 2 * i, content);
        writer.add(extent, content, 0);
        chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        if (i % 2 == 0) peer.send_raw(writer.take(peer.next_sequence()));
    }
    const WallTime cut{executor_.now() + sim::wall_start};
    peer.send(format::PassEnd{1, 1, format::PassKind::frozen, 5, chain.value, cut, ""});
    wait();
    EXPECT_TRUE(peer.take(FrameType::epoch_closed).has_value());
    for (std::uint64_t i = 0; i < 5; ++i)
        EXPECT_EQ(disk_.durable[2 * i * block_bytes], static_cast<std::byte>(i + 1));
}

// Those before it have been received, and count when the source comes back.
TEST_F(TargetTest, ABadExtentAmongSeveral) {
    Peer& peer = welcomed();
    begin(peer, 1, 1);
    format::ExtentsWriter writer;
    for (std::uint64_t i = 0; i < 3; ++i) {
        auto extent = head(1, i, i, block(7));
        if (i == 2) extent.disk = 1;
        writer.add(extent, block(7), 0);
    }
    peer.send_raw(writer.take(peer.next_sequence()));
    expect_refused(peer, ErrorCode::protocol);
    format::Welcome there;
    (void)welcomed(&there);
    EXPECT_EQ(there.open.count, 2U);
}

TEST_F(TargetTest, SeveralExtentsInAFrameBeforeThatVersion) {
    Peer& peer = connect();
    auto message = hello();
    message.version_max = format::version_with_extents - 1;
    peer.send(message);
    wait();
    EXPECT_TRUE(peer.take(FrameType::welcome).has_value());
    begin(peer, 1, 1);
    format::ExtentsWriter writer;
    writer.add(head(1, 0, 0, block(7)), block(7), 0);
    peer.send_raw(writer.take(peer.next_sequence()));
    expect_refused(peer, ErrorCode::protocol);
}

TEST_F(TargetTest, AWrongDigestCostsTheConnectionAlone) {
    Peer& peer = welcomed();
    begin(peer, 1, 1);
    peer.send_extent(head(1, 0, 3, block(1)), block(1));
    peer.send_extent(head(1, 1, 4, block(2)), block(3));
    wait();
    EXPECT_EQ(peer.refusal(), ErrorCode::digest);
    format::Welcome again;
    (void)welcomed(&again);
    EXPECT_EQ(again.open.epoch, 1U);
    EXPECT_EQ(again.open.pass, 1U);
    EXPECT_EQ(again.open.count, 1U);
}

TEST_F(TargetTest, CompressedNonsense) {
    Peer& peer = welcomed();
    begin(peer, 1, 1);
    auto frame = format::encode(head(1, 0, 3, block(1)), block(1), 1, 3);
    ASSERT_EQ(frame[format::frame_header_bytes + 29], std::byte{1});  // codec
    frame.back() ^= std::byte{0xff};
    frame[frame.size() - 5] ^= std::byte{0xff};
    peer.send_raw(std::move(frame));
    expect_refused(peer, ErrorCode::digest);
}

TEST_F(TargetTest, AManifestThatDiffersClosesNothing) {
    Peer& peer = welcomed();
    begin(peer, 1, 1);
    peer.send_extent(head(1, 0, 3, block(1)), block(1));
    peer.send(format::PassEnd{1, 1, format::PassKind::frozen, 1, {}, {}, {}});
    expect_refused(peer, ErrorCode::digest);
    EXPECT_FALSE(life_->target.status().has_point);
}

TEST_F(TargetTest, WhatIsClosedIsThereAfterThePowerFailed) {
    close_epoch(welcomed(), 1, 4);
    Peer& peer = welcomed();
    begin(peer, 2, 1, format::PassKind::live);
    peer.send_extent(head(1, 0, 3, block(9)), block(9));
    wait();
    EXPECT_TRUE(peer.take(FrameType::ack).has_value());
    life_.reset();
    disk_.power_cut(executor_.rng, faults_);
    volume_.power_cut(executor_.rng, faults_);
    start();
    const auto points = life_->target.points();
    ASSERT_EQ(points.size(), 1U);
    EXPECT_EQ(points[0].name, "name");
    std::optional<Result<FailoverResult>> result;
    life_->target.failover(6, [&](Result<FailoverResult> done) { result = std::move(done); });
    wait();
    ASSERT_TRUE(result && *result);
    EXPECT_EQ((*result)->point.epoch, 1U);
    EXPECT_EQ((*result)->rolled_back_bytes, block_bytes);
    EXPECT_EQ(disk_.current[3 * block_bytes], std::byte{4});
}

// What is on the disks of an epoch is there still when it is begun again.
TEST_F(TargetTest, ThePassOfAnEpochThatIsBegunAgain) {
    close_epoch(welcomed(), 1, 4);
    Peer& peer = welcomed();
    begin(peer, 2, 1, format::PassKind::live);
    begin(peer, 2, 2, format::PassKind::live);
    peer.send_extent(head(2, 0, 3, block(9)), block(9));
    wait();
    EXPECT_TRUE(peer.take(FrameType::ack).has_value());
    peer.send(format::EpochBegin{2, id(3), true});
    wait();
    for (int life = 0; life < 2; ++life) {
        format::Welcome welcome;
        (void)welcomed(&welcome);
        EXPECT_EQ(welcome.open.epoch, 2U);
        EXPECT_EQ(welcome.open.pass, 2U);
        EXPECT_EQ(welcome.open.count, 0U);
        EXPECT_FALSE(life == 1 && welcome.open.resumable);
        peers_.clear();
        life_.reset();
        disk_.power_cut(executor_.rng, faults_);
        volume_.power_cut(executor_.rng, faults_);
        start();
    }
}

TEST_F(TargetTest, TheNewerConnectionTakesThePlaceOfTheOlder) {
    Peer& older = welcomed();
    begin(older, 1, 1);
    Peer& newer = connect();
    older.send_extent(head(1, 0, 3, block(1)), block(1));
    newer.send(hello());
    wait();
    EXPECT_TRUE(older.closed);
    const auto frame = newer.take(FrameType::welcome);
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(format::decode_welcome(*frame)->open.count, 0U);
}

TEST_F(TargetTest, NothingIsReceivedWhileFailedOver) {
    close_epoch(welcomed(), 1, 4);
    bool done = false;
    life_->target.failover(6, [&](const Result<FailoverResult>& result) { done = bool(result); });
    wait();
    ASSERT_TRUE(done);
    Peer& fenced = connect();
    fenced.send(hello());
    wait();
    EXPECT_EQ(fenced.refusal(), ErrorCode::fenced);
    Peer& peer = connect();
    auto message = hello();
    message.session = 6;
    peer.send(message);
    wait();
    EXPECT_EQ(peer.refusal(), ErrorCode::busy);
}

TEST_F(TargetTest, NoPointNoFailover) {
    std::optional<Result<FailoverResult>> result;
    life_->target.failover(6, [&](Result<FailoverResult> done) { result = std::move(done); });
    wait();
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->error().code, ErrorCode::not_found);
}

TEST_F(TargetTest, AFullVolumeIsNoticedAndWaitedFor) {
    close_epoch(welcomed(), 1, 4);
    Peer& peer = welcomed();
    volume_.capacity = volume_.used();
    close_epoch(peer, 2, 5);
    auto notice = peer.take(FrameType::notice);
    ASSERT_TRUE(notice.has_value());
    EXPECT_EQ(format::decode_notice(*notice)->code, ErrorCode::no_space);
    EXPECT_EQ(life_->target.status().state, TargetState::no_space);
    volume_.capacity = UINT64_MAX;
    test::run_for(executor_, 20 * a_second);
    notice = peer.take(FrameType::notice);
    ASSERT_TRUE(notice.has_value());
    EXPECT_TRUE(format::decode_notice(*notice)->clear);
    EXPECT_EQ(life_->target.status().newest.epoch, 2U);
}

// The source goes by what is said of the pass before.
TEST_F(TargetTest, ACutThatCouldNotBeginLeavesThePassBeforeIt) {
    close_epoch(welcomed(), 1, 4);
    Peer& peer = welcomed();
    begin(peer, 2, 1, format::PassKind::live);
    peer.send_extent(head(1, 0, 3, block(9)), block(9));
    wait();
    volume_.capacity = volume_.used();
    begin(peer, 2, 2);
    wait();
    ASSERT_EQ(life_->target.status().state, TargetState::no_space);
    format::Welcome message;
    (void)welcomed(&message);
    EXPECT_EQ(message.open.pass, 1U);
    EXPECT_EQ(message.open.run, hello().run);
    EXPECT_EQ(message.open.count, 1U);
    EXPECT_TRUE(message.open.resumable);
}

// Extents of a broken connection wait for room: who comes next is told, once it is known who it is.
TEST_F(TargetTest, AFullVolumeIsToldToWhoComesNext) {
    close_epoch(welcomed(), 1, 4);
    Peer& peer = welcomed();
    volume_.capacity = volume_.used() + 1000;
    begin(peer, 2, 1, format::PassKind::live);
    peer.send_extent(head(1, 0, 3, block(9)), block(9));
    wait();
    Peer& mute = connect();
    wait();
    EXPECT_TRUE(mute.received.empty());
    Peer& next = connect();
    next.send(hello());
    wait();
    EXPECT_TRUE(next.take(FrameType::notice).has_value());
    volume_.capacity = UINT64_MAX;
    test::run_for(executor_, 20 * a_second);
    EXPECT_TRUE(next.take(FrameType::welcome).has_value());
}

TEST_F(TargetTest, ForeignAndDamagedJournals) {
    close_epoch(welcomed(), 1, 4);
    life_.reset();
    config_.disks[0].target_id = "another";
    start();
    EXPECT_EQ(life_->opened->error().code, ErrorCode::refused);
    life_.reset();
    config_.disks[0].target_id = "target";
    for (const char* name : {"meta", "session"}) {
        sim::FileState& file = *volume_.find(name);
        file.current.back() ^= std::byte{1};
        start();
        EXPECT_EQ(life_->opened->error().code, ErrorCode::corrupt) << name;
        // What cannot be opened still answers.
        std::optional<Result<FailoverResult>> result;
        life_->target.failover(6, [&](Result<FailoverResult> done) { result = std::move(done); });
        wait();
        ASSERT_TRUE(result.has_value());
        EXPECT_EQ(result->error().code, ErrorCode::corrupt);
        life_.reset();
        file.current.back() ^= std::byte{1};
    }
    volume_.names.erase("meta");
    start();
    EXPECT_EQ(life_->opened->error().code, ErrorCode::corrupt);
}

// Every byte of an epoch that was acknowledged.
TEST_F(TargetTest, AnAcknowledgedEpochDoesNotVanishInSilence) {
    close_epoch(welcomed(), 1, 4);
    close_epoch(welcomed(), 2, 5);
    life_.reset();
    const std::string name = "epoch-0000000000000002.ebb";
    constexpr std::size_t seal_bytes = 128;
    const std::size_t size = volume_.find(name)->current.size() - seal_bytes;
    for (std::size_t at = 0; at < size; at += 1 + at % 13) {
        volume_.find(name)->current[at] ^= std::byte{16};
        start();
        const bool found = !*life_->opened && life_->opened->error().code == ErrorCode::corrupt;
        EXPECT_TRUE(found) << at;
        life_.reset();
        volume_.find(name)->current[at] ^= std::byte{16};
        ASSERT_EQ(volume_.find(name)->current.size(), size + seal_bytes) << at;
    }
}

}  // namespace
}  // namespace ebb::core
