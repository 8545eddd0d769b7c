// SPDX-License-Identifier: Apache-2.0
#include "platform/directory_volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <random>

#include "submitted.h"

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

    Status wait_for(const std::function<void(env::StatusCallback)>& ask) {
        std::optional<Status> status;
        ask([&](Status result) { status = std::move(result); });
        if (!loop_.run_until([&] { return status.has_value(); }, std::chrono::minutes(1)))
            return fail(ErrorCode::timeout, "no answer");
        return *status;
    }
    Result<env::VolumeContent> read_once(DirectoryVolume& volume, const std::string& name,
                                         std::uint64_t offset, std::uint64_t length) {
        std::optional<Result<env::VolumeContent>> content;
        volume.read_once(name, offset, length, [&](auto result) { content = std::move(result); });
        if (!loop_.run_until([&] { return content.has_value(); }, std::chrono::minutes(1)))
            return fail(ErrorCode::timeout, "no answer");
        return std::move(*content);
    }
    std::unique_ptr<DirectoryVolume> volume() {
        auto opened = DirectoryVolume::open(loop_, top_ / "journal");
        EXPECT_TRUE(opened);
        return opened ? std::move(*opened) : nullptr;
    }
    static std::vector<std::byte> random_bytes(std::mt19937_64& random, std::size_t size) {
        std::vector<std::byte> bytes(size);
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
        return bytes;
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

// Long ones pass the cache by, and short ones do not; none begins or ends where a block does.
TEST_F(DirectoryVolumeTest, LongAndShortOnesInTurn) {
    const auto volume = this->volume();
    std::mt19937_64 random(1);
    std::vector<std::byte> expected;
    ASSERT_TRUE(wait_for([&](auto done) { volume->create("file", std::move(done)); }));
    for (int i = 0; i < 24; ++i) {
        const std::size_t most = i % 3 == 0 ? 5U << 20 : i % 3 == 1 ? 5000 : 1U << 20;
        const auto part = random_bytes(random, random() % most + (i % 3 == 0 ? 1U << 20 : 0));
        ASSERT_TRUE(wait_for([&](auto done) { volume->append("file", part, std::move(done)); }));
        expected.insert(expected.end(), part.begin(), part.end());
        if (i % 5 == 4) {
            expected.resize(expected.size() - random() % 10'000);
            ASSERT_TRUE(wait_for(
                [&](auto done) { volume->truncate("file", expected.size(), std::move(done)); }));
        }
        if (i % 4 == 0) {
            ASSERT_TRUE(wait_for([&](auto done) { volume->sync("file", "", std::move(done)); }));
        }
        const std::size_t at = random() % expected.size();
        std::vector<std::byte> read(random() % (expected.size() - at + 1));
        ASSERT_TRUE(wait_for([&](auto done) { volume->read("file", at, read, std::move(done)); }));
        ASSERT_TRUE(std::ranges::equal(read, std::span(expected).subspan(at, read.size()))) << i;
        // Past the cache however short it is: what the cache has of it counts.
        const std::size_t from = random() % expected.size();
        const std::size_t length =
            random() % (std::min<std::size_t>(expected.size() - from, 9000) + 1);
        const auto once = read_once(*volume, "file", from, length);
        ASSERT_TRUE(once);
        ASSERT_TRUE(std::ranges::equal(once->bytes(), std::span(expected).subspan(from, length)))
            << i;
    }
    std::vector<std::byte> all(expected.size());
    ASSERT_TRUE(wait_for([&](auto done) { volume->read("file", 0, all, std::move(done)); }));
    EXPECT_EQ(all, expected);
    all.resize(all.size() + 1);
    for (const std::size_t at : {std::size_t{0}, all.size() - 2}) {
        const auto status = wait_for([&](auto done) {
            volume->read("file", at, std::span(all).subspan(at), std::move(done));
        });
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::io);
    }
}

// As on a disk whose blocks are 4 KiB long, and on one that takes no direct reads.
TEST_F(DirectoryVolumeTest, ReadOnceWhateverMayBeReadDirectly) {
    const auto volume = this->volume();
    std::mt19937_64 random(4);
    const auto expected = random_bytes(random, 1'000'003);
    ASSERT_TRUE(wait_for([&](auto done) { volume->create("file", std::move(done)); }));
    ASSERT_TRUE(wait_for([&](auto done) { volume->append("file", expected, std::move(done)); }));
    ASSERT_TRUE(wait_for([&](auto done) { volume->sync("file", "", std::move(done)); }));
    for (const long alignment : {0L, 4096L, 1L << 40}) {
        test::submitted.reset();
        test::submitted.alignment = alignment;
        test::submitted.refusals = 3;  // so that some wait, however slowly they come
        // Many at once: more wait than are under way.
        constexpr std::size_t count = 600;
        std::size_t right = 0;
        std::size_t answered = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = i == 0 ? expected.size() - 1 : random() % expected.size();
            const std::size_t length = random() % std::min<std::size_t>(9000, expected.size() - at);
            const auto want = std::span(expected).subspan(at, length);
            volume->read_once("file", at, length,
                              [&, want](const Result<env::VolumeContent>& content) {
                                  ++answered;
                                  if (content && std::ranges::equal(content->bytes(), want))
                                      ++right;
                              });
        }
        EXPECT_TRUE(loop_.run_until([&] { return answered == count; }, std::chrono::minutes(1)));
        EXPECT_EQ(right, count) << alignment;
        EXPECT_GT(test::submitted.most_together, 1);
        const auto beyond = read_once(*volume, "file", expected.size() - 10, 11);
        ASSERT_FALSE(beyond);
        EXPECT_EQ(beyond.error().code, ErrorCode::io);
        const auto none = read_once(*volume, "other", 0, 1);
        ASSERT_FALSE(none);
        EXPECT_EQ(none.error().code, ErrorCode::not_found);
    }
    test::submitted.reset();
}

// More of them than files are kept open.
TEST_F(DirectoryVolumeTest, ManyAreReadWhileOneIsWritten) {
    const auto volume = this->volume();
    std::mt19937_64 random(2);
    constexpr std::size_t files = 50;
    std::vector<std::vector<std::byte>> contents;
    for (std::size_t i = 0; i < files; ++i) {
        const std::string name = "file-" + std::to_string(i);
        contents.push_back(random_bytes(random, 300'000 + i));
        ASSERT_TRUE(wait_for([&](auto done) { volume->create(name, std::move(done)); }));
        ASSERT_TRUE(
            wait_for([&](auto done) { volume->append(name, contents.back(), std::move(done)); }));
        if (i % 2 == 0) {
            ASSERT_TRUE(wait_for([&](auto done) { volume->sync(name, "", std::move(done)); }));
        }
    }
    ASSERT_TRUE(wait_for([&](auto done) { volume->create("last", std::move(done)); }));
    const auto last = random_bytes(random, 3'000'001);
    std::vector<std::vector<std::byte>> read;
    for (const auto& content : contents) read.emplace_back(content.size());
    std::size_t answers = 0;
    const auto answered = [&](const Status& status) {
        EXPECT_TRUE(status) << status.error().message;
        ++answers;
    };
    volume->append("last", last, answered);
    for (std::size_t i = 0; i < files; ++i)
        volume->read("file-" + std::to_string(i), 0, read[i], answered);
    volume->sync("last", "", answered);
    ASSERT_TRUE(loop_.run_until([&] { return answers == files + 2; }, std::chrono::minutes(1)));
    EXPECT_EQ(read, contents);
    std::vector<std::byte> again(last.size());
    ASSERT_TRUE(wait_for([&](auto done) { volume->read("last", 0, again, std::move(done)); }));
    EXPECT_EQ(again, last);
}

TEST_F(DirectoryVolumeTest, WhatIsGoneOrReplacedIsNotReadOnceMore) {
    const auto volume = this->volume();
    const std::vector<std::byte> a(10, std::byte{1}), b(10, std::byte{2});
    std::vector<std::byte> read(10);
    const auto read_of = [&](const char* name) {
        return wait_for([&](auto done) { volume->read(name, 0, read, std::move(done)); });
    };
    for (const auto& [name, content] : {std::pair("a", a), std::pair("b", b)}) {
        ASSERT_TRUE(wait_for([&](auto done) { volume->create(name, std::move(done)); }));
        ASSERT_TRUE(wait_for([&](auto done) { volume->append(name, content, std::move(done)); }));
        ASSERT_TRUE(read_of(name));
    }
    ASSERT_TRUE(wait_for([&](auto done) { volume->rename("b", "a", std::move(done)); }));
    ASSERT_TRUE(read_of("a"));
    EXPECT_EQ(read, b);
    EXPECT_EQ(read_of("b").error().code, ErrorCode::not_found);
    ASSERT_TRUE(wait_for([&](auto done) { volume->remove("a", std::move(done)); }));
    EXPECT_EQ(read_of("a").error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace ebb::platform
