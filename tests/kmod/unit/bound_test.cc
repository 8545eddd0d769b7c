// SPDX-License-Identifier: Apache-2.0
// What may be in a map and no more; and what outlives the machine that is tested.
#include "model/bound.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "model/keep.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::uint64_t sectors = 64;  // 8 blocks

Maps of(std::initializer_list<std::uint64_t> blocks) {
    Maps maps{Blocks(sectors / sectors_of_block)};
    for (std::uint64_t b : blocks) maps[0][b] = true;
    return maps;
}

class BoundTest : public testing::Test {
protected:
    Bound bound_{{sectors}};
};

TEST_F(BoundTest, TakesWhatWasWrittenOrMarked) {
    bound_.mark(0, 2, 1);
    bound_.begin(of({5}), {10, 11}, false);
    EXPECT_TRUE(bound_.end(of({2, 5})).empty());
    EXPECT_EQ(bound_.since(0), 10U);
}

TEST_F(BoundTest, RefusesMore) {
    bound_.mark(0, 2, 1);
    bound_.begin(of({}), {10, 11}, false);
    EXPECT_EQ(bound_.end(of({2, 3})).size(), 1U);
}

TEST_F(BoundTest, ComesBackFromVoidPassesAndAbandonedEpochs) {
    bound_.mark(0, 1, 1);
    bound_.begin(of({}), {1, 2}, false);
    bound_.come_back();
    bound_.begin(of({}), {3, 4}, false);
    EXPECT_TRUE(bound_.end(of({1})).empty());
    bound_.abandon();
    bound_.begin(of({}), {5, 6}, false);
    EXPECT_TRUE(bound_.end(of({1})).empty());
    bound_.confirm();
    bound_.abandon();
    bound_.begin(of({}), {7, 8}, false);
    EXPECT_EQ(bound_.end(of({1})).size(), 1U);
}

TEST_F(BoundTest, KnowsAllThatASealMayHold) {
    bound_.mark(0, 0, 1);
    bound_.begin(of({}), {1, 2}, false);
    EXPECT_TRUE(bound_.end(of({0})).empty());
    bound_.mark(0, 1, 1);
    bound_.begin(of({}), {3, 4}, false);
    bound_.mark(0, 2, 1);
    EXPECT_EQ(bound_.all(0, of({3})[0]), of({0, 1, 2, 3})[0]);
}

class KeepTest : public testing::Test {
public:
    KeepTest(const KeepTest&) = delete;
    KeepTest& operator=(const KeepTest&) = delete;

protected:
    KeepTest() {
        std::string name = testing::TempDir() + "keepXXXXXX";
        folder_ = mkdtemp(name.data());
    }
    ~KeepTest() override { std::filesystem::remove_all(folder_); }

    // A disk: a file with one block of ones.
    int disk() {
        int fd = open((folder_ + "/disk").c_str(), O_RDWR | O_CREAT, 0600);
        std::vector<char> ones(sectors_of_block * sector_bytes, 1);
        EXPECT_EQ(ftruncate(fd, sectors * sector_bytes), 0);
        EXPECT_EQ(pwrite(fd, ones.data(), ones.size(), 3 * 4096), 4096);
        return fd;
    }

    std::string folder_;
};

TEST_F(KeepTest, FindsWhereReplicaAndDiskDiffer) {
    int fd = disk();
    Keep keep(folder_);
    ASSERT_TRUE(keep.open({sectors}));
    EXPECT_EQ(keep.differing(0, fd), of({3})[0]);
    std::vector<std::byte> ones(4096, std::byte{1});
    keep.put(0, 3, ones.data(), 1);
    EXPECT_EQ(keep.differing(0, fd), of({})[0]);
    keep.put(0, 5, ones.data(), 1);
    EXPECT_EQ(keep.differing(0, fd), of({5})[0]);
    keep.discard(0, 5);
    EXPECT_EQ(keep.differing(0, fd), of({})[0]);
    close(fd);
}

TEST_F(KeepTest, OutlivesItsOwner) {
    int fd = disk();
    {
        Keep keep(folder_);
        ASSERT_TRUE(keep.open({sectors}));
        keep.touch(0, 6, 2);
        keep.set_exact(of({4}));
        keep.set_tracked(0, Tracked::yes);
        keep.set_area(0, Area::in_use);
        EXPECT_EQ(keep.ask(), 1U);
        std::vector<std::byte> ones(4096, std::byte{1});
        keep.put(0, 3, ones.data(), 1);
        keep.discard(0, 1);
    }
    Keep keep(folder_);
    ASSERT_TRUE(keep.open({sectors}));
    EXPECT_EQ(keep.differing(0, fd), of({})[0]);
    EXPECT_TRUE(keep.is_touched(0, 0, 8));
    EXPECT_FALSE(keep.is_touched(0, 0, 6));
    EXPECT_TRUE(keep.is_exact() && keep.may_hold(0, 4) && !keep.may_hold(0, 5));
    EXPECT_EQ(keep.tracked(0), Tracked::yes);
    EXPECT_EQ(keep.area(0), Area::in_use);
    EXPECT_EQ(keep.asked(), 1U);
    EXPECT_EQ(keep.answered(), 0U);
    keep.all_cold();
    EXPECT_FALSE(keep.is_touched(0, 0, 8));
    close(fd);
}

}  // namespace
}  // namespace ebb::kmodmodel
