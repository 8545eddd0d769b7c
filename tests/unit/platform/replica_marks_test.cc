// SPDX-License-Identifier: Apache-2.0
// Marks of replicas, on a machine made of files.
#include "platform/replica_marks.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;

class ReplicaMarksTest : public testing::Test {
protected:
    ReplicaMarksTest() {
        std::string pattern = testing::TempDir() + "ebb-marks-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        fs::create_directories(top_ / "sys/class/block");
        write("proc/self/mountinfo", "");
        disk("sda", "naa.5000C29000000001");
        block(top_ / "sys/devices/pci/sda-dev/block/sda/sda1");
        write("sys/devices/pci/sda-dev/block/sda/sda1/partition", "1\n");
        disk("sdb", "t10.ATA     VBOX DISK\"1");
        disk("sdc", "t10.QEMU a/b");
    }
    ~ReplicaMarksTest() override { fs::remove_all(top_); }

    void write(const fs::path& name, const std::string& text) const {
        fs::create_directories((top_ / name).parent_path());
        std::ofstream(top_ / name) << text;
    }
    void block(const fs::path& folder) const {
        for (const char* file : {"dev", "size", "ro", "uevent"}) write(folder / file, "0\n");
        fs::create_directory_symlink(folder, top_ / "sys/class/block" / folder.filename());
    }
    void disk(const std::string& name, const std::string& wwid) const {
        const fs::path scsi = top_ / "sys/devices/pci" / (name + "-dev");
        write(scsi / "wwid", wwid + "\n");
        write(scsi / "type", "0\n");
        block(scsi / "block" / name);
        fs::create_directory_symlink(scsi, scsi / "block" / name / "device");
    }
    [[nodiscard]] std::string read(const fs::path& name) const {
        std::stringstream text;
        text << std::ifstream(top_ / name).rdbuf();
        return text.str();
    }
    [[nodiscard]] ReplicaMarks marks() const {
        return ReplicaMarks(top_ / "etc/ebb/replicas", {top_ / "sys", top_ / "proc", top_ / "dev"});
    }

    fs::path top_;
};

TEST_F(ReplicaMarksTest, MarkBearsTheIdAsUdevHasIt) {
    ASSERT_TRUE(marks().add("one", {top_ / "dev/sda", top_ / "dev/sdb"}));
    EXPECT_EQ(read("etc/ebb/replicas/naa.5000C29000000001"), "one\n");
    EXPECT_EQ(read("etc/ebb/replicas/t10.ATA     VBOX DISK_1"), "one\n");
}

TEST_F(ReplicaMarksTest, UdevLooksAgainAtDiskAndPartitionsOnce) {
    ASSERT_TRUE(marks().add("one", {top_ / "dev/sda"}));
    EXPECT_EQ(read("sys/class/block/sda/uevent"), "change\n");
    EXPECT_EQ(read("sys/class/block/sda1/uevent"), "change\n");
    EXPECT_EQ(read("sys/class/block/sdb/uevent"), "0\n");
    write("sys/devices/pci/sda-dev/block/sda/uevent", "");
    ASSERT_TRUE(marks().add("one", {top_ / "dev/sda"}));
    EXPECT_EQ(read("sys/class/block/sda/uevent"), "");
}

TEST_F(ReplicaMarksTest, IdThatCannotBeAFileNameIsRefused) {
    const auto status = marks().add("one", {top_ / "dev/sdc"});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().name(), "E_DISK_NO_MARK");
}

TEST_F(ReplicaMarksTest, DiskThatIsGoneIsAnError) {
    EXPECT_FALSE(marks().add("one", {top_ / "dev/sdx"}));
}

TEST_F(ReplicaMarksTest, FolderThatCannotBeWrittenIsAnError) {
    write("etc/ebb/replicas", "a file");
    EXPECT_FALSE(marks().add("one", {top_ / "dev/sda"}));
    EXPECT_TRUE(marks().remove("one"));
}

TEST_F(ReplicaMarksTest, MarksGoWithTheirProtection) {
    ASSERT_TRUE(marks().add("one", {top_ / "dev/sda"}));
    ASSERT_TRUE(marks().add("two", {top_ / "dev/sdb"}));
    ASSERT_TRUE(marks().remove("one"));
    EXPECT_FALSE(fs::exists(top_ / "etc/ebb/replicas/naa.5000C29000000001"));
    EXPECT_EQ(read("etc/ebb/replicas/t10.ATA     VBOX DISK_1"), "two\n");
    ASSERT_TRUE(marks().keep({"two", "three"}));
    EXPECT_EQ(read("etc/ebb/replicas/t10.ATA     VBOX DISK_1"), "two\n");
    ASSERT_TRUE(marks().keep({"three"}));
    EXPECT_TRUE(fs::is_empty(top_ / "etc/ebb/replicas"));
}

TEST_F(ReplicaMarksTest, NothingToRemoveIsNoError) {
    EXPECT_TRUE(marks().remove("one"));
    EXPECT_TRUE(marks().keep({}));
}

}  // namespace
}  // namespace ebb::platform
