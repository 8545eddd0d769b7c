// SPDX-License-Identifier: Apache-2.0
// The QEMU provider against real QEMU processes that run no guest.
#include "provider/qemu.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "provider/process.h"

namespace ebb::provider {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::chrono::milliseconds patience{20'000};

std::string read_head(const fs::path& image) {
    std::ifstream in(image);
    std::string text(5, '\0');
    in.read(text.data(), 5);
    return text;
}

class Qemu : public testing::Test {
protected:
    Qemu() {
        std::string pattern = "/tmp/ebb-qemu-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        std::ofstream(top_ / "disk.raw") << "first";
        fs::resize_file(top_ / "disk.raw", 1 << 20);
    }
    ~Qemu() override {
        if (provider_) (void)provider_->force_power_off("home");
        fs::remove_all(top_);
    }

    void make() {
        const std::string delta = (top_ / "delta/d0.qcow2").string();
        const Json node{{"driver", "qcow2"},
                        {"node-name", "d0"},
                        {"file", {{"driver", "file"}, {"filename", delta}}}};
        const Json machine{{"name", "home"},
                           {"qmp", (top_ / "qmp").string()},
                           {"pid_file", (top_ / "pid").string()},
                           {"delta_folder", (top_ / "delta").string()},
                           {"start",
                            {"qemu-system-x86_64",
                             "-nodefaults",
                             "-display",
                             "none",
                             "-machine",
                             "pc",
                             "-S",
                             "-accel",
                             "tcg",
                             "-m",
                             "16",
                             "-daemonize",
                             "-pidfile",
                             (top_ / "pid").string(),
                             "-qmp",
                             "unix:" + (top_ / "qmp").string() + ",server=on,wait=off",
                             "-device",
                             "lsi53c895a,id=lsi0",
                             "-blockdev",
                             node.dump(),
                             "-device",
                             "scsi-hd,id=dev-d0,drive=d0,bus=lsi0.0"}},
                           {"disks",
                            {{{"stable_id", "naa.1"},
                              {"node", "d0"},
                              {"format", "raw"},
                              {"file", (top_ / "disk.raw").string()},
                              {"device", {{"driver", "scsi-hd"}, {"bus", "lsi0.0"}}}}}}};
        auto machines = QemuProvider::parse({{"machines", {machine}}});
        ASSERT_TRUE(machines) << machines.error().message;
        provider_ = std::make_unique<QemuProvider>(std::move(*machines));
    }

    PowerState state() {
        auto state = provider_->power_state("home");
        EXPECT_TRUE(state) << state.error().message;
        return state.value_or(PowerState::off);
    }

    fs::path top_;
    std::unique_ptr<QemuProvider> provider_;
};

TEST_F(Qemu, PowersOnAndOff) {
    make();
    EXPECT_EQ(state(), PowerState::off);
    EXPECT_TRUE(provider_->force_power_off("home"));
    const auto started = provider_->start_on_delta("home");
    ASSERT_TRUE(started) << started.error().message;
    EXPECT_EQ(state(), PowerState::paused);  // -S
    EXPECT_EQ(provider_->start_on_delta("home").error().code, ErrorCode::busy);
    EXPECT_TRUE(provider_->ask_power_off("home"));
    EXPECT_TRUE(provider_->force_power_off("home"));
    EXPECT_EQ(state(), PowerState::off);
}

TEST_F(Qemu, PowersOnWhatIsOff) {
    make();
    ASSERT_TRUE(provider_->start_on_delta("home"));
    ASSERT_TRUE(provider_->power_on("home"));  // it runs
    ASSERT_TRUE(provider_->force_power_off("home"));
    const auto started = provider_->power_on("home");
    ASSERT_TRUE(started) << started.error().message;
    EXPECT_EQ(state(), PowerState::paused);
    EXPECT_TRUE(fs::exists(top_ / "delta/d0.qcow2"));  // its disks are as they were
}

TEST_F(Qemu, DetachesAndAttaches) {
    make();
    ASSERT_TRUE(provider_->start_on_delta("home"));
    for (int round = 0; round < 2; ++round) {
        const auto detached = provider_->detach_disk("home", "NAA.1");
        EXPECT_TRUE(detached) << detached.error().message;
    }
    for (int round = 0; round < 2; ++round) {
        const auto attached = provider_->attach_disk("home", "naa.1");
        EXPECT_TRUE(attached) << attached.error().message;
    }
    EXPECT_EQ(provider_->attach_disk("home", "naa.2").error().name(), "E_DISK_NOT_FOUND");
    EXPECT_TRUE(provider_->detach_disk("home", "naa.1"));
}

TEST_F(Qemu, CommitMergesTheDeltaAndDropForgetsIt) {
    make();
    ASSERT_TRUE(provider_->start_on_delta("home"));
    ASSERT_TRUE(provider_->force_power_off("home"));
    const auto delta = top_ / "delta/d0.qcow2";
    ASSERT_TRUE(run_program({"qemu-io", "-c", "write -P 65 0 4096", delta}, patience));
    EXPECT_EQ(read_head(top_ / "disk.raw"), "first");
    EXPECT_TRUE(provider_->drop_delta("home"));
    EXPECT_FALSE(fs::exists(delta));

    ASSERT_TRUE(provider_->start_on_delta("home"));
    // A guest's write, by QEMU's own means.
    auto qmp = Qmp::connect(top_ / "qmp", patience);
    ASSERT_TRUE(qmp);
    ASSERT_TRUE(qmp->run("human-monitor-command",
                         {{"command-line", "qemu-io -d dev-d0 \"write -P 66 0 4096\""}}));
    qmp = fail(ErrorCode::closed, "released");
    EXPECT_EQ(provider_->drop_delta("home").error().code, ErrorCode::busy);
    const auto committed = provider_->commit_delta("home");
    ASSERT_TRUE(committed) << committed.error().message;
    EXPECT_FALSE(fs::exists(delta));
    EXPECT_TRUE(provider_->commit_delta("home"));
    ASSERT_TRUE(provider_->force_power_off("home"));
    EXPECT_EQ(read_head(top_ / "disk.raw"), "BBBBB");
}

TEST_F(Qemu, SaysWhatIsWrong) {
    make();
    EXPECT_EQ(provider_->power_state("other").error().name(), "E_MACHINE_UNKNOWN");
    EXPECT_EQ(QemuProvider::parse({{"machines", {{{"name", "x"}}}}}).error().code,
              ErrorCode::invalid);
    EXPECT_EQ(QemuProvider::parse(Json::array()).error().code, ErrorCode::invalid);
    fs::remove(top_ / "disk.raw");
    const auto started = provider_->start_on_delta("home");
    ASSERT_FALSE(started);
    EXPECT_THAT(started.error().message, HasSubstr("qemu-img failed"));
}

// A daemon that was started holds no connection of ours open.
TEST(Process, InheritsNothing) {
    constexpr int high = 100;  // above whatever a shell and its commands open
    const int inherited = ::fcntl(STDERR_FILENO, F_DUPFD, high);
    ASSERT_GE(inherited, high);
    std::string pattern = "/tmp/ebb-process-XXXXXX";
    const fs::path top = ::mkdtemp(pattern.data());
    const auto list = (top / "fds").string();
    EXPECT_TRUE(run_program({"sh", "-c", "ls /proc/self/fd >" + list}, patience));
    std::ifstream in(list);
    int count = 0;
    for (int fd = 0; in >> fd; ++count) EXPECT_LT(fd, high);
    EXPECT_GE(count, 3);
    ::close(inherited);
    fs::remove_all(top);
}

TEST(Process, EndsOrIsEnded) {
    EXPECT_TRUE(run_program({"true"}, patience));
    EXPECT_EQ(run_program({"false"}, patience).error().code, ErrorCode::refused);
    EXPECT_EQ(run_program({"/no/such/program"}, patience).error().code, ErrorCode::io);
    EXPECT_EQ(run_program({"sleep", "60"}, std::chrono::milliseconds(50)).error().code,
              ErrorCode::timeout);
    EXPECT_THAT(run_program({"ls", "/no/such/file"}, patience).error().message,
                HasSubstr("No such file"));
}

TEST_F(Qemu, ATestMachineRunsAboveWhatIsOnlyRead) {
    make();
    const std::string image = (top_ / "disk.raw").string();
    const auto before = fs::last_write_time(image);
    ASSERT_TRUE(provider_->start_test("home", {{"naa.1", image}}));
    EXPECT_EQ(state(), PowerState::paused);
    EXPECT_TRUE(fs::exists(top_ / "delta/d0.qcow2"));
    EXPECT_EQ(provider_->start_test("home", {{"naa.1", image}}).error().code, ErrorCode::busy);
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(provider_->end_test("home"));
        EXPECT_EQ(state(), PowerState::off);
        EXPECT_FALSE(fs::exists(top_ / "delta/d0.qcow2"));
    }
    EXPECT_EQ(fs::last_write_time(image), before);
}

TEST_F(Qemu, ATestMachineHasTheDisksThatAreServed) {
    make();
    const std::string image = (top_ / "disk.raw").string();
    EXPECT_EQ(provider_->start_test("home", {}).error().name(), "E_DISK_NOT_FOUND");
    EXPECT_EQ(provider_->start_test("home", {{"naa.1", image}, {"naa.2", image}}).error().name(),
              "E_DISK_NOT_FOUND");
    EXPECT_EQ(state(), PowerState::off);
}

TEST(QemuNetwork, OfATestMachineReachesNobody) {
    const auto isolated = [](std::vector<std::string> words) {
        words.insert(words.begin(), "qemu-system-x86_64");
        return is_isolated(words);
    };
    EXPECT_TRUE(isolated({"-nodefaults"}));
    EXPECT_TRUE(isolated({"-nic", "none"}));
    EXPECT_TRUE(isolated({"-net", "none"}));
    EXPECT_TRUE(isolated({"-netdev", "user,id=n,restrict=on", "-device", "e1000,netdev=n"}));
    EXPECT_TRUE(isolated({"-nic", "user,restrict=on,hostfwd=tcp:127.0.0.1:1-:22"}));
    EXPECT_FALSE(isolated({}));  // QEMU adds one by itself
    EXPECT_FALSE(isolated({"-nodefaults", "-netdev", "user,id=n"}));
    EXPECT_FALSE(isolated({"-nodefaults", "--netdev", "tap,id=n,restrict=on"}));
    EXPECT_FALSE(isolated({"-nic", "bridge"}));
    EXPECT_FALSE(isolated({"-nic", "none", "-net", "nic"}));
    EXPECT_FALSE(isolated({"-nodefaults", "-netdev"}));
    EXPECT_FALSE(isolated({"-nic", "user,restrict=off"}));
}

}  // namespace
}  // namespace ebb::provider
