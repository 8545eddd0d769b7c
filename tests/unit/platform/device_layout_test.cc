// SPDX-License-Identifier: Apache-2.0
// Where bytes of a stacked device lie on a disk: tables of device-mapper, partitions, mirrors of
// md.
#include "platform/device_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/platform/machine_of_files.h"

namespace ebb::platform {
namespace {

using Places = std::vector<std::uint64_t>;

TEST(DmTarget, NamesItsPieces) {
    const auto linear = parse_dm_target("linear", "8:1 2048");
    ASSERT_TRUE(linear && linear->pieces.size() == 1);
    EXPECT_EQ(linear->pieces[0].device, "8:1");
    EXPECT_EQ(linear->pieces[0].start, 2048);
    const auto striped = parse_dm_target("striped", "2 128 8:16 2048 8:32 4096");
    ASSERT_TRUE(striped && striped->pieces.size() == 2);
    EXPECT_EQ(striped->chunk, 128);
    EXPECT_EQ(striped->pieces[1].device, "8:32");
    EXPECT_EQ(striped->pieces[1].start, 4096);
    const auto origin = parse_dm_target("snapshot-origin", "253:3");
    ASSERT_TRUE(origin && origin->pieces.size() == 1);
    EXPECT_EQ(origin->pieces[0].start, 0);
}

TEST(DmTarget, KeysOfCryptArePassedOver) {
    for (const char* key : {"00ff00ff", ":32:logon:cryptsetup:1-d0", "-"}) {
        const auto crypt = parse_dm_target(
            "crypt", std::string("aes-xts-plain64 ") + key + " 0 8:2 32768 1 allow_discards");
        ASSERT_TRUE(crypt && crypt->pieces.size() == 1) << key;
        EXPECT_EQ(crypt->pieces[0].device, "8:2");
        EXPECT_EQ(crypt->pieces[0].start, 32768);
    }
}

TEST(DmTarget, WhatHasNoFixedPlaceHasNoPieces) {
    for (const char* type : {"thin", "thin-pool", "cache", "error", "multipath"}) {
        const auto target = parse_dm_target(type, "253:2 1");
        ASSERT_TRUE(target) << type;
        EXPECT_TRUE(target->pieces.empty()) << type;
    }
}

TEST(DmTarget, WhatDoesNotParseIsNotGuessed) {
    EXPECT_FALSE(parse_dm_target("linear", "8:1"));
    EXPECT_FALSE(parse_dm_target("linear", "8:1 -1"));
    EXPECT_FALSE(parse_dm_target("linear", "8:1 1 2"));
    EXPECT_FALSE(parse_dm_target("striped", "0 128"));
    EXPECT_FALSE(parse_dm_target("striped", "2 0 8:1 0 8:2 0"));
    EXPECT_FALSE(parse_dm_target("striped", "2 128 8:1 0 8:2"));
    EXPECT_FALSE(parse_dm_target("striped", "99999999999999999 128 8:1 0"));
    EXPECT_FALSE(parse_dm_target("crypt", "aes 00 0 8:1"));
    EXPECT_FALSE(parse_dm_target("snapshot-origin", ""));
}

class DeviceLayout : public MachineOfFiles, public testing::Test {
protected:
    DeviceLayout() {
        sda_ = disk("sda", "8:0", "naa.1");
        sdb_ = disk("sdb", "8:16", "naa.2");
        partition(sda_, "sda1", "8:1");
        write(sda_ / "sda1/start", "2048\n");
    }

    // Where the bytes of a device lie on a disk.
    Places on(const std::string& disk, const std::string& device, std::uint64_t offset) {
        auto table = BlockTable::load(host_.paths);
        EXPECT_TRUE(table);
        auto places = places_on(*table, tables_, *table->find(disk), *table->find(device), offset);
        std::ranges::sort(places);
        return places;
    }

    Path sda_;
    Path sdb_;
    DmTables tables_;
};

TEST_F(DeviceLayout, OfAPartitionAndOfTheDiskItself) {
    EXPECT_EQ(on("sda", "sda1", 4096), Places{mib + 4096});
    EXPECT_EQ(on("sda", "sda", 4096), Places{4096});
    EXPECT_EQ(on("sdb", "sda1", 4096), Places{});
    EXPECT_EQ(on("sda", "sda1", 32 * mib), Places{}) << "beyond its end";
}

TEST_F(DeviceLayout, OfAVolumeThatIsOnTwoDisks) {
    mapped("dm-0", "253:0", "data-orders", sda_ / "sda1");
    tables_["253:0"] = {{0, 8192, 0, {{"8:1", 1024}}}, {8192, 8192, 0, {{"8:16", 0}}}};
    EXPECT_EQ(on("sda", "dm-0", 65536), Places{mib + 1024 * 512 + 65536});
    EXPECT_EQ(on("sda", "dm-0", 4 * mib), Places{});
    EXPECT_EQ(on("sdb", "dm-0", 4 * mib + 4096), Places{4096});
    EXPECT_EQ(on("sdb", "dm-0", 8 * mib), Places{}) << "no line has it";
}

TEST_F(DeviceLayout, OfAStripedVolume) {
    mapped("dm-0", "253:0", "data-wide", sda_);
    tables_["253:0"] = {{0, 65536, 128, {{"8:0", 2048}, {"8:16", 0}}}};
    const std::uint64_t chunk = 65536;
    EXPECT_EQ(on("sda", "dm-0", 4096), Places{mib + 4096});
    EXPECT_EQ(on("sdb", "dm-0", chunk + 4096), Places{4096});
    EXPECT_EQ(on("sda", "dm-0", 2 * chunk + 8192), Places{mib + chunk + 8192});
    EXPECT_EQ(on("sda", "dm-0", chunk), Places{});
}

TEST_F(DeviceLayout, OfAnEncryptedVolumeOnAVolume) {
    mapped("dm-0", "253:0", "data-orders", sda_ / "sda1");
    mapped("dm-1", "253:1", "luks", "sys/devices/virtual/block/dm-0");
    tables_["253:0"] = {{0, 65536, 0, {{"8:1", 2048}}}};
    tables_["253:1"] = {{0, 32768, 0, {{"253:0", 32768}}}};
    EXPECT_EQ(on("sda", "dm-1", 0), Places{2 * mib + 32768 * 512});
}

TEST_F(DeviceLayout, OfAMirrorOnBothDisks) {
    const Path md = "sys/devices/virtual/block/md0";
    block(md, "9:0", 16 * mib);
    write(md / "slaves/sda1", "");
    write(md / "slaves/sdb", "");
    write(md / "md/level", "raid1\n");
    write(md / "md/dev-sda1/offset", "2048\n");
    write(md / "md/dev-sdb/offset", "4096\n");
    EXPECT_EQ(on("sda", "md0", 4096), Places{2 * mib + 4096});
    EXPECT_EQ(on("sdb", "md0", 4096), Places{2 * mib + 4096});
    write(md / "md/level", "raid5\n");
    EXPECT_EQ(on("sda", "md0", 4096), Places{});
}

TEST_F(DeviceLayout, WithoutATableNothingIsKnown) {
    mapped("dm-0", "253:0", "data-orders", sda_);
    EXPECT_EQ(on("sda", "dm-0", 0), Places{});
    tables_["253:0"] = {{0, 65536, 0, {}}};
    EXPECT_EQ(on("sda", "dm-0", 0), Places{});
    tables_["253:0"] = {{0, 65536, 0, {{"8:99", 0}}}};
    EXPECT_EQ(on("sda", "dm-0", 0), Places{}) << "a device that has gone";
}

TEST_F(DeviceLayout, TablesThatContradictEachOtherEndSomewhere) {
    mapped("dm-0", "253:0", "one", sda_);
    mapped("dm-1", "253:1", "other", sda_);
    tables_["253:0"] = {{0, 65536, 0, {{"253:1", 0}}}};
    tables_["253:1"] = {{0, 65536, 0, {{"253:0", 0}}}};
    EXPECT_EQ(on("sda", "dm-0", 0), Places{});
}

TEST_F(DeviceLayout, ADeviceWithoutATableInThisKernelHasNone) {
    mapped("dm-0", "4095:1048575", "nowhere", sda_);
    auto table = BlockTable::load(host_.paths);
    ASSERT_TRUE(table);
    EXPECT_TRUE(load_dm_tables(*table).empty());
}

}  // namespace
}  // namespace ebb::platform
