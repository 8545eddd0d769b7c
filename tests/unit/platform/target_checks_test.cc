// SPDX-License-Identifier: Apache-2.0
// Target checks against a machine made of files: sysfs, mountinfo and device nodes in a folder.
#include "platform/target_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/platform/machine_of_files.h"

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> codes(const std::vector<Error>& reasons) {
    std::vector<std::string> names;
    for (const auto& reason : reasons) {
        names.emplace_back(reason.name());
        EXPECT_FALSE(reason.message.empty());
        EXPECT_FALSE(reason.remedy.empty()) << reason.name();
    }
    return names;
}

class TargetChecks : public testing::Test, protected MachineOfFiles {
protected:
    // Signatures as the file systems have them.
    void put_swap(const std::string& device) {
        put(device, 1024, std::string("\1\0\0\0\xff\0\0\0", 8));
        put(device, 4086, "SWAPSPACE2");
    }
    void put_luks(const std::string& device) { put(device, 0, std::string("LUKS\xba\xbe\0\1", 8)); }
    void put_xfs(const std::string& device) {
        std::string sb(512, '\0');
        const auto big = [&](std::size_t at, std::uint64_t value, std::size_t bytes) {
            for (std::size_t i = 0; i < bytes; ++i)
                sb[at + i] = static_cast<char>(value >> 8 * (bytes - 1 - i));
        };
        sb.replace(0, 4, "XFSB");
        big(4, 4096, 4);      // block size
        big(8, 8192, 8);      // data blocks
        big(80, 1, 4);        // realtime extent size
        big(84, 8192, 4);     // blocks of an allocation group
        big(88, 1, 4);        // allocation groups
        big(96, 1000, 4);     // log blocks
        big(100, 0xb4a4, 2);  // version 4
        big(102, 512, 2);     // sector size
        big(104, 256, 2);     // inode size
        big(106, 16, 2);      // inodes per block
        sb[120] = 12;         // logarithms of the above
        sb[121] = 9;
        sb[122] = 8;
        sb[123] = 4;
        sb[124] = 13;
        sb[127] = 25;  // share of inodes
        put(device, 0, sb);
    }

    std::vector<std::string> volume(const std::string& path) {
        auto volumes = list_retention_volumes(host_, volume_rules_);
        if (!volumes) return {"failed: " + volumes.error().message};
        for (const auto& v : *volumes) {
            if (v.path == path || v.path == (top_ / "dev" / path).string()) return codes(v.reasons);
        }
        return {"not listed"};
    }

    std::vector<std::string> listed(const std::string& name) {
        auto disks = list_target_disks(host_, disk_rules_);
        if (!disks) return {"failed: " + disks.error().message};
        for (const auto& d : *disks) {
            if (d.name == name) return codes(d.reasons);
        }
        return {"not listed"};
    }

    std::vector<std::string> demanded(const std::string& id, bool overwrite = false,
                                      std::uint64_t size = 64 * mib) {
        auto verdict = check_target_disk(host_, disk_rules_, {id, size, overwrite});
        if (!verdict) return {std::string(verdict.error().name())};
        return codes(verdict->reasons);
    }

    VolumeRules volume_rules_;
    DiskRules disk_rules_;
};

TEST_F(TargetChecks, DefaultVolumeIsUsable) {
    disk("sdb", "8:16", "naa.b");
    mount("8:16", "/mnt/retention", "xfs", "/dev/sdb");
    auto volumes = list_retention_volumes(host_, volume_rules_);
    ASSERT_TRUE(volumes);
    const auto& first = volumes->front();
    EXPECT_EQ(first.path, "/mnt/retention");
    EXPECT_TRUE(first.usable());
    EXPECT_EQ(first.fs, "xfs");
    EXPECT_EQ(first.size, 100 * mib);
    EXPECT_EQ(first.available, 50 * mib);
    EXPECT_THAT(first.device, HasSubstr("/dev/sdb"));
}

TEST_F(TargetChecks, DefaultPathIsListedWhenNothingIsMountedThere) {
    EXPECT_THAT(volume("/mnt/retention"), ElementsAre("E_RETENTION_NOT_MOUNTED"));
    EXPECT_EQ(check_retention_volume(host_, volume_rules_, "/mnt/retention").error().name(),
              "E_RETENTION_NOT_MOUNTED");
}

TEST_F(TargetChecks, FatIsRefused) {
    disk("sdb", "8:16", "naa.b");
    disk("sdc", "8:32", "naa.c");
    mount("8:16", "/mnt/fat", "vfat", "/dev/sdb");
    mount("8:32", "/mnt/exfat", "exfat", "/dev/sdc");
    EXPECT_THAT(volume("/mnt/fat"), ElementsAre("E_RETENTION_FAT"));
    EXPECT_THAT(volume("/mnt/exfat"), ElementsAre("E_RETENTION_FAT"));
}

TEST_F(TargetChecks, ReadOnlyZeroAndNotWritableAreRefused) {
    disk("sdb", "8:16", "naa.b");
    disk("sdc", "8:32", "naa.c");
    const auto locked = disk("sdd", "8:48", "naa.d");
    write(locked / "ro", "1\n");
    mount("8:16", "/a", "xfs", "/dev/sdb", "ro");
    mount("8:32", "/b", "xfs", "/dev/sdc");
    mount("8:48", "/c", "xfs", "/dev/sdd");
    usage_["/b"] = {0, 0, false};
    EXPECT_THAT(volume("/a"), ElementsAre("E_RETENTION_READ_ONLY"));
    EXPECT_THAT(volume("/b"), ElementsAre("E_RETENTION_ZERO_CAPACITY", "E_RETENTION_NOT_WRITABLE"));
    EXPECT_THAT(volume("/c"), ElementsAre("E_RETENTION_READ_ONLY"));
}

TEST_F(TargetChecks, NetworkMemoryRootAndBootAreRefused) {
    disk("sda", "8:0", "naa.a");
    disk("sdb", "8:16", "naa.b");
    write("proc/self/mountinfo", "");
    mount("8:0", "/", "ext4", "/dev/sda");
    mount("8:16", "/boot", "ext4", "/dev/sdb");
    mount("8:0", "/mnt/bind", "ext4", "/dev/sda");
    mount("0:40", "/mnt/nfs", "nfs4", "server:/x");
    mount("0:41", "/mnt/retention", "tmpfs", "tmpfs");
    EXPECT_THAT(volume("/"), ElementsAre("E_RETENTION_ROOT"));
    EXPECT_THAT(volume("/mnt/bind"), ElementsAre("E_RETENTION_ROOT"));
    EXPECT_THAT(volume("/boot"), ElementsAre("E_RETENTION_BOOT"));
    EXPECT_THAT(volume("/mnt/nfs"), ElementsAre("E_RETENTION_NETWORK"));
    EXPECT_THAT(volume("/mnt/retention"), ElementsAre("E_RETENTION_NO_DISK"));
}

TEST_F(TargetChecks, VolumesWithAPurposeAreRefused) {
    for (const auto& [name, number] : {std::pair("sdb", "8:16"), {"sdc", "8:32"}, {"sdd", "8:48"}})
        disk(name, number, std::string("naa.") + name);
    mount("8:16", "/opt/ebb", "xfs", "/dev/sdb");
    mount("8:32", "/var/cache/ebb", "xfs", "/dev/sdc");
    mount("8:48", "/replica", "xfs", "/dev/sdd");
    volume_rules_.reserved = {{"/opt/ebb/sbin", ReservedPath::Use::install},
                              {"/var/cache/ebb", ReservedPath::Use::cache},
                              {"/replica/x", ReservedPath::Use::replication}};
    EXPECT_THAT(volume("/opt/ebb"), ElementsAre("E_RETENTION_INSTALL_VOLUME"));
    EXPECT_THAT(volume("/var/cache/ebb"), ElementsAre("E_RETENTION_CACHE_VOLUME"));
    EXPECT_THAT(volume("/replica"), ElementsAre("E_RETENTION_REPLICATION_TARGET"));
}

TEST_F(TargetChecks, VolumeOnATargetDiskIsFoundThroughLvmAndPartition) {
    const auto b = disk("sdb", "8:16", "naa.BBBB");
    partition(b, "sdb1", "8:17");
    mapped("dm-0", "253:0", "vg-lv", b / "sdb1");
    mount("253:0", "/mnt/retention", "xfs", "/dev/mapper/vg-lv");
    EXPECT_THAT(volume("/mnt/retention"), IsEmpty());
    volume_rules_.target_disks = {"naa.bbbb"};
    EXPECT_THAT(volume("/mnt/retention"), ElementsAre("E_RETENTION_TARGET_DISK"));
}

TEST_F(TargetChecks, SwapLockedAndUnmountedAreListed) {
    disk("sdb", "8:16", "naa.b");
    disk("sdc", "8:32", "naa.c");
    disk("sdd", "8:48", "naa.d");
    disk("sde", "8:64", "naa.e");
    put_swap("sdb");
    put_luks("sdc");
    put_xfs("sdd");
    EXPECT_THAT(volume("sdb"), ElementsAre("E_RETENTION_SWAP"));
    EXPECT_THAT(volume("sdc"), ElementsAre("E_RETENTION_LOCKED"));
    EXPECT_THAT(volume("sdd"), ElementsAre("E_RETENTION_NOT_MOUNTED"));
    EXPECT_THAT(volume("sde"), ElementsAre("not listed"));  // blank: no volume
}

TEST_F(TargetChecks, DisksByController) {
    controller("0000:00:06.0", "0x1000", "0x0054", "mptsas");
    controller("0000:00:07.0", "0x15ad", "0x07c0", "vmw_pvscsi");
    controller("0000:00:08.0", "0x1af4", "0x1004", "virtio-pci");
    controller("0000:00:09.0", "0x1000", "0x005b", "megaraid_sas");
    disk("sda", "8:0", "naa.a");
    disk("sdb", "8:16", "naa.b", "0000:00:06.0");
    disk("sdc", "8:32", "naa.c", "0000:00:07.0");
    disk("sdd", "8:48", "naa.d", "0000:00:08.0");
    disk("sde", "8:64", "naa.e", "0000:00:09.0");
    EXPECT_THAT(listed("sda"), IsEmpty());
    EXPECT_THAT(listed("sdb"), IsEmpty());
    EXPECT_THAT(listed("sdc"), ElementsAre("E_DISK_PVSCSI"));
    EXPECT_THAT(listed("sdd"), ElementsAre("E_DISK_CONTROLLER"));
    EXPECT_THAT(listed("sde"), ElementsAre("E_DISK_CONTROLLER"));
    auto disks = list_target_disks(host_, disk_rules_);
    ASSERT_TRUE(disks);
    EXPECT_EQ(disks->front().controller, "LSI Logic parallel (sym53c8xx)");
    EXPECT_EQ(disks->front().pci, "1000:0012");
}

TEST_F(TargetChecks, IdsAreNeededAndUnique) {
    disk("sda", "8:0", "");
    disk("sdb", "8:16", "naa.5000C29000000001");
    disk("sdc", "8:32", "naa.5000c29000000001");
    disk("sdd", "8:48", "NAA.5000C29000000002");
    EXPECT_THAT(listed("sda"), ElementsAre("E_DISK_NO_ID"));
    EXPECT_THAT(listed("sdb"), ElementsAre("E_DISK_DUPLICATE_ID"));
    EXPECT_THAT(listed("sdc"), ElementsAre("E_DISK_DUPLICATE_ID"));
    EXPECT_THAT(demanded("naa.5000c29000000002"), IsEmpty());
    EXPECT_THAT(demanded("naa.5"), ElementsAre("E_DISK_NOT_FOUND"));
    EXPECT_THAT(demanded(""), ElementsAre("E_DISK_NOT_FOUND"));
}

TEST_F(TargetChecks, DisksInUse) {
    const auto a = disk("sda", "8:0", "naa.a");
    partition(a, "sda1", "8:1");
    disk("sdb", "8:16", "naa.b");
    const auto c = disk("sdc", "8:32", "naa.c");
    partition(c, "sdc1", "8:33");
    mapped("dm-0", "253:0", "vg-lv", c / "sdc1");
    const auto d = disk("sdd", "8:48", "naa.d");
    mapped("dm-1", "253:1", "vg-ret", d);
    mount("8:1", "/srv", "ext4", "/dev/sda1");
    mount("253:1", "/mnt/retention", "xfs", "/dev/mapper/vg-ret");
    write("proc/swaps", "Filename Type Size Used Priority\n/dev/sdb partition 100 0 -2\n");
    EXPECT_THAT(listed("sda"), ElementsAre("E_DISK_IN_USE"));
    EXPECT_THAT(listed("sdb"), ElementsAre("E_DISK_IN_USE"));
    EXPECT_THAT(listed("sdc"), ElementsAre("E_DISK_IN_USE"));
    EXPECT_THAT(listed("sdd"), ElementsAre("E_DISK_HOLDS_RETENTION"));
    // Overwriting allows to lose what is on a disk, not what is in use.
    EXPECT_THAT(demanded("naa.a", true), ElementsAre("E_DISK_IN_USE"));
}

TEST_F(TargetChecks, SizeAndContentAreChecked) {
    disk("sda", "8:0", "naa.a");
    disk("sdb", "8:16", "naa.b");
    disk("sdc", "8:32", "naa.c");
    disk("sdd", "8:48", "naa.d");
    put_xfs("sdb");
    put("sdc", 64 * mib - 1, "x");
    put("sdd", 510, "\x55\xaa");
    EXPECT_THAT(demanded("naa.a"), IsEmpty());
    EXPECT_THAT(demanded("naa.a", false, 64 * mib + 512), ElementsAre("E_DISK_TOO_SMALL"));
    for (const char* id : {"naa.b", "naa.c", "naa.d"}) {
        EXPECT_THAT(demanded(id), ElementsAre("E_DISK_HOLDS_DATA")) << id;
        EXPECT_THAT(demanded(id, true), IsEmpty()) << id;
    }
    disk_rules_.owned = {"NAA.B"};
    EXPECT_THAT(demanded("naa.b"), IsEmpty());
}

TEST_F(TargetChecks, SixtyDisksAndNoMore) {
    for (int i = 0; i < 62; ++i)
        disk("sd" + std::string(1, static_cast<char>('a' + i / 26)) +
                 std::string(1, static_cast<char>('a' + i % 26)),
             "65:" + std::to_string(i), "naa." + std::to_string(1000 + i));
    EXPECT_THAT(listed("sdch"), IsEmpty());  // the 60th
    EXPECT_THAT(listed("sdci"), ElementsAre("E_DISK_TOO_MANY"));
    disk_rules_.owned = {"naa.1061"};
    EXPECT_THAT(listed("sdcj"), IsEmpty());
    EXPECT_THAT(listed("sdch"), ElementsAre("E_DISK_TOO_MANY"));
}

TEST_F(TargetChecks, OtherDevicesAreNoDisks) {
    block("sys/devices/virtual/block/loop0", "7:0", mib);
    EXPECT_THAT(listed("loop0"), ElementsAre("not listed"));
    fs::remove_all(top_ / "sys/class");
    EXPECT_THAT(listed("sda"), Contains(HasSubstr("failed: cannot read")));
}

}  // namespace
}  // namespace ebb::platform
