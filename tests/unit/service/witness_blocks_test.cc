// SPDX-License-Identifier: Apache-2.0
// Which blocks tell that another system wrote to a disk: on a machine made of files.
#include "service/witness_blocks.h"

#include <gtest/gtest.h>
#include <linux/ebb.h>

#include <set>

#include "unit/platform/machine_of_files.h"

namespace ebb::service {
namespace {

class WitnessBlocks : public platform::MachineOfFiles, public testing::Test {
protected:
    WitnessBlocks() {
        sda_ = disk("sda", "8:0", "naa.1");
        partition(sda_, "sda1", "8:1");
        write(sda_ / "sda1/start", "2048\n");
    }

    // A volume of 4 MiB on the partition; its number among all.
    void volume(unsigned int number) {
        const std::string minor = std::to_string(number);
        mapped("dm-" + minor, "253:" + minor, "data-" + minor, sda_ / "sda1");
        tables_["253:" + minor] = {{0, 8192, 0, {{"8:1", 2048 + 1024 * number}}}};
    }

    std::set<std::uint64_t> blocks() {
        auto table = platform::BlockTable::load(host_.paths);
        EXPECT_TRUE(table);
        std::set<std::uint64_t> found;
        for (const auto& extent : witness_blocks(*table, tables_, *table->find("sda"))) {
            EXPECT_EQ(extent.length, 4096);
            EXPECT_EQ(extent.offset % 4096, 0);
            found.insert(extent.offset / 4096);
        }
        return found;
    }

    Path sda_;
    platform::DmTables tables_;
};

TEST_F(WitnessBlocks, OfTheDiskAndItsPartitions) {
    EXPECT_EQ(blocks(), (std::set<std::uint64_t>{0, 1, 16, 256, 257, 272, 16383}));
}

TEST_F(WitnessBlocks, OfTheFileSystemsOnVolumes) {
    volume(0);
    const auto found = blocks();
    for (const std::uint64_t block : {512, 513, 528}) EXPECT_TRUE(found.contains(block)) << block;
}

TEST_F(WitnessBlocks, OfAFileSystemThatBeginsWithinABlock) {
    write(sda_ / "sda1/start", "63\n");
    const auto found = blocks();
    for (const std::uint64_t block : {7, 8, 9, 23, 24}) EXPECT_TRUE(found.contains(block)) << block;
}

TEST_F(WitnessBlocks, PartitionsBeforeVolumes) {
    for (unsigned int number = 0; number < 70; ++number) volume(number);
    const auto found = blocks();
    EXPECT_EQ(found.size(), EBB_WITNESSES_MAX);
    EXPECT_TRUE(found.contains(0) && found.contains(256) && found.contains(16383));
}

TEST_F(WitnessBlocks, NotOfWhatASnapshotKeeps) {
    volume(0);
    write("sys/devices/virtual/block/dm-0/dm/uuid", "LVM-abcdef-cow\n");
    EXPECT_FALSE(blocks().contains(512));
}

TEST_F(WitnessBlocks, TheMostTellingOnesWhereThereAreMoreThanTheModuleTakes) {
    for (unsigned int number = 0; number < 40; ++number) volume(number);
    const auto found = blocks();
    EXPECT_EQ(found.size(), EBB_WITNESSES_MAX);
    for (std::uint64_t number = 0; number < 40; ++number)
        EXPECT_TRUE(found.contains(512 + 128 * number)) << number;
    EXPECT_TRUE(found.contains(0) && found.contains(256) && found.contains(16383));
}

}  // namespace
}  // namespace ebb::service
