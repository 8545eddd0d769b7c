// SPDX-License-Identifier: Apache-2.0
// From one point to another, points that are given up, and the proof of those that are kept.
#include <algorithm>
#include <map>
#include <set>

#include "target_fixture.h"

namespace ebb::core {
namespace {

class TargetPointsTest : public TargetTest {
protected:
    // Point n has n + 3 in block 3.
    void close_epochs(int count, const char* name = "") {
        Peer& peer = welcomed();
        for (int i = 1; i <= count; ++i)
            close_epoch(peer, static_cast<std::uint64_t>(i), i + 3, name);
    }
    int content() const { return std::to_integer<int>(disk_.current[3 * block_bytes]); }
    std::vector<std::uint64_t> epochs() const {
        std::vector<std::uint64_t> all;
        for (const Point& point : life_->target.points()) all.push_back(point.epoch);
        return all;
    }
    Result<Point> name_point(std::uint64_t epoch, const char* name) {
        return wait_for<Point>(
            [&](auto done) { life_->target.name_point(epoch, name, std::move(done)); });
    }
    std::string name_of(std::uint64_t epoch) const {
        for (const Point& point : life_->target.points())
            if (point.epoch == epoch) return point.name;
        return "there is no such point";
    }
    void power_cut() {
        life_.reset();
        disk_.power_cut(executor_.rng, faults_);
        volume_.power_cut(executor_.rng, faults_);
        start();
    }
    static constexpr const char* rewind_file = "rewind.ebb";
};

TEST_F(TargetPointsTest, ThereAndBack) {
    close_epochs(4);
    ASSERT_TRUE(fail_over().has_value());
    for (const std::uint64_t epoch : {2, 1, 3, 1, 4, 2}) {
        const auto moved = change_point(epoch);
        ASSERT_TRUE(moved.has_value()) << moved.error().message;
        EXPECT_EQ(moved->point.epoch, epoch);
        EXPECT_EQ(moved->rewound_bytes, block_bytes);
        EXPECT_EQ(content(), static_cast<int>(epoch) + 3);
        EXPECT_EQ(life_->target.status().point, epoch);
    }
    EXPECT_EQ(change_point(2)->rewound_bytes, 0U);
    power_cut();
    EXPECT_EQ(life_->target.status().point, 2U);
    EXPECT_EQ(content(), 5);
    EXPECT_EQ(fail_over()->point.epoch, 2U);
}

// Small epochs lie all over the disk: what lies together is read and written as one.
TEST_F(TargetPointsTest, NeighboursOfSeveralEpochsAreOneWrite) {
    Peer& peer = welcomed();
    send(peer, 1, 0, 32, 1);
    std::uint64_t epoch = 1;
    for (const std::uint64_t at : {14, 11, 13, 20, 12}) send(peer, ++epoch, at, 1, 7);
    ASSERT_TRUE(fail_over().has_value());
    const std::uint64_t before = disk_.writes;
    ASSERT_TRUE(change_point(1).has_value());
    EXPECT_EQ(disk_.writes - before, 2U);
    EXPECT_EQ(disk_.current, [] {
        Bytes all(disk_bytes);
        std::fill_n(all.begin(), 32 * block_bytes, std::byte{1});
        return all;
    }());
    ASSERT_TRUE(change_point(epoch).has_value());
    EXPECT_EQ(disk_.writes - before, 4U);
    for (const std::uint64_t at : {11, 12, 13, 14, 20})
        EXPECT_EQ(disk_.current[at * block_bytes], std::byte{7}) << at;
}

// Of the first point: 1; of the newest: a value of its own in each block.
class RewindTest : public TargetPointsTest {
protected:
    RewindTest() {
        config_.rewind_bytes = 2 * block_bytes;
        config_.rewind_slices = 3;
        config_.undo_compression = 0;  // what is saved can be found
        life_.reset();
        start();
    }
    static constexpr std::uint64_t blocks = disk_bytes / block_bytes;
    static int newest(std::uint64_t at) { return static_cast<int>(at) + 10; }
    void two_points() {
        Peer& peer = welcomed();
        send(peer, 1, 0, blocks, 1);
        begin(peer, 2, 1);
        format::ManifestChain chain;
        for (std::uint64_t at = 0; at < blocks; ++at) {
            const auto extent = head(1, at, at, block(newest(at)));
            peer.send_extent(extent, block(newest(at)));
            chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        }
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(format::PassEnd{2, 1, format::PassKind::frozen, blocks, chain.value, cut, ""});
        wait();
        ASSERT_TRUE(fail_over().has_value());
    }
    std::uint64_t overwritten() const {
        std::uint64_t count = 0;
        for (std::uint64_t at = 0; at < blocks; ++at)
            count += disk_.current[at * block_bytes] == std::byte{1} ? 1 : 0;
        return count;
    }
    // Whatever was overwritten would be there after a power cut now.
    bool is_kept() const {
        const auto file = volume_.names.find(rewind_file);
        for (std::uint64_t at = 0; at < blocks; ++at) {
            if (disk_.current[at * block_bytes] != std::byte{1}) continue;
            if (file == volume_.names.end()) return false;
            if (std::ranges::search(file->second->durable, block(newest(at))).empty()) return false;
        }
        return true;
    }
    Bytes content_of(std::uint64_t epoch) const {
        Bytes all(disk_bytes, std::byte{1});
        for (std::uint64_t at = 0; epoch == 2 && at < blocks; ++at)
            std::ranges::copy(block(newest(at)),
                              all.begin() + static_cast<std::ptrdiff_t>(at * block_bytes));
        return all;
    }
};

// Slices are on their way side by side: no more than may be in memory, each block once, and none
// is overwritten before what it has is durable.
TEST_F(RewindTest, SlicesSideBySideAreSavedBeforeTheyAreOverwritten) {
    two_points();
    const std::uint64_t writes = disk_.writes;
    const std::uint64_t reads = disk_.read_bytes;
    std::optional<Result<FailoverResult>> moved;
    life_->target.change_point(1, [&](auto done) { moved = std::move(done); });
    std::uint64_t ahead = 0;
    while (!moved && executor_.step()) {
        ASSERT_TRUE(is_kept());
        const std::uint64_t read = (disk_.read_bytes - reads) / block_bytes;
        ASSERT_GE(read, overwritten());
        ahead = std::max(ahead, read - overwritten());
    }
    ASSERT_TRUE(moved && moved->has_value());
    EXPECT_EQ(disk_.current, content_of(1));
    EXPECT_EQ(ahead, config_.rewind_slices * config_.rewind_bytes / block_bytes);
    EXPECT_EQ(disk_.read_bytes - reads, disk_bytes);
    EXPECT_EQ((disk_.writes - writes) * config_.rewind_bytes, disk_bytes);
    ASSERT_TRUE(change_point(2).has_value());
    EXPECT_EQ(disk_.current, content_of(2));
    EXPECT_EQ(disk_.read_bytes - reads, disk_bytes);
}

TEST_F(RewindTest, PowerFailsAnywhereInAMove) {
    two_points();
    life_.reset();
    const auto disk = disk_;
    const auto volume = volume_;
    bool whole = false;
    for (std::uint64_t steps = 0; !whole; steps += 1 + steps % 3) {
        disk_ = disk;
        volume_ = volume.copy();
        start();
        life_->target.change_point(1, [&](const auto&) { whole = true; });
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        power_cut();
        ASSERT_TRUE(life_->opened->has_value()) << life_->opened->error().message;
        EXPECT_EQ(disk_.current, content_of(life_->target.status().point)) << steps;
        ASSERT_TRUE(change_point(2).has_value());
        EXPECT_EQ(disk_.current, content_of(2)) << steps;
    }
}

// Room for some slices, not for all: nothing is left of it.
TEST_F(RewindTest, NoRoomInTheMiddle) {
    two_points();
    for (std::uint64_t room = 1; room < blocks; room += 3) {
        volume_.capacity = volume_.used() + room * block_bytes;
        volume_.overstated = 1 << 20;
        ASSERT_EQ(change_point(1).error().code, ErrorCode::no_space) << room;
        ASSERT_EQ(disk_.current, content_of(2)) << room;
    }
    volume_.capacity = UINT64_MAX;
    ASSERT_TRUE(change_point(1).has_value());
    EXPECT_EQ(disk_.current, content_of(1));
}

// Neighbours are read as one, over what is between them; that need not be readable.
TEST_F(TargetPointsTest, ABadBlockBetweenThoseThatAreWanted) {
    Peer& peer = welcomed();
    send(peer, 1, 0, 32, 1);
    send(peer, 2, 11, 1, 7);
    send(peer, 3, 13, 1, 7);
    ASSERT_TRUE(fail_over().has_value());
    const std::uint64_t before = disk_.read_bytes;
    ASSERT_TRUE(change_point(1).has_value());
    EXPECT_EQ(disk_.read_bytes - before, 3 * block_bytes);
    life_->target.resume([](const Status&) {});
    wait();
    ASSERT_TRUE(fail_over().has_value());
    life_->disk.bad_block = 12;
    ASSERT_TRUE(change_point(1).has_value());
    EXPECT_EQ(disk_.current[13 * block_bytes], std::byte{1});
    life_->target.resume([](const Status&) {});
    wait();
    ASSERT_TRUE(fail_over().has_value());
    life_->disk.bad_block = 13;
    EXPECT_EQ(change_point(1).error().code, ErrorCode::io);
}

// Undo that cannot be read ends a move when all that was asked of the disk is back, and no more of
// it is asked for at once than may be.
TEST_F(TargetPointsTest, NothingIsUnderWayAfterAnError) {
    config_.undo_compression = 0;  // what is kept can be found
    config_.io_depth = 3;
    life_.reset();
    start();
    Peer& peer = welcomed();
    send(peer, 1, 0, 64, 1);
    for (std::uint64_t at = 0; at < 64; at += 8) send(peer, 2 + at / 8, at, 1, 7);
    ASSERT_TRUE(fail_over().has_value());
    for (auto& [name, file] : volume_.names) {
        const auto kept = std::ranges::search(file->current, block(1));
        if (!kept.empty()) *kept.begin() ^= std::byte{1};
    }
    std::optional<Result<FailoverResult>> moved;
    life_->target.change_point(1, [&](auto done) { moved = std::move(done); });
    while (!moved && executor_.step()) {
    }
    ASSERT_EQ(moved->error().code, ErrorCode::corrupt);
    EXPECT_EQ(life_->disk.reads_under_way, 0U);
    EXPECT_EQ(life_->disk.most_reads_under_way, config_.io_depth);
}

TEST_F(TargetPointsTest, WhatItWouldCost) {
    close_epochs(4);
    ASSERT_TRUE(fail_over().has_value());
    const auto cost = [&](std::uint64_t epoch) {
        return wait_for<std::uint64_t>(
            [&](auto done) { life_->target.point_cost(epoch, std::move(done)); });
    };
    EXPECT_EQ(cost(1), block_bytes);
    EXPECT_EQ(cost(4), 0U);
    EXPECT_EQ(cost(9).error().code, ErrorCode::not_found);
}

TEST_F(TargetPointsTest, OnlyWhatIsThereAndOnlyWhenFailedOver) {
    close_epochs(2);
    EXPECT_EQ(change_point(1).error().code, ErrorCode::refused);
    ASSERT_TRUE(fail_over().has_value());
    EXPECT_EQ(change_point(3).error().code, ErrorCode::not_found);
    EXPECT_EQ(content(), 5);
    EXPECT_FALSE(volume_.names.contains(rewind_file));
}

TEST_F(TargetPointsTest, BackToReplicationByWayOfTheNewest) {
    close_epochs(3);
    ASSERT_TRUE(fail_over().has_value());
    ASSERT_TRUE(change_point(1).has_value());
    bool resumed = false;
    life_->target.resume([&](const Status& status) { resumed = status.has_value(); });
    wait();
    ASSERT_TRUE(resumed);
    EXPECT_EQ(content(), 6);
    EXPECT_FALSE(volume_.names.contains(rewind_file));
    EXPECT_EQ(life_->target.status().state, TargetState::waiting);
}

TEST_F(TargetPointsTest, NoRoomToKeepTheNewest) {
    close_epochs(3);
    ASSERT_TRUE(fail_over().has_value());
    volume_.capacity = volume_.used() + 300;
    EXPECT_EQ(change_point(1).error().code, ErrorCode::no_space);
    EXPECT_EQ(content(), 6);
    // It was thought to be there.
    volume_.overstated = 1 << 20;
    EXPECT_EQ(change_point(1).error().code, ErrorCode::no_space);
    EXPECT_EQ(content(), 6);
    power_cut();
    EXPECT_EQ(life_->target.status().point, 3U);
    volume_.capacity = UINT64_MAX;
    ASSERT_TRUE(change_point(1).has_value());
    EXPECT_EQ(content(), 4);
}

TEST_F(TargetPointsTest, ARewindFileWithoutAFailoverIsDamage) {
    close_epochs(2);
    ASSERT_TRUE(fail_over().has_value());
    ASSERT_TRUE(change_point(1).has_value());
    const auto file = volume_.names.at(rewind_file);
    life_->target.resume([](const Status&) {});
    wait();
    life_.reset();
    volume_.names[rewind_file] = file;
    start();
    EXPECT_EQ(life_->opened->error().code, ErrorCode::corrupt);
}

TEST_F(TargetPointsTest, PointsInTheMiddleAreMerged) {
    config_.retention.all_for = std::chrono::seconds(4);
    config_.retention.thinned_to = std::chrono::seconds(3);
    life_.reset();
    start();
    close_epochs(12);
    wait();
    const auto kept = epochs();
    EXPECT_LT(kept.size(), 12U);
    EXPECT_EQ(kept.back(), 12U);
    EXPECT_TRUE(verify().has_value());
    power_cut();
    EXPECT_EQ(epochs(), kept);
    ASSERT_TRUE(fail_over().has_value());
    for (const std::uint64_t epoch : kept) {
        ASSERT_TRUE(change_point(epoch).has_value());
        EXPECT_EQ(content(), static_cast<int>(epoch) + 3);
    }
}

TEST_F(TargetPointsTest, WhatIsLeftOfAMergeGoes) {
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(3);
    close_epochs(9);
    const auto before = volume_.copy();
    life_.reset();
    start();
    life_->target.trim([](const Status&) {});
    wait();
    const auto kept = epochs();
    ASSERT_LT(kept.size(), 9U);
    life_.reset();
    for (const auto& [name, file] : before.names) {
        const auto span = Journal::span_of(name);
        if (span && span->first >= kept.front()) volume_.names.emplace(name, file);
    }
    start();
    ASSERT_TRUE(life_->opened->has_value()) << life_->opened->error().message;
    EXPECT_EQ(epochs(), kept);
    EXPECT_TRUE(verify().has_value());
}

// A volume that fails once is asked again, and what it said is told until it has gone well.
TEST_F(TargetPointsTest, MergingGoesOnAfterAnError) {
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(3);
    close_epochs(9);
    life_.reset();
    start();
    life_->volume.failing_site = "merge-content";
    life_->target.trim([](const Status&) {});
    wait();
    const auto kept = epochs();
    EXPECT_TRUE(life_->target.status().has_error);
    life_->target.trim([](const Status&) {});
    wait();
    EXPECT_EQ(epochs(), kept);
    test::run_for(executor_, 61 * a_second);
    life_->target.trim([](const Status&) {});
    wait();
    EXPECT_LT(epochs().size(), kept.size());
    EXPECT_FALSE(life_->target.status().has_error);
    EXPECT_TRUE(verify().has_value());
}

// The name of the merged file was in the cache alone when the daemon died; so is it when the power
// fails.
TEST_F(TargetPointsTest, PartsOfAMergeGoAfterItsName) {
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(3);
    close_epochs(9);
    auto before = volume_.durable;
    life_.reset();
    start();
    life_->target.trim([](const Status&) {});
    wait();
    const auto kept = epochs();
    ASSERT_LT(kept.size(), 9U);
    life_.reset();
    std::uint64_t oldest = UINT64_MAX;
    for (const auto& [name, file] : volume_.names) {
        const auto span = Journal::span_of(name);
        if (span) oldest = std::min(oldest, span->first);
    }
    std::erase_if(before, [&](const auto& name) {
        const auto span = Journal::span_of(name.first);
        return span && span->first < oldest;
    });
    volume_.pending.clear();
    for (const auto& [name, file] : volume_.names) {
        const auto span = Journal::span_of(name);
        if (span && span->first != span->last) volume_.pending.push_back({"", name, file});
    }
    for (const auto& [name, file] : before) volume_.names.emplace(name, file);
    volume_.durable = before;
    for (int cut = 1; cut < 40; ++cut) {
        auto after = volume_.copy();
        sim::Executor executor(static_cast<std::uint64_t>(cut));
        sim::Life life(executor);
        sim::SimVolume view(life, after, faults_);
        Journal journal(view);
        format::MetaFile meta{config_.protection, {{"source", "target", disk_bytes}}};
        auto task = journal.open(meta, 5);
        task.start();
        for (int i = 0; i < cut && executor.step(); ++i) {
        }
        life.end();
        after.power_cut(executor.rng, faults_);
        const auto now = volume_;
        volume_ = after;
        start();
        EXPECT_TRUE(life_->opened->has_value()) << cut << ": " << life_->opened->error().message;
        life_.reset();
        volume_ = now;
    }
}

TEST_F(TargetPointsTest, PointsWithANameStay) {
    config_.retention.age = std::chrono::seconds(2);
    life_.reset();
    start();
    close_epochs(2, "before the upgrade");
    Peer& peer = welcomed();
    for (std::uint64_t epoch = 3; epoch <= 8; ++epoch) close_epoch(peer, epoch, 9, "");
    wait();
    const auto kept = epochs();
    ASSERT_GT(kept.size(), 2U);
    EXPECT_LT(kept.size(), 8U);
    EXPECT_EQ(kept[0], 1U);
    EXPECT_EQ(kept[1], 2U);
}

TEST_F(TargetPointsTest, ANameIsTakenOffAndGivenDurably) {
    close_epochs(3, "made");
    const auto unnamed = name_point(2, "");
    ASSERT_TRUE(unnamed.has_value()) << unnamed.error().message;
    EXPECT_EQ(unnamed->epoch, 2U);
    EXPECT_EQ(unnamed->name, "");
    EXPECT_EQ(name_point(3, "given")->name, "given");
    EXPECT_EQ(name_point(9, "nobody").error().code, ErrorCode::not_found);
    power_cut();
    EXPECT_EQ(name_of(1), "made");
    EXPECT_EQ(name_of(2), "");
    EXPECT_EQ(name_of(3), "given");
    EXPECT_TRUE(verify().has_value());
    // Also while failed over, and once more is no error.
    ASSERT_TRUE(fail_over().has_value());
    EXPECT_EQ(name_point(1, "")->name, "");
    EXPECT_EQ(name_point(1, "")->name, "");
    power_cut();
    EXPECT_EQ(name_of(1), "");
    EXPECT_EQ(content(), 6);
}

TEST_F(TargetPointsTest, WithoutItsNameAPointGoesAsOthersDo) {
    config_.retention.age = std::chrono::seconds(2);
    life_.reset();
    start();
    close_epochs(3, "kept");
    Peer& peer = welcomed();
    for (std::uint64_t epoch = 4; epoch <= 8; ++epoch) close_epoch(peer, epoch, 9, "");
    ASSERT_EQ(name_of(1), "kept");
    ASSERT_TRUE(name_point(7, "kept too").has_value());
    ASSERT_TRUE(name_point(2, "").has_value());
    ASSERT_TRUE(name_point(1, "").has_value());
    wait();
    for (std::uint64_t epoch = 9; epoch <= 14; ++epoch) close_epoch(peer, epoch, 9, "");
    wait();
    EXPECT_EQ(epochs().front(), 3U);
    EXPECT_EQ(name_of(7), "kept too");
    power_cut();
    EXPECT_EQ(name_of(3), "kept");
    EXPECT_EQ(name_of(7), "kept too");
    // Points that are gone are forgotten.
    const std::size_t before = volume_.find(Journal::names_name)->current.size();
    ASSERT_TRUE(name_point(7, "kept too").has_value());
    EXPECT_LT(volume_.find(Journal::names_name)->current.size(), before);
    EXPECT_TRUE(verify().has_value());
}

// Whatever lies across the end of a chapter, however many there are.
TEST_F(TargetPointsTest, MergedInChapters) {
    Peer& peer = welcomed();
    send(peer, 1, 0, disk_bytes / block_bytes, 1);
    std::map<std::uint64_t, Bytes> contents;
    for (std::uint64_t epoch = 2; epoch < 12; ++epoch) {
        send(peer, epoch, epoch * 3 % 7, 1 + epoch * 5 % 9, static_cast<int>(epoch));
        contents[epoch] = disk_.current;
    }
    life_.reset();
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(5);
    const auto disk = disk_;
    const auto volume = volume_;
    for (const std::uint64_t chapter : {1, 2, 3, 5, 1000}) {
        disk_ = disk;
        volume_ = volume;
        config_.merge_chapter_blocks = chapter;
        start();
        life_->target.trim([](const Status&) {});
        wait();
        ASSERT_LT(epochs().size(), 8U);
        EXPECT_TRUE(verify().has_value());
        ASSERT_TRUE(fail_over().has_value());
        for (const std::uint64_t epoch : epochs()) {
            if (epoch == 1) continue;
            ASSERT_TRUE(change_point(epoch).has_value());
            EXPECT_EQ(disk_.current, contents[epoch]) << chapter << " " << epoch;
        }
        life_.reset();
    }
}

// A merged file bears the name of its time; what is said of it later counts.
TEST_F(TargetPointsTest, AMergedPointBearsItsName) {
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(3);
    close_epochs(9);
    for (const std::uint64_t epoch : {4, 5, 6}) ASSERT_TRUE(name_point(epoch, "named").has_value());
    life_.reset();
    start();
    life_->target.trim([](const Status&) {});
    wait();
    const auto kept = epochs();
    ASSERT_LT(kept.size(), 9U);
    for (int i = 0; i < 2; ++i, power_cut()) {
        for (const std::uint64_t epoch : {4, 5, 6}) EXPECT_EQ(name_of(epoch), "named");
    }
    // Not all of them are the last of their period.
    for (const std::uint64_t epoch : {4, 5, 6}) ASSERT_TRUE(name_point(epoch, "").has_value());
    const auto left = epochs();
    EXPECT_LT(left.size(), kept.size());
    power_cut();
    EXPECT_EQ(epochs(), left);
    EXPECT_TRUE(verify().has_value());
}

// What is known of the points is shown while the journal cannot be opened to its end.
TEST_F(TargetPointsTest, ANameIsShownWhileTheVolumeIsBroken) {
    close_epochs(2);
    ASSERT_TRUE(name_point(1, "kept").has_value());
    Peer& peer = welcomed();
    begin(peer, 3, 1, format::PassKind::live);
    peer.send_extent(head(1, 0, 3, block(9)), block(9));
    wait();
    life_->volume.sync_errors_per_thousand = 1000;
    peer.send_extent(head(1, 1, 7, block(9)), block(9));
    wait();
    EXPECT_TRUE(life_->target.status().has_error);
    EXPECT_EQ(name_of(1), "kept");
}

// The points that have been found are shown, and with their names.
TEST_F(TargetPointsTest, NamesAreShownWhileTheJournalIsOpened) {
    close_epochs(6);
    for (std::uint64_t epoch = 1; epoch <= 6; ++epoch)
        ASSERT_TRUE(name_point(epoch, "kept").has_value());
    life_.reset();
    life_ = std::make_unique<Life>(*this, config_);
    std::set<std::size_t> seen;
    while (!life_->opened && executor_.step()) {
        seen.insert(epochs().size());
        for (const Point& point : life_->target.points()) EXPECT_EQ(point.name, "kept");
    }
    EXPECT_GT(seen.size(), 3U);
}

// What an administrator does when replication is paused.
TEST_F(TargetPointsTest, ANameTakenOffMakesRoomOnAFullVolume) {
    config_.reserve_bytes = 2'000;
    life_.reset();
    start();
    close_epochs(3, "kept");
    Peer& peer = welcomed();
    volume_.capacity = volume_.used() + config_.reserve_bytes + 600;
    close_epoch(peer, 4, 9, "");
    ASSERT_EQ(life_->target.status().state, TargetState::no_space);
    const auto unnamed = name_point(1, "");
    ASSERT_TRUE(unnamed.has_value()) << unnamed.error().message;
    test::run_for(executor_, config_.space_retry.count() + a_second);
    EXPECT_EQ(life_->target.status().newest.epoch, 4U);
    EXPECT_EQ(epochs().front(), 2U);
}

TEST_F(TargetPointsTest, AMarkOfACommonCutIsKept) {
    close_epochs(3);
    format::CommonCut common{id(9), {77}};
    const auto mark = [&](std::uint64_t epoch) {
        return wait_for<Point>(
            [&](auto done) { life_->target.mark_common(epoch, common, std::move(done)); });
    };
    ASSERT_TRUE(mark(2).has_value());
    ASSERT_TRUE(mark(2).has_value());
    EXPECT_EQ(mark(9).error().name(), "E_NO_POINT");
    power_cut();
    const auto points = life_->target.points();
    EXPECT_FALSE(points[0].common);
    EXPECT_EQ(points[1].common.value(), common);
    // Another one that it is said to be of.
    common.time.ns = 78;
    EXPECT_EQ(mark(2)->common.value().time.ns, 78);
    volume_.capacity = volume_.used();
    common.time.ns = 79;
    EXPECT_EQ(mark(2).error().code, ErrorCode::no_space);
    EXPECT_EQ(life_->target.points()[1].common.value().time.ns, 78);
    EXPECT_FALSE(life_->target.status().has_error);
}

// A merge that is about to give the point up does not do so after the answer.
TEST_F(TargetPointsTest, AMarkThatWasAnsweredKeepsItsPoint) {
    close_epochs(9);
    life_.reset();
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(3);
    const auto disk = disk_;
    const auto volume = volume_;
    std::uint64_t merging = 0, late = 0;
    for (std::uint64_t steps = 0; steps < 80; ++steps) {
        disk_ = disk;
        volume_ = volume.copy();
        start();
        life_->target.trim([](const Status&) {});
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        if (life_->target.status().merging) ++merging;
        const auto marked = wait_for<Point>(
            [&](auto done) { life_->target.mark_common(4, {id(9), {77}}, std::move(done)); });
        wait();
        EXPECT_LT(epochs().size(), 9U);
        EXPECT_FALSE(life_->target.status().merging);
        EXPECT_EQ(std::ranges::count(epochs(), 4U), marked ? 1 : 0) << steps;
        if (!marked) {
            EXPECT_EQ(marked.error().name(), "E_NO_POINT");
            ++late;
        }
        EXPECT_TRUE(verify().has_value());
        life_.reset();
    }
    EXPECT_GT(merging, 5U);
    EXPECT_GT(late, 0U);
}

TEST_F(TargetPointsTest, MarksThatAreDamagedAreFound) {
    close_epochs(2);
    ASSERT_TRUE(wait_for<Point>([&](auto done) {
                    life_->target.mark_common(1, {id(9), {77}}, std::move(done));
                }).has_value());
    life_.reset();
    volume_.find(Journal::common_name)->current[20] ^= std::byte{1};
    start();
    EXPECT_EQ(life_->opened->error().code, ErrorCode::corrupt);
}

TEST_F(TargetPointsTest, NoRoomForANameLeavesItAsItWas) {
    close_epochs(2, "made");
    ASSERT_TRUE(name_point(1, "first").has_value());
    volume_.capacity = volume_.used();
    EXPECT_EQ(name_point(1, "second").error().code, ErrorCode::no_space);
    EXPECT_EQ(name_of(1), "first");
    EXPECT_EQ(life_->target.status().state, TargetState::receiving);
    EXPECT_FALSE(life_->target.status().has_error);
    power_cut();
    EXPECT_EQ(name_of(1), "first");
}

TEST_F(TargetPointsTest, NamesThatAreDamagedAreFound) {
    close_epochs(2, "made");
    ASSERT_TRUE(name_point(1, "").has_value());
    life_.reset();
    volume_.find(Journal::names_name)->current[20] ^= std::byte{1};
    start();
    EXPECT_EQ(life_->opened->error().code, ErrorCode::corrupt);
}

// Whenever the power fails, it is the one name or the other.
TEST_F(TargetPointsTest, PowerFailsWhileAPointIsNamed) {
    close_epochs(2, "made");
    life_.reset();
    const auto state = volume_;
    std::set<std::string> seen;
    for (std::uint64_t steps = 0; steps < 60; ++steps) {
        volume_ = state.copy();
        start();
        std::optional<Result<Point>> named;
        life_->target.name_point(1, "given", [&](auto done) { named = std::move(done); });
        for (std::uint64_t i = 0; i < steps && executor_.step(); ++i) {
        }
        power_cut();
        ASSERT_TRUE(life_->opened->has_value()) << life_->opened->error().message;
        if (named) {
            EXPECT_EQ(name_of(1), "given") << steps;
        }
        seen.insert(name_of(1));
    }
    EXPECT_EQ(seen, (std::set<std::string>{"given", "made"}));
}

TEST_F(TargetPointsTest, OldUndoThatIsDamagedStopsMergingAndNothingElse) {
    close_epochs(9);
    const Bytes frame = {std::byte{0x28}, std::byte{0xb5}, std::byte{0x2f}, std::byte{0xfd}};
    for (std::uint64_t epoch = 2; epoch < 9; ++epoch) {
        sim::FileState& file = *volume_.find(Journal::file_name({epoch, epoch}));
        const auto found = std::ranges::search(file.current, frame);
        ASSERT_FALSE(found.empty());
        found.back() ^= std::byte{1};
    }
    config_.retention.all_for = std::chrono::seconds(1);
    config_.retention.thinned_to = std::chrono::seconds(3);
    life_.reset();
    start();
    life_->target.trim([](const Status&) {});
    wait();
    const auto status = life_->target.status();
    EXPECT_EQ(status.state, TargetState::waiting);
    ASSERT_TRUE(status.has_error);
    EXPECT_EQ(status.error.code, ErrorCode::corrupt);
    for (const auto& [name, content] : volume_.names) EXPECT_FALSE(name.ends_with(".new")) << name;
    close_epoch(welcomed(), 10, 7, "");
    EXPECT_EQ(life_->target.status().newest.epoch, 10U);
}

// Every byte of every file that is closed, but for the seal.
TEST_F(TargetPointsTest, VerifyFindsEveryDamage) {
    close_epochs(3);
    const auto sum = verify();
    ASSERT_TRUE(sum.has_value());
    EXPECT_EQ(sum->points, 3U);
    EXPECT_EQ(sum->files, 3U);
    constexpr std::size_t seal = 128;
    for (const char* name : {"epoch-0000000000000001.ebb", "epoch-0000000000000002.ebb"}) {
        const std::size_t size = volume_.find(name)->current.size() - seal;
        for (std::size_t at = 0; at < size; at += 1 + at % 11) {
            volume_.find(name)->current[at] ^= std::byte{2};
            EXPECT_EQ(verify().error().code, ErrorCode::corrupt) << name << " " << at;
            volume_.find(name)->current[at] ^= std::byte{2};
        }
    }
    EXPECT_TRUE(verify().has_value());
}

// Somebody has removed one: the newest is as much as any.
TEST_F(TargetPointsTest, VerifyFindsWhatIsMissing) {
    close_epochs(3);
    for (const char* name : {"epoch-0000000000000001.ebb", "epoch-0000000000000003.ebb"}) {
        const auto file = volume_.names.at(name);
        volume_.names.erase(name);
        const auto found = verify();
        ASSERT_FALSE(found.has_value());
        EXPECT_EQ(found.error().code, ErrorCode::corrupt);
        EXPECT_EQ(found.error().message, name + std::string(": is missing"));
        volume_.names[name] = file;
    }
    EXPECT_TRUE(verify().has_value());
}

// What is to be given up, and is not there, is given up.
TEST_F(TargetPointsTest, TheOldestIsGivenUpThoughItsFileIsGone) {
    config_.retention.bytes = 1;
    start();
    Peer& peer = welcomed();
    close_epoch(peer, 1, 4, "");
    volume_.names.erase("epoch-0000000000000001.ebb");
    close_epoch(peer, 2, 5, "");
    const auto status = life_->target.status();
    EXPECT_FALSE(status.has_error) << status.error.message;
    EXPECT_EQ(status.newest.epoch, 2U);
    EXPECT_EQ(life_->target.points().size(), 1U);
}

}  // namespace
}  // namespace ebb::core
