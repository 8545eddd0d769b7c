// SPDX-License-Identifier: Apache-2.0
#include "platform/directory_volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

namespace {

std::mutex synced_mutex;
std::vector<ino_t> synced;  // under synced_mutex: what fsync() was called for, in order

}  // namespace

// In the place of the C library's: what was made durable can be told by no other means.
extern "C" int fsync(int file) {
    struct stat info{};
    if (::fstat(file, &info) == 0) {
        const std::lock_guard lock(synced_mutex);
        synced.push_back(info.st_ino);
    }
    return static_cast<int>(::syscall(SYS_fsync, file));
}

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;

class DirectoryVolumeTest : public testing::Test {
protected:
    DirectoryVolumeTest() {
        std::string pattern = testing::TempDir() + "ebb-volume-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
    }
    ~DirectoryVolumeTest() override { fs::remove_all(top_); }

    static ino_t inode(const fs::path& path) {
        struct stat info{};
        return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
    }

    fs::path top_;
    EventLoop loop_;
};

TEST_F(DirectoryVolumeTest, ItsOwnNameIsDurable) {
    synced.clear();
    ASSERT_TRUE(DirectoryVolume::open(loop_, top_ / "journal"));
    EXPECT_THAT(synced, testing::Contains(inode(top_)));
    // The daemon that made it may have died before it synced.
    synced.clear();
    ASSERT_TRUE(DirectoryVolume::open(loop_, top_ / "journal"));
    EXPECT_THAT(synced, testing::Contains(inode(top_)));
}

TEST_F(DirectoryVolumeTest, OneDaemonAtATime) {
    auto first = DirectoryVolume::open(loop_, top_ / "journal");
    ASSERT_TRUE(first);
    const auto second = DirectoryVolume::open(loop_, top_ / "journal");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::busy);
    first->reset();
    EXPECT_TRUE(DirectoryVolume::open(loop_, top_ / "journal"));
}

}  // namespace
}  // namespace ebb::platform
