// SPDX-License-Identifier: Apache-2.0
// Certifying points that were merged: their file has the newest digests of its epochs.
#include <algorithm>
#include <map>

#include "core/journal.h"
#include "sim/journal_records.h"
#include "target_fixture.h"

namespace ebb::core {
namespace {

using format::ExtentKind;

struct Sent {
    std::uint64_t at = 0;  // blocks
    std::size_t blocks = 1;
    int value = 0;
    ExtentKind kind = ExtentKind::data;
};

class CertifyMergedTest : public TargetTest {
protected:
    // One epoch.
    void send_all(Peer& peer, std::uint64_t epoch, const std::vector<Sent>& all,
                  const char* name = "") {
        begin(peer, epoch, 1);
        format::ManifestChain chain;
        std::uint64_t index = 0;
        for (const Sent& sent : all) {
            const Bytes content(sent.blocks * block_bytes, static_cast<std::byte>(sent.value));
            auto extent = head(1, index++, sent.at, content);
            extent.kind = sent.kind;
            const bool has_content = sent.kind == ExtentKind::data;
            if (!has_content) extent.digest = {};
            peer.send_extent(extent, has_content ? content : Bytes());
            chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
        }
        const WallTime cut{executor_.now() + sim::wall_start};
        peer.send(
            format::PassEnd{epoch, 1, format::PassKind::frozen, index, chain.value, cut, name});
        wait();
    }
    // All points go that may: those without a name, but the newest and the one before it.
    void merge_all() {
        config_.retention.bytes = 1;
        restart();
        life_->target.trim([](const Status&) {});
        const auto is_new = [](const auto& file) { return file.first.ends_with(".new"); };
        do {
            wait();
        } while (std::ranges::any_of(volume_.names, is_new));
        config_.retention.bytes = 0;
        restart();
    }
    std::vector<std::uint64_t> epochs() const {
        std::vector<std::uint64_t> all;
        for (const Point& point : life_->target.points()) all.push_back(point.epoch);
        return all;
    }
    std::vector<format::ManifestEntry> extents_of(const EpochSpan& span) {
        std::vector<format::ManifestEntry> all;
        for (const auto& record :
             sim::records_of(volume_.find(Journal::file_name(span))->current)) {
            if (record.header.type != format::RecordType::manifest) continue;
            const auto manifest = format::decode_manifest_record(record.payload);
            all.insert(all.end(), manifest->extents.begin(), manifest->extents.end());
        }
        return all;
    }
    // As it was written before merged files had any.
    void without_manifests(const EpochSpan& span) {
        sim::FileState& file = *volume_.find(Journal::file_name(span));
        Bytes rest;
        std::uint64_t sequence = 0;
        std::optional<format::Sha256> chain;
        for (const auto& record : sim::records_of(file.current)) {
            if (!chain) chain = record.header.previous;
            if (record.header.type == format::RecordType::manifest) continue;
            auto bytes = format::blank_record(record.payload.size());
            bytes.insert(bytes.end(), record.payload.begin(), record.payload.end());
            format::seal_record(bytes, record.header.type, span.last, sequence++, 0, *chain);
            rest.insert(rest.end(), bytes.begin(), bytes.end());
        }
        file.current = file.durable = rest;
    }
    void expect(std::uint64_t epoch, std::uint64_t equal, std::uint64_t undigested) {
        const auto it = certify(epoch);
        ASSERT_TRUE(it.has_value()) << it.error().message;
        EXPECT_TRUE(it->merged);
        EXPECT_EQ(it->different_bytes, 0U);
        EXPECT_EQ(it->superseded_bytes, 0U);
        EXPECT_EQ(it->equal_bytes, equal * block_bytes);
        EXPECT_EQ(it->undigested_bytes, undigested * block_bytes);
    }
};

TEST_F(CertifyMergedTest, TheLastWordOnEachBlockIsReadBack) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 32, 1}}, "stays");
    send_all(peer, 2, {{0, 8, 2}});
    send_all(peer, 3, {{2, 1, 3}});  // a part of the one before
    send_all(peer, 4, {{10, 2, 4}});
    send_all(peer, 5, {{10, 2, 5}});  // all of it
    send_all(peer, 6, {{20, 3, 6}, {30, 1, 6}, {30, 1, 7}});
    send_all(peer, 7, {{40, 1, 7}});
    merge_all();
    ASSERT_EQ(epochs(), (std::vector<std::uint64_t>{1, 6, 7}));
    for (int i = 0; i < 2; ++i) {
        expect(6, 1 + 2 + 3 + 1, 7);
        EXPECT_TRUE(verify().has_value());
        restart();
    }
    EXPECT_EQ(certify(7)->equal_bytes, block_bytes);
    EXPECT_FALSE(certify(7)->merged);
    // Of the one before it nothing is left that was not written to.
    auto it = certify(6, true);
    EXPECT_EQ(it->equal_bytes, 7 * block_bytes);
    EXPECT_EQ(it->superseded_bytes, 32 * block_bytes);
    EXPECT_EQ(it->undigested_bytes, 7 * block_bytes);
}

TEST_F(CertifyMergedTest, WhatHasRottenIsSeen) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 32, 1}}, "stays");
    for (std::uint64_t epoch = 2; epoch < 6; ++epoch)
        send_all(peer, epoch, {{epoch * 2, 2, static_cast<int>(epoch)}});
    merge_all();
    expect(4, 6, 0);
    disk_.current[5 * block_bytes + 7] ^= std::byte{1};
    auto it = certify(4);
    EXPECT_EQ(it->different_bytes, 2 * block_bytes);
    EXPECT_EQ(it->equal_bytes, 4 * block_bytes);
    EXPECT_EQ(certify(5)->different_bytes, 0U);
    EXPECT_EQ(certify(5, true)->different_bytes, 2 * block_bytes);
    // Kept as it was, when it is overwritten.
    Peer& next = welcomed();
    send_all(next, 6, {{4, 4, 9}});
    it = certify(4);
    EXPECT_EQ(it->different_bytes, 2 * block_bytes);
    EXPECT_EQ(it->equal_bytes, 4 * block_bytes);
    EXPECT_EQ(it->journal_bytes, 2 * block_bytes);
    // And a digest in the file itself.
    sim::FileState& file = *volume_.find(Journal::file_name({2, 4}));
    const auto records = sim::records_of(file.current);
    const auto manifest = std::ranges::find(records, format::RecordType::manifest,
                                            [](const auto& record) { return record.header.type; });
    ASSERT_NE(manifest, records.end());
    file.current[manifest->end() - format::record_trailer_bytes - 1] ^= std::byte{1};
    EXPECT_EQ(certify(4).error().code, ErrorCode::corrupt);
    EXPECT_EQ(verify().error().code, ErrorCode::corrupt);
}

// What has no digest of the whole is as good in parts.
TEST_F(CertifyMergedTest, KindsThatCanBeDividedAre) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 64, 1}}, "stays");
    send_all(peer, 2, {{0, 8, 0, ExtentKind::zero}});
    send_all(peer, 3, {{10, 4, 0, ExtentKind::discard}, {20, 4, 0, ExtentKind::unreadable}});
    send_all(peer, 4, {{2, 2, 4}, {11, 1, 4}, {21, 1, 4}, {40, 4, 1}});
    send_all(peer, 5, {{43, 2, 5}});
    send_all(peer, 6, {{63, 1, 6}});
    merge_all();
    const auto it = certify(5);
    ASSERT_TRUE(it.has_value()) << it.error().message;
    EXPECT_EQ(it->different_bytes, 0U);
    EXPECT_EQ(it->equal_bytes, (6 + 4 + 2) * block_bytes);
    EXPECT_EQ(it->discarded_bytes, 3 * block_bytes);
    EXPECT_EQ(it->unreadable_bytes, 3 * block_bytes);
    EXPECT_EQ(it->undigested_bytes, 0U);  // 40 to 42 have not changed
    // The first point's extent is not the last word, where something could not be read either.
    EXPECT_EQ(certify(5, true)->superseded_bytes, 64 * block_bytes);
}

// Whatever lies across the end of a chapter is there once.
TEST_F(CertifyMergedTest, InChapters) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 64, 1}}, "stays");
    std::map<std::uint64_t, std::uint64_t> owner;  // of a block: extent
    std::map<std::uint64_t, std::size_t> size;
    for (std::uint64_t epoch = 2; epoch < 30; ++epoch) {
        const Sent sent{epoch * 7 % 53, 1 + epoch * 5 % 9, static_cast<int>(epoch)};
        send_all(peer, epoch, {sent});
        if (epoch == 29) break;
        size[epoch] = sent.blocks;
        for (std::uint64_t at = sent.at; at < sent.at + sent.blocks; ++at) owner[at] = epoch;
    }
    std::uint64_t equal = 0;
    for (const auto& [epoch, blocks] : size) {
        const auto own =
            std::ranges::count(owner, epoch, [](const auto& one) { return one.second; });
        if (static_cast<std::size_t>(own) == blocks) equal += blocks;
    }
    ASSERT_GT(equal, 10U);
    life_.reset();
    const auto disk = disk_;
    const auto volume = volume_;
    for (const std::uint64_t chapter : {1, 2, 3, 5, 8, 1000}) {
        disk_ = disk;
        volume_ = volume;
        config_.merge_chapter_blocks = chapter;
        config_.batch_bytes = chapter == 5 ? 100 : 16ULL << 20;  // several records
        start();
        merge_all();
        SCOPED_TRACE(chapter);
        ASSERT_EQ(epochs().size(), 3U);
        expect(28, equal, owner.size() - equal);
        auto extents = extents_of({2, 28});
        std::ranges::sort(extents, {}, &format::ManifestEntry::offset);
        for (std::size_t i = 1; i < extents.size(); ++i)
            EXPECT_LE(extents[i - 1].end(), extents[i].offset);
    }
}

TEST_F(CertifyMergedTest, MergedOnceMore) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 32, 1}}, "stays");
    send_all(peer, 2, {{0, 8, 2}}, "for now");
    send_all(peer, 3, {{4, 4, 3}});
    send_all(peer, 4, {{5, 1, 4}, {20, 2, 4}});
    send_all(peer, 5, {{50, 1, 5}});
    merge_all();
    expect(4, 3, 3);
    ASSERT_EQ(epochs(), (std::vector<std::uint64_t>{1, 2, 4, 5}));
    EXPECT_TRUE(wait_for<Point>([&](auto done) {
                    life_->target.name_point(2, "", std::move(done));
                }).has_value());
    merge_all();
    ASSERT_EQ(epochs(), (std::vector<std::uint64_t>{1, 4, 5}));
    // The first file's extent was written to by one of whose digest nothing is left.
    expect(4, 3, 7);
}

// What these have written is known from their undo alone.
TEST_F(CertifyMergedTest, FilesWithoutManifests) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 32, 1}}, "stays");
    send_all(peer, 2, {{0, 8, 2}, {16, 4, 2}}, "for now");
    send_all(peer, 3, {{4, 1, 3}});
    send_all(peer, 4, {{20, 2, 4}});
    send_all(peer, 5, {{24, 1, 5}});
    merge_all();
    ASSERT_EQ(epochs(), (std::vector<std::uint64_t>{1, 2, 4, 5}));
    life_.reset();
    without_manifests({3, 4});
    restart();
    EXPECT_TRUE(verify().has_value());
    expect(4, 0, 3);
    auto it = certify(4, true);
    EXPECT_EQ(it->different_bytes, 0U);
    EXPECT_EQ(it->equal_bytes, 4 * block_bytes);
    EXPECT_EQ(it->undigested_bytes, 3 * block_bytes);
    EXPECT_TRUE(wait_for<Point>([&](auto done) {
                    life_->target.name_point(2, "", std::move(done));
                }).has_value());
    Peer& next = welcomed();
    send_all(next, 6, {{60, 1, 6}});
    merge_all();
    ASSERT_EQ(epochs(), (std::vector<std::uint64_t>{1, 5, 6}));
    expect(5, 4 + 1, 8 + 2);
    EXPECT_EQ(certify(6, true)->different_bytes, 0U);
}

TEST_F(CertifyMergedTest, ADamagedManifestIsNotMerged) {
    Peer& peer = welcomed();
    send_all(peer, 1, {{0, 32, 1}}, "stays");
    for (std::uint64_t epoch = 2; epoch < 6; ++epoch) send_all(peer, epoch, {{epoch, 1, 9}});
    config_.retention.bytes = 1;
    restart();
    sim::FileState& file = *volume_.find(Journal::file_name({3, 3}));
    for (const auto& record : sim::records_of(file.current)) {
        if (record.header.type == format::RecordType::manifest)
            file.current[record.at + format::record_header_bytes] ^= std::byte{1};
    }
    life_->target.trim([](const Status&) {});
    wait();
    EXPECT_EQ(epochs().size(), 5U);
    EXPECT_EQ(life_->target.status().error.code, ErrorCode::corrupt);
    EXPECT_FALSE(volume_.names.contains(Journal::file_name({2, 4}) + ".new"));
}

}  // namespace
}  // namespace ebb::core
