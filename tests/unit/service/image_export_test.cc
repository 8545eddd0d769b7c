// SPDX-License-Identifier: Apache-2.0
// The copy of a cut's image: complete, or none, and never in the way of an older one.
#include "service/image_export.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

namespace ebb::service {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t size = (3 << 20) + 4096;
constexpr Duration patience = std::chrono::seconds(60);

// An image in which each block holds `content`, with a hole, and which may be unreadable from an
// offset on. What an export does not use fails.
class ImageTracker final : public env::Tracker {
public:
    explicit ImageTracker(platform::EventLoop& loop) : loop_(loop) {}
    int content = 7;
    std::uint64_t unreadable_from = size;

    void read(env::PassId, DiskIndex, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override {
        std::memset(into.data(), offset == 1 << 20 ? 0 : content, into.size());
        Status status;
        if (offset >= unreadable_from) status = fail(ErrorCode::stale, "the pass is void");
        loop_.post([done = std::move(done), status]() mutable { done(status); });
    }
    void incarnation(env::Callback<Uuid> done) override { done(no()); }
    void disks(env::Callback<std::vector<env::TrackedDisk>> done) override { done(no()); }
    void mark_all(DiskIndex, bool, env::StatusCallback done) override { done(no()); }
    void mark(DiskIndex, std::span<const Extent>, env::StatusCallback done) override { done(no()); }
    void begin_pass(env::PassKind, bool, std::optional<env::GateId>,
                    env::Callback<env::PassInfo> done) override {
        done(no());
    }
    void close_gate(Duration, env::Callback<env::GateId> done) override { done(no()); }
    void open_gate(env::GateId, env::Callback<env::GateReport> done) override { done(no()); }
    void get_pass(env::PassId, env::Callback<env::PassInfo> done) override { done(no()); }
    void pass_map(env::PassId, DiskIndex, std::uint64_t,
                  env::Callback<env::PassMap> done) override {
        done(no());
    }
    void read_disk(DiskIndex, std::uint64_t, std::span<std::byte>,
                   env::StatusCallback done) override {
        done(no());
    }
    void release(env::PassId, DiskIndex, std::span<const Extent>,
                 env::StatusCallback done) override {
        done(no());
    }
    void end_pass(env::PassId, env::StatusCallback done) override { done(no()); }
    void keep(const env::Cookie&, env::StatusCallback done) override { done(no()); }
    void leave_note(std::vector<std::byte>, env::StatusCallback done) override { done(no()); }
    void confirm(const env::Cookie&, env::StatusCallback done) override { done(no()); }
    void abandon(env::StatusCallback done) override { done(no()); }
    void on_event(std::move_only_function<void()>) override {}

private:
    static std::unexpected<Error> no() { return fail(ErrorCode::unsupported, "not here"); }
    platform::EventLoop& loop_;
};

class ImageExportTest : public testing::Test {
protected:
    ImageExportTest() : worker_(loop_, 1, "export"), tracker_(loop_) {
        std::string pattern = testing::TempDir() + "ebb-export-XXXXXX";
        folder_ = ::mkdtemp(pattern.data());
    }
    ~ImageExportTest() override { fs::remove_all(folder_); }

    Status run(std::uint64_t epoch) {
        auto job = std::make_shared<ImageExport>(
            tracker_, worker_, folder_.string(), "p",
            std::vector<core::SourceDisk>{{"naa.1", size}, {"naa.2", size}});
        std::optional<Status> result;
        job->start({1, epoch, {}}, [&](Status status) { result = std::move(status); });
        if (!loop_.run_until([&] { return result.has_value(); }, patience))
            return fail(ErrorCode::timeout, "no answer");
        return *result;
    }

    std::string text(const std::string& name) {
        std::ifstream in(folder_ / name, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    std::size_t files() {
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
    }

    platform::EventLoop loop_;
    platform::Worker worker_;
    ImageTracker tracker_;
    fs::path folder_;
};

TEST_F(ImageExportTest, HoldsEveryByteOfEachDisk) {
    ASSERT_TRUE(run(4));
    std::string image(size, 7);
    std::fill_n(image.begin() + (1 << 20), 1 << 20, 0);
    EXPECT_TRUE(text("p-0.raw") == image);
    EXPECT_TRUE(text("p-1.raw") == image);
    EXPECT_NE(text("p.json").find("\"epoch\":4"), std::string::npos) << text("p.json");
    EXPECT_EQ(files(), 3U);
}

TEST_F(ImageExportTest, AFailureLeavesTheOlderCopy) {
    ASSERT_TRUE(run(4));
    const auto older = text("p-1.raw");
    tracker_.content = 8;
    tracker_.unreadable_from = 2 << 20;
    ASSERT_FALSE(run(5));
    EXPECT_TRUE(text("p-0.raw") == older);
    EXPECT_TRUE(text("p-1.raw") == older);
    EXPECT_NE(text("p.json").find("\"epoch\":4"), std::string::npos);
    EXPECT_EQ(files(), 3U);
}

TEST_F(ImageExportTest, AFailureLeavesNothingOfItsOwn) {
    tracker_.unreadable_from = 0;
    ASSERT_FALSE(run(5));
    EXPECT_EQ(files(), 0U);
}

TEST_F(ImageExportTest, ReplacesTheOlderCopy) {
    ASSERT_TRUE(run(4));
    tracker_.content = 8;
    ASSERT_TRUE(run(5));
    EXPECT_EQ(text("p-0.raw")[0], 8);
    EXPECT_NE(text("p.json").find("\"epoch\":5"), std::string::npos);
}

TEST_F(ImageExportTest, FollowsNoLink) {
    std::ofstream(folder_ / "precious") << "precious";
    fs::create_symlink(folder_ / "precious", folder_ / "p-0.raw.partial");
    fs::create_symlink(folder_ / "precious", folder_ / "p-1.raw");
    ASSERT_TRUE(run(4));
    EXPECT_EQ(text("precious"), "precious");
    EXPECT_EQ(fs::file_size(folder_ / "p-1.raw"), size);
}

}  // namespace
}  // namespace ebb::service
