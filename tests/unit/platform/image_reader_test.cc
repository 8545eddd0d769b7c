// SPDX-License-Identifier: Apache-2.0
#include "platform/image_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/buffer.h"
#include "platform/file_descriptor.h"
#include "submitted.h"

namespace ebb::platform {

namespace {

using test::submitted;

constexpr std::size_t block = 4096;
constexpr std::size_t blocks = 64;

class ImageReaderTest : public testing::Test {
protected:
    void SetUp() override {
        submitted.reset();
        path_ = testing::TempDir() + "ebb_image_" + std::to_string(::getpid());
        Buffer content(blocks * block);
        for (std::size_t i = 0; i < blocks; ++i)
            std::memset(content.data() + i * block, static_cast<int>(i + 1), block);
        const FileDescriptor file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
        ASSERT_EQ(::pwrite(file.get(), content.data(), content.size(), 0),
                  static_cast<ssize_t>(content.size()));
        ASSERT_EQ(::fsync(file.get()), 0);
        file_ = FileDescriptor(::open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
        // A file system without direct I/O.
        if (!file_.valid()) file_ = FileDescriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
        ASSERT_TRUE(file_.valid());
        auto opened = ImageReader::open(loop_);
        ASSERT_TRUE(opened) << opened.error().message;
        reader_ = std::move(*opened);
    }
    void TearDown() override { std::filesystem::remove(path_); }

    // All blocks at once, each read's file by `file`.
    template <class File>
    void read_all(File file, std::size_t shift = 0) {
        for (std::size_t i = 0; i < blocks; ++i) {
            contents_.emplace_back(block + shift);
            statuses_.emplace_back();
        }
        for (std::size_t i = 0; i < blocks; ++i) {
            reader_->read(file(i), i * block, contents_[i].span().subspan(shift),
                          [this, i](Status status) {
                              statuses_[i] = std::move(status);
                              ++ended_;
                          });
        }
    }
    [[nodiscard]] bool all_ended() {
        return loop_.run_until([this] { return ended_ == blocks; }, std::chrono::seconds(60));
    }
    [[nodiscard]] bool is_read(std::size_t i, std::size_t shift = 0) {
        const auto content = contents_[i].span().subspan(shift);
        return statuses_[i].has_value() && std::ranges::all_of(content, [i](std::byte byte) {
                   return byte == static_cast<std::byte>(i + 1);
               });
    }

    std::string path_;
    FileDescriptor file_;
    EventLoop loop_;
    std::unique_ptr<ImageReader> reader_;
    std::vector<Buffer> contents_;
    std::vector<Status> statuses_;
    std::size_t ended_ = 0;
};

TEST_F(ImageReaderTest, MoreThanAreUnderWayAtOnce) {
    read_all([this](std::size_t) { return file_.get(); });
    ASSERT_TRUE(all_ended());
    for (std::size_t i = 0; i < blocks; ++i) EXPECT_TRUE(is_read(i)) << i;
}

// What is submitted together ends together, and stands between a write of the application and its
// sender.
TEST_F(ImageReaderTest, EachIsSubmittedByItself) {
    read_all([this](std::size_t) { return file_.get(); });
    ASSERT_TRUE(all_ended());
    EXPECT_EQ(submitted.most_together, 1);
}

TEST_F(ImageReaderTest, IntoMemoryThatIsNotAligned) {
    read_all([this](std::size_t) { return file_.get(); }, 8);
    ASSERT_TRUE(all_ended());
    for (std::size_t i = 0; i < blocks; ++i) EXPECT_TRUE(is_read(i, 8)) << i;
}

// Wherever in a batch they are: the others are read.
TEST_F(ImageReaderTest, ThoseThatAreRefusedAloneFail) {
    const auto refused = [](std::size_t i) { return i % 3 == 1 || i == blocks - 1; };
    read_all([&](std::size_t i) { return refused(i) ? -1 : file_.get(); });
    ASSERT_TRUE(all_ended());
    for (std::size_t i = 0; i < blocks; ++i) {
        EXPECT_EQ(is_read(i), !refused(i)) << i;
        EXPECT_EQ(statuses_[i].has_value(), !refused(i)) << i;
    }
}

TEST_F(ImageReaderTest, WhereBatchesAreTakenInPart) {
    submitted.take_at_most = 1;
    submitted.refusals = 20;
    read_all([this](std::size_t) { return file_.get(); });
    ASSERT_TRUE(all_ended());
    EXPECT_EQ(submitted.refusals, 0);
    for (std::size_t i = 0; i < blocks; ++i) EXPECT_TRUE(is_read(i)) << i;
}

TEST_F(ImageReaderTest, BeyondTheEndIsAnError) {
    Buffer content(2 * block);
    Status status;
    bool ended = false;
    reader_->read(file_.get(), (blocks - 1) * block, content.span(), [&](Status result) {
        status = std::move(result);
        ended = true;
    });
    ASSERT_TRUE(loop_.run_until([&] { return ended; }, std::chrono::seconds(60)));
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::io);
}

TEST_F(ImageReaderTest, ItsEndWaitsForWhatIsUnderWay) {
    for (int round = 0; round < 50; ++round) {
        ended_ = 0;
        contents_.clear();
        statuses_.clear();
        read_all([this](std::size_t) { return file_.get(); });
        loop_.poll();
        const std::size_t before = ended_;
        reader_.reset();
        loop_.poll();
        EXPECT_EQ(ended_, before);
        auto opened = ImageReader::open(loop_);
        ASSERT_TRUE(opened);
        reader_ = std::move(*opened);
    }
}

}  // namespace

}  // namespace ebb::platform
