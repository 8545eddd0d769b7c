// SPDX-License-Identifier: Apache-2.0
// Which disks can be tracked, and where a cut's image may be copied to: on a machine made of files.
#include "service/source_disks.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace ebb::service {
namespace {

namespace fs = std::filesystem;

class ExportFolder : public testing::Test {
protected:
    ExportFolder() {
        std::string pattern = testing::TempDir() + "ebb-disks-XXXXXX";
        top_ = fs::canonical(::mkdtemp(pattern.data()));
        fs::create_directories(top_ / "sys/class/block");
        fs::create_directories(top_ / "dev");
        const auto tracked = disk("sda", "8:0", "naa.5000C29000000001");
        block(tracked / "sda1", "8:1");
        write(tracked / "sda1/partition", "1\n");
        disk("sdb", "8:16", "naa.5000C29000000002");
        const fs::path mapped = "sys/devices/virtual/block/dm-0";
        block(mapped, "253:0");
        write(mapped / "dm/name", "data-orders\n");
        write(mapped / "slaves/sda1", "");
        mount("0:20", "/");
        mount("253:0", folder("tracked"));
        mount("8:16", folder("free"));
        mount("0:33", folder("network"));
        fs::create_directories(top_ / "tracked/below");
        fs::create_directory_symlink(top_ / "tracked/below", top_ / "free/link");
    }
    ~ExportFolder() override { fs::remove_all(top_); }

    void write(const fs::path& name, const std::string& text) {
        fs::create_directories((top_ / name).parent_path());
        std::ofstream(top_ / name) << text;
    }

    void block(const fs::path& folder, const std::string& number) {
        write(folder / "dev", number + "\n");
        write(folder / "size", "131072\n");
        write(folder / "ro", "0\n");
        fs::create_directories(top_ / folder / "holders");
        fs::create_directories(top_ / folder / "slaves");
        fs::create_directory_symlink(top_ / folder, top_ / "sys/class/block" / folder.filename());
    }

    fs::path disk(const std::string& name, const std::string& number, const std::string& wwid) {
        const fs::path scsi = "sys/devices/pci0000:00/0000:00:05.0/host0/" + name + "-dev";
        write(scsi / "wwid", wwid + "\n");
        const auto folder = scsi / "block" / name;
        block(folder, number);
        fs::create_directory_symlink(top_ / scsi, top_ / folder / "device");
        return folder;
    }

    std::string folder(const std::string& name) {
        fs::create_directories(top_ / name);
        return top_ / name;
    }

    void mount(const std::string& number, const std::string& point) {
        fs::create_directories(top_ / "proc/self");
        std::ofstream(top_ / "proc/self/mountinfo", std::ios::app)
            << "21 1 " << number << " / " << point << " rw shared:1 - any any rw\n";
    }

    std::string check(const std::string& name) {
        write("proc/swaps", "Filename Type Size Used Priority\n");
        auto table = platform::BlockTable::load({top_ / "sys", top_ / "proc", top_ / "dev"});
        if (!table) return table.error().message;
        auto status = check_export_folder(*table, top_ / name, {"naa.5000c29000000001"});
        return status ? "" : std::string(status.error().name());
    }

    fs::path top_;
};

TEST_F(ExportFolder, OnAnotherDiskOrNone) {
    EXPECT_EQ(check("free"), "");
    EXPECT_EQ(check("network"), "");
}

TEST_F(ExportFolder, OnATrackedDiskThroughPartitionAndVolume) {
    EXPECT_EQ(check("tracked"), "E_EXPORT_TRACKED");
    EXPECT_EQ(check("tracked/below"), "E_EXPORT_TRACKED");
}

TEST_F(ExportFolder, ALinkIsWhereItLeads) {
    EXPECT_EQ(check("free/link"), "E_EXPORT_TRACKED");
}

TEST_F(ExportFolder, MustBeThere) {
    EXPECT_EQ(check("nowhere"), "E_NOT_FOUND");
}

// What holds a disk: LVM may, multipath may not, for other paths lead to the same blocks.
TEST_F(ExportFolder, APathOfAMultipathDeviceIsRefused) {
    write("proc/swaps", "Filename Type Size Used Priority\n");
    const fs::path above = "sys/devices/virtual/block/dm-1";
    block(above, "253:1");
    write(above / "dm/name", "mpatha");
    const auto holder = fs::path("sys/class/block/sdb/holders/dm-1");
    write(holder, "");
    auto reasons = [&] {
        auto table = platform::BlockTable::load({top_ / "sys", top_ / "proc", top_ / "dev"});
        EXPECT_TRUE(table);
        std::string all;
        for (const auto& disk : list_source_disks(*table)) {
            EXPECT_EQ(disk.trackable, disk.reasons.empty());
            for (const auto& reason : disk.reasons) all += disk.name + " " + reason.code + " ";
        }
        return all;
    };
    write(above / "dm/uuid", "LVM-abcdef\n");
    EXPECT_EQ(reasons(), "");
    write(above / "dm/uuid", "mpath-3600508b4000156d700012000000b0000\n");
    EXPECT_EQ(reasons(), "sdb E_DISK_MULTIPATH ");
}

}  // namespace
}  // namespace ebb::service
