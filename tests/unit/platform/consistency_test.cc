// SPDX-License-Identifier: Apache-2.0
// Which filesystems lie on which disks, the record of what is frozen, scripts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "platform/file_store.h"
#include "platform/freeze_record.h"
#include "platform/hook_scripts.h"
#include "platform/tracked_filesystems.h"
#include "platform/write_gate.h"
#include "unit/platform/machine_of_files.h"

namespace ebb::platform {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TrackedFilesystems : public testing::Test, protected MachineOfFiles {
protected:
    TrackedFilesystems() {
        one_ = disk("sda", "8:0", "naa.1");
        partition(one_, "sda1", "8:1");
        two_ = disk("sdb", "8:16", "naa.2");
        three_ = disk("sdc", "8:32", "naa.3");
    }
    std::vector<std::string> points(const std::set<std::string>& ids) {
        write("proc/swaps", "Filename Type Size Used Priority\n");
        auto table = BlockTable::load(host_.paths);
        EXPECT_TRUE(table);
        auto found = tracked_filesystems(*table, ids);
        if (!found) return {std::string(found.error().name())};
        std::vector<std::string> names;
        for (const auto& one : *found) names.push_back(one.point);
        return names;
    }
    Path one_, two_, three_;
};

TEST_F(TrackedFilesystems, ThoseMountedLastComeFirst) {
    mount("8:1", "/", "ext4", "/dev/sda1");
    mount("8:16", "/data", "xfs", "/dev/sdb");
    mount("0:30", "/proc", "proc", "proc");
    EXPECT_THAT(points({"NAA.1", "naa.2"}), ElementsAre("/data", "/"));
    EXPECT_THAT(points({"naa.1"}), ElementsAre("/"));
    EXPECT_THAT(points({"naa.3"}), IsEmpty());
}

TEST_F(TrackedFilesystems, ThroughDeviceMapperAndMd) {
    mapped("dm-0", "253:0", "vg-lower", one_ / "sda1");
    mapped("dm-1", "253:1", "vg-upper", "sys/devices/virtual/block/dm-0");
    mapped("md0", "9:0", "", two_);
    mount("253:1", "/deep", "ext4", "/dev/mapper/vg-upper");
    mount("9:0", "/mirror", "ext4", "/dev/md0");
    mount("8:32", "/other", "ext4", "/dev/sdc");
    EXPECT_THAT(points({"naa.1", "naa.2"}), ElementsAre("/mirror", "/deep"));
}

TEST_F(TrackedFilesystems, OneOfSeveralDevicesNamesOnlyOne) {
    write("sys/fs/btrfs/1234-5678/devices/sdb", "");
    write("sys/fs/btrfs/1234-5678/devices/sdc", "");
    mount("0:44", "/pool", "btrfs", "/dev/sdc");
    EXPECT_THAT(points({"naa.2"}), ElementsAre("/pool"));
    EXPECT_THAT(points({"naa.1"}), IsEmpty());
}

TEST_F(TrackedFilesystems, EachOnceAndNoneThatIsReadOnly) {
    mount("8:1", "/a", "ext4", "/dev/sda1");
    mount("8:1", "/b", "ext4", "/dev/sda1");
    mount("8:16", "/ro", "ext4", "/dev/sdb", "ro");
    EXPECT_THAT(points({"naa.1", "naa.2"}), ElementsAre("/b"));
    // Read-only at one place, and written to at another.
    mount("8:16", "/rw", "ext4", "/dev/sdb");
    EXPECT_THAT(points({"naa.2"}), ElementsAre("/rw"));
}

TEST_F(TrackedFilesystems, OneThatNoPathLeadsToIsNamed) {
    mount("8:1", "/data", "ext4", "/dev/sda1");
    mount("8:16", "/data", "xfs", "/dev/sdb");
    EXPECT_THAT(points({"naa.2"}), ElementsAre("/data"));
    EXPECT_THAT(points({"naa.1"}), ElementsAre("E_APP_HIDDEN"));
    mount("8:1", "/again", "ext4", "/dev/sda1");
    EXPECT_THAT(points({"naa.1"}), ElementsAre("/again"));
}

class FreezeRecord : public testing::Test {
protected:
    FreezeRecord() {
        std::string pattern = testing::TempDir() + "ebb-record-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        thawed.clear();
        answer = 0;
    }
    ~FreezeRecord() override { std::filesystem::remove_all(top_); }
    static int thaw(int fd) {
        char path[256];
        const auto size = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, 255);
        thawed.emplace_back(path, static_cast<std::size_t>(size));
        return answer;
    }
    static int no_freeze(int) { return EINVAL; }
    std::string place(const std::string& name) {
        std::filesystem::create_directories(top_ + "/" + name);
        return top_ + "/" + name;
    }
    const FreezeCalls calls_{no_freeze, thaw};
    std::string top_;
    static inline std::vector<std::string> thawed;
    static inline int answer = 0;
};

TEST_F(FreezeRecord, WhatIsWrittenIsRead) {
    const std::vector<RecordedFilesystem> all{
        {'f', "8:1", "/"}, {'.', "0:44", "/a b\\c\nd"}, {'i', "253:0", "/x"}};
    EXPECT_EQ(parse_freeze_record(freeze_record_text(all)), all);
    EXPECT_THAT(parse_freeze_record("\n\nf\nf 8:1\nnonsense\n"), IsEmpty());
    EXPECT_EQ(parse_freeze_record("f 8:1 /unended").size(), 1U);
}

TEST_F(FreezeRecord, OnlyWhatWasFrozenIsThawed) {
    const auto record = top_ + "/frozen";
    const auto text = freeze_record_text({{'f', "0:1", place("f")},
                                          {'i', "0:1", place("i")},
                                          {'.', "0:1", place("known")},
                                          {'-', "0:1", place("thawed")},
                                          {'f', "250:250", place("another device")}});
    ASSERT_TRUE(replace_file(record, text, private_mode));
    const auto done = thaw_recorded(record, calls_);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_THAT(*done, ElementsAre(top_ + "/f", top_ + "/i"));
    EXPECT_EQ(thawed, *done);
    EXPECT_FALSE(std::filesystem::exists(record));
    EXPECT_THAT(*thaw_recorded(record, calls_), IsEmpty());
}

TEST_F(FreezeRecord, WhatCannotBeThawedStaysInIt) {
    const auto record = top_ + "/frozen";
    ASSERT_TRUE(replace_file(record, freeze_record_text({{'f', "0:1", place("f")}}), private_mode));
    answer = EIO;
    EXPECT_FALSE(thaw_recorded(record, calls_));
    EXPECT_TRUE(std::filesystem::exists(record));
    answer = EINVAL;  // somebody else has thawed it
    EXPECT_THAT(*thaw_recorded(record, calls_), IsEmpty());
    EXPECT_FALSE(std::filesystem::exists(record));
}

class HookScripts : public testing::Test {
protected:
    HookScripts() {
        std::string pattern = testing::TempDir() + "ebb-hooks-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
    }
    ~HookScripts() override { std::filesystem::remove_all(top_); }
    std::string script(const std::string& name, const std::string& text, mode_t mode = 0755) {
        const auto path = top_ + "/" + name;
        std::ofstream(path) << "#!/bin/sh\n" << text;
        ::chmod(path.c_str(), mode);
        return path;
    }
    Status run(const std::string& text, std::chrono::milliseconds limit = std::chrono::minutes(1)) {
        HookCall call;
        call.path = script("10-test", text);
        call.phase = "pre";
        call.environment = {"EBB_POINT_NAME=x"};
        call.limit = limit;
        call.give_up = [this] { return give_up_; };
        call.print = [this](const std::string& line) { lines_.push_back(line); };
        return run_hook(call);
    }
    std::string listed() {
        auto hooks = list_hooks(top_);
        if (!hooks) return std::string(hooks.error().name());
        std::string names;
        for (const auto& hook : *hooks) names += hook.substr(top_.size() + 1) + " ";
        return names;
    }

    std::string top_;
    bool give_up_ = false;
    std::vector<std::string> lines_;
};

TEST_F(HookScripts, ThoseThatAreMeantInOrder) {
    EXPECT_EQ(listed(), "");
    for (const char* name :
         {"20-b", "10-a", ".hidden", "30-c~", "30-c.dpkg-old", "40.bak", "50.rpmnew"})
        script(name, "");
    script("15-off", "", 0644);
    std::filesystem::create_directory(top_ + "/60-folder");
    EXPECT_EQ(listed(), "10-a 20-b ");
    EXPECT_THAT(*list_hooks(top_ + "/nowhere"), IsEmpty());
}

TEST_F(HookScripts, ThoseThatOthersMayChangeAreRefused) {
    script("10-a", "", 0775);
    EXPECT_EQ(listed(), "E_APP_SCRIPT_UNSAFE");
    script("10-a", "", 0755);
    EXPECT_EQ(listed(), "10-a ");
    ::chmod(top_.c_str(), 0777);
    EXPECT_EQ(listed(), "E_APP_SCRIPT_UNSAFE");
}

TEST_F(HookScripts, ArgumentEnvironmentAndOutput) {
    const auto done = run("echo one $1 $EBB_POINT_NAME; echo two >&2; read a && exit 3; exit 0\n");
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_THAT(lines_, ElementsAre("one pre x", "two"));
}

TEST_F(HookScripts, OneThatFailsIsToldWithItsLastWords) {
    const auto done = run("echo first; echo the database is down; exit 7\n");
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().name(), "E_APP_SCRIPT");
    EXPECT_THAT(done.error().message, HasSubstr("exit status 7"));
    EXPECT_THAT(done.error().message, HasSubstr(": the database is down"));
    EXPECT_THAT(run("kill -9 $$\n").error().message, HasSubstr("signal 9"));
    EXPECT_EQ(
        run_hook({top_ + "/nowhere", "pre", {}, std::chrono::seconds(1), {}, {}}).error().name(),
        "E_APP_SCRIPT");
}

TEST_F(HookScripts, OneThatHangsIsKilledWithAllThatItHasStarted) {
    const auto done = run("echo begun; sleep 1000 & echo $! >" + top_ + "/child; wait\n",
                          std::chrono::seconds(2));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().name(), "E_APP_SCRIPT");
    EXPECT_THAT(done.error().message, HasSubstr("did not end in 2 s"));
    std::ifstream in(top_ + "/child");
    pid_t child = 0;
    in >> child;
    ASSERT_GT(child, 0);
    for (int i = 0; i < 6000 && std::filesystem::exists("/proc/" + std::to_string(child)); ++i) {
        std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
        std::string pid, name, state;
        stat >> pid >> name >> state;
        if (state == "Z") break;  // nobody reaps it here
        ::usleep(10'000);
        ASSERT_LT(i, 5'999) << "it lives on";
    }
}

TEST_F(HookScripts, NobodyWaitsAnyMore) {
    give_up_ = true;
    EXPECT_FALSE(run("sleep 1000\n"));
}

TEST_F(HookScripts, WhoKeepsTheOutputOpenHoldsNobodyUp) {
    EXPECT_TRUE(run("sleep 600 & echo $! >" + top_ + "/child; exit 0\n"));
    std::ifstream in(top_ + "/child");
    pid_t child = 0;
    in >> child;
    ::kill(child, SIGKILL);
}

TEST(WriteGateTest, WhatWritesWaitsUntilItIsOpen) {
    auto& gate = WriteGate::of_this_process();
    std::vector<int> done;
    gate.when_open([&] { done.push_back(1); });
    gate.close();
    gate.when_open([&] { done.push_back(2); });
    EXPECT_TRUE(gate.closed());
    EXPECT_THAT(done, ElementsAre(1));
    gate.open();
    EXPECT_THAT(done, ElementsAre(1, 2));
    gate.wait();
}

// File systems are frozen, and meanwhile writes held for a common cut.
TEST(WriteGateTest, IsOpenWhenAllWhoClosedItHaveOpenedIt) {
    auto& gate = WriteGate::of_this_process();
    gate.close();
    gate.close();
    gate.open();
    EXPECT_TRUE(gate.closed());
    gate.open();
    EXPECT_FALSE(gate.closed());
}

}  // namespace
}  // namespace ebb::platform
