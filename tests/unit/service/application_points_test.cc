// SPDX-License-Identifier: Apache-2.0
// Scripts, a freezer that is none, and the order in which they are asked.
#include "service/application_points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "platform/file_store.h"
#include "platform/write_gate.h"
#include "unit/platform/machine_of_files.h"

namespace ebb::service {
namespace {

using testing::HasSubstr;

constexpr Duration patience = std::chrono::seconds(120);

// Says into the same file as the scripts what it is asked.
class FakeFreezer final : public platform::Freezer {
public:
    FakeFreezer(std::string log, Status frozen, Status thawed)
        : log_(std::move(log)), frozen_(std::move(frozen)), thawed_(std::move(thawed)) {}
    ~FakeFreezer() override { say("gone"); }
    Status freeze() override {
        EXPECT_TRUE(platform::WriteGate::of_this_process().closed());
        say("freeze");
        return frozen_;
    }
    Status thaw() override {
        EXPECT_TRUE(platform::WriteGate::of_this_process().closed());
        say("thaw");
        return thawed_;
    }
    [[nodiscard]] std::vector<std::string> flushed() const override { return {"/boot/efi"}; }

private:
    void say(const char* what) { std::ofstream(log_, std::ios::app) << what << "\n"; }
    std::string log_;
    Status frozen_;
    Status thawed_;
};

class ApplicationPointsTest : public testing::Test, protected platform::MachineOfFiles {
protected:
    ApplicationPointsTest() {
        const auto device = disk("sda", "8:0", "naa.1");
        partition(device, "sda1", "8:1");
        mount("8:1", "/", "ext4", "/dev/sda1");
        write("proc/swaps", "Filename Type Size Used Priority\n");
        settings_.scripts = top_ / "consistency.d";
        std::filesystem::create_directories(settings_.scripts);
        surroundings_.run = top_ / "run";
        surroundings_.paths = host_.paths;
        surroundings_.open_freezer =
            [this](const platform::FreezerOptions& options,
                   const std::vector<platform::TrackedFilesystem>& filesystems)
            -> Result<std::unique_ptr<platform::Freezer>> {
            limit_ = options.limit;
            filesystems_ = filesystems.size();
            if (!opened_) return std::unexpected(opened_.error());
            return std::make_unique<FakeFreezer>(log(), frozen_, thawed_);
        };
    }
    ~ApplicationPointsTest() override { points_.reset(); }

    [[nodiscard]] std::string log() const { return top_ / "log"; }
    // What was done, in order.
    std::string said() {
        auto text = platform::read_file(log());
        if (!text) return "";
        std::string line = *text;
        for (char& c : line) c = c == '\n' ? ' ' : c;
        return line;
    }
    void script(const std::string& name, const std::string& more = "") {
        const auto path = settings_.scripts + "/" + name;
        std::ofstream(path) << "#!/bin/sh\necho " << name << "-$1$EBB_POINT_KIND >>" << log()
                            << "\n"
                            << more << "\n";
        ::chmod(path.c_str(), 0755);
    }
    void start() { points_ = std::make_unique<ApplicationPoints>(loop_, settings_, surroundings_); }
    // As core::Source does it; the status of what failed first.
    Status make(bool cut = true) {
        auto hooks = points_->begin({"p", "name", {"naa.1"}, {}});
        if (!hooks) return std::unexpected(hooks.error());
        std::optional<Status> status;
        hooks->before([&](Status s) { status = std::move(s); });
        EXPECT_TRUE(loop_.run_until([&] { return status.has_value(); }, patience));
        const bool still = status->has_value();
        if (still) {
            std::ofstream(log(), std::ios::app) << "cut\n";
            status.reset();
            hooks->after(cut, [&](Status s) { status = std::move(s); });
            EXPECT_TRUE(loop_.run_until([&] { return status.has_value(); }, patience));
        }
        EXPECT_FALSE(platform::WriteGate::of_this_process().closed());
        outcome_.reset();
        points_->end([&](Result<ApplicationPoints::Outcome> o) { outcome_ = std::move(*o); });
        EXPECT_TRUE(loop_.run_until([&] { return outcome_.has_value(); }, patience));
        EXPECT_FALSE(points_->busy());
        return *status;
    }
    std::string code(const Status& status) {
        return status ? "" : std::string(status.error().name());
    }
    bool owed() { return std::filesystem::exists(surroundings_.run + "/scripts"); }

    platform::EventLoop loop_;
    ApplicationSettings settings_;
    ApplicationSurroundings surroundings_;
    Status opened_, frozen_, thawed_;
    std::chrono::milliseconds limit_{0};
    std::size_t filesystems_ = 0;
    std::optional<ApplicationPoints::Outcome> outcome_;
    std::unique_ptr<ApplicationPoints> points_;
};

TEST_F(ApplicationPointsTest, EverythingInItsOrder) {
    script("10-a");
    script("20-b");
    start();
    EXPECT_EQ(code(make()), "");
    EXPECT_EQ(said(),
              "10-a-pre 20-b-pre freeze cut thaw gone 20-b-postapplication "
              "10-a-postapplication ");
    EXPECT_EQ(limit_, std::chrono::seconds(10));
    EXPECT_EQ(filesystems_, 1U);
    EXPECT_EQ(outcome_->flushed, std::vector<std::string>{"/boot/efi"});
    EXPECT_TRUE(outcome_->post);
    EXPECT_FALSE(owed());
}

TEST_F(ApplicationPointsTest, WithoutFilesystemsAndScriptsThereIsNothingToDo) {
    start();
    std::ofstream(top_ / "proc/self/mountinfo") << "";
    EXPECT_EQ(code(make()), "");
    EXPECT_EQ(said(), "cut ");
}

TEST_F(ApplicationPointsTest, AScriptThatFailsEndsItAndItsCallAfterwardsIsMade) {
    script("10-a");
    script("20-b", "test $1 = post");
    script("30-c");
    start();
    EXPECT_EQ(code(make()), "E_APP_SCRIPT");
    EXPECT_EQ(said(), "10-a-pre 20-b-pre 20-b-postcrash 10-a-postcrash ");
    EXPECT_FALSE(owed());
}

TEST_F(ApplicationPointsTest, AScriptThatHangsIsKilled) {
    settings_.script_limit = std::chrono::milliseconds(1500);
    script("10-a", "test $1 = post || sleep 1000");
    start();
    EXPECT_EQ(code(make()), "E_APP_SCRIPT");
    EXPECT_EQ(said(), "10-a-pre 10-a-postcrash ");
}

TEST_F(ApplicationPointsTest, ScriptsThatOthersMayChangeAreNotCalled) {
    script("10-a");
    ::chmod((settings_.scripts + "/10-a").c_str(), 0777);
    start();
    EXPECT_EQ(code(make()), "E_APP_SCRIPT_UNSAFE");
    EXPECT_EQ(said(), "");
}

TEST_F(ApplicationPointsTest, WhereTheWatchdogDoesNotStartNothingIsFrozen) {
    opened_ = fail("E_APP_FREEZER", ErrorCode::io, "no");
    script("10-a");
    start();
    EXPECT_EQ(code(make()), "E_APP_FREEZER");
    EXPECT_EQ(said(), "10-a-pre 10-a-postcrash ");
}

TEST_F(ApplicationPointsTest, WhatCannotBeFrozenIsLetGo) {
    frozen_ = fail("E_APP_FROZEN", ErrorCode::busy, "somebody else has");
    script("10-a");
    start();
    EXPECT_EQ(code(make()), "E_APP_FROZEN");
    EXPECT_EQ(said(), "10-a-pre freeze gone 10-a-postcrash ");
}

TEST_F(ApplicationPointsTest, ThawedTooEarly) {
    thawed_ = fail("E_APP_FREEZE_TIMEOUT", ErrorCode::timeout, "too slow");
    script("10-a");
    start();
    EXPECT_EQ(code(make()), "E_APP_FREEZE_TIMEOUT");
    EXPECT_EQ(said(), "10-a-pre freeze cut thaw gone 10-a-postcrash ");
}

TEST_F(ApplicationPointsTest, WhatFailsAfterTheCutIsToldAndTheOthersAreCalled) {
    script("10-a");
    script("20-b", "test $1 = pre");
    start();
    EXPECT_EQ(code(make()), "");
    EXPECT_EQ(code(outcome_->post), "E_APP_POST");
    EXPECT_THAT(outcome_->post.error().message, HasSubstr("20-b post failed"));
    EXPECT_THAT(said(), HasSubstr("20-b-postapplication 10-a-postapplication"));
}

TEST_F(ApplicationPointsTest, OneAtATime) {
    start();
    auto first = points_->begin({"p", "", {"naa.1"}, {}});
    ASSERT_TRUE(first);
    EXPECT_EQ(points_->begin({"q", "", {"naa.1"}, {}}).error().name(), "E_BUSY");
    // Never asked: its request was cancelled before.
    points_->end([](Result<ApplicationPoints::Outcome>) {});
    EXPECT_EQ(code(make()), "");
}

TEST_F(ApplicationPointsTest, AgainForTheSameRequestWhenTheCutWasVoid) {
    script("10-a");
    start();
    auto hooks = points_->begin({"p", "", {"naa.1"}, {}});
    ASSERT_TRUE(hooks);
    for (int i = 0; i < 2; ++i) {
        std::optional<Status> status;
        hooks->before([&](Status s) { status = std::move(s); });
        ASSERT_TRUE(loop_.run_until([&] { return status.has_value(); }, patience));
        status.reset();
        hooks->after(true, [&](Status s) { status = std::move(s); });
        ASSERT_TRUE(loop_.run_until([&] { return status.has_value(); }, patience));
    }
    bool ended = false;
    points_->end([&](Result<ApplicationPoints::Outcome>) { ended = true; });
    ASSERT_TRUE(loop_.run_until([&] { return ended; }, patience));
    EXPECT_EQ(said(),
              "10-a-pre freeze thaw gone 10-a-postapplication "
              "10-a-pre freeze thaw gone 10-a-postapplication ");
}

// Whoever ends in the middle leaves nothing at rest.
TEST_F(ApplicationPointsTest, TheDaemonEndsInTheMiddle) {
    script("10-a");
    start();
    auto hooks = points_->begin({"p", "", {"naa.1"}, {}});
    bool still = false;
    hooks->before([&](Status s) { still = s.has_value(); });
    ASSERT_TRUE(loop_.run_until([&] { return still; }, patience));
    EXPECT_TRUE(platform::WriteGate::of_this_process().closed());
    points_.reset();
    EXPECT_FALSE(platform::WriteGate::of_this_process().closed());
    EXPECT_EQ(said(), "10-a-pre freeze gone 10-a-postcrash ");
    EXPECT_FALSE(owed());
}

TEST_F(ApplicationPointsTest, TheDaemonEndsWhileAScriptRuns) {
    script("10-a", "test $1 = post || sleep 1000");
    start();
    auto hooks = points_->begin({"p", "", {"naa.1"}, {}});
    hooks->before([](Status) {});
    for (int i = 0; i < 12'000 && said() != "10-a-pre "; ++i) {
        loop_.poll();
        ::usleep(10'000);
    }
    points_.reset();
    EXPECT_EQ(said(), "10-a-pre 10-a-postcrash ");
}

TEST_F(ApplicationPointsTest, WhatAnEarlierRunOwesIsCalled) {
    script("10-a");
    script("20-b");
    platform::make_directories(surroundings_.run).value();
    ASSERT_TRUE(platform::replace_file(
        surroundings_.run + "/scripts",
        "p\n" + settings_.scripts + "/10-a\n" + settings_.scripts + "/20-b\n", 0600));
    start();
    points_->recover();
    ASSERT_TRUE(loop_.run_until([&] { return !points_->busy(); }, patience));
    EXPECT_EQ(said(), "20-b-postcrash 10-a-postcrash ");
    EXPECT_FALSE(owed());
}

}  // namespace
}  // namespace ebb::service
