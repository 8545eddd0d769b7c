// SPDX-License-Identifier: Apache-2.0
#include "platform/request_cost.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ebb::platform {

namespace fs = std::filesystem;

class RequestCostTest : public testing::Test {
protected:
    RequestCostTest() { fs::create_directories(sys_ / "dev/block"); }
    ~RequestCostTest() override { fs::remove_all(sys_); }
    // As in sysfs: a partition's folder is in that of its disk, which alone has a queue.
    void disk(const std::string& name, const std::string& number, const std::string& rotational) {
        fs::create_directories(sys_ / "devices" / name / "queue");
        std::ofstream(sys_ / "devices" / name / "queue/rotational") << rotational << "\n";
        fs::create_symlink("../../devices/" + name, sys_ / "dev/block" / number);
    }
    void partition(const std::string& disk, const std::string& number) {
        fs::create_directories(sys_ / "devices" / disk / number);
        fs::create_symlink("../../devices/" + disk + "/" + number, sys_ / "dev/block" / number);
    }

    const fs::path sys_ =
        fs::temp_directory_path() / ("ebb-request-cost-" + std::to_string(::getpid()));
};

TEST_F(RequestCostTest, WhatTheDiskSays) {
    disk("sda", "8:0", "1");
    disk("nvme0n1", "259:0", "0");
    EXPECT_TRUE(seeks(makedev(8, 0), sys_));
    EXPECT_FALSE(seeks(makedev(259, 0), sys_));
}

TEST_F(RequestCostTest, APartitionIsAsItsDisk) {
    disk("sda", "8:0", "1");
    disk("nvme0n1", "259:0", "0");
    partition("sda", "8:1");
    partition("nvme0n1", "259:1");
    EXPECT_TRUE(seeks(makedev(8, 1), sys_));
    EXPECT_FALSE(seeks(makedev(259, 1), sys_));
}

TEST_F(RequestCostTest, WhatSaysNothingSeeks) {
    EXPECT_TRUE(seeks(makedev(0, 41), sys_));
    disk("odd", "9:0", "");
    EXPECT_TRUE(seeks(makedev(9, 0), sys_));
}

}  // namespace ebb::platform
