// SPDX-License-Identifier: Apache-2.0
// ebbd's side of freezing, with the watchdog as it is built: over filesystems in memory, which
// cannot be frozen and are flushed instead. Those that can are in tests/vm/consistency_test.py.
#include "platform/freezer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "platform/freeze_record.h"

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

class KeptFreezer : public testing::Test {
protected:
    KeptFreezer() {
        std::string pattern = testing::TempDir() + "ebb-freezer-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        options_.record = top_ + "/run/frozen";
        options_.program =
            fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "ebb-freeze";
    }
    ~KeptFreezer() override { fs::remove_all(top_); }
    void SetUp() override {
        if (!fs::exists(options_.program)) GTEST_SKIP() << options_.program << " is not built";
    }
    std::string refused(const std::vector<TrackedFilesystem>& filesystems) {
        auto freezer = open_freezer(options_, filesystems);
        return freezer ? "" : std::string(freezer.error().name());
    }

    const std::vector<TrackedFilesystem> in_memory_{{"0:5", "/dev/shm", "tmpfs"},
                                                    {"0:4", "/proc", "proc"}};
    std::string top_;
    FreezerOptions options_;
};

TEST_F(KeptFreezer, WhatCannotBeFrozenIsFlushedAndNamed) {
    auto freezer = open_freezer(options_, in_memory_);
    ASSERT_TRUE(freezer) << freezer.error().message;
    EXPECT_TRUE(fs::exists(options_.record));
    auto frozen = (*freezer)->freeze();
    EXPECT_TRUE(frozen) << frozen.error().message;
    EXPECT_THAT((*freezer)->flushed(), ElementsAre("/dev/shm", "/proc"));
    auto thawed = (*freezer)->thaw();
    EXPECT_TRUE(thawed) << thawed.error().message;
    freezer->reset();
    EXPECT_FALSE(fs::exists(options_.record));
}

TEST_F(KeptFreezer, NothingIsLeftOfOneThatIsGivenUp) {
    {
        auto freezer = open_freezer(options_, in_memory_);
        ASSERT_TRUE(freezer);
    }
    EXPECT_FALSE(fs::exists(options_.record));
}

TEST_F(KeptFreezer, AWatchdogThatIsNotThereIsNamed) {
    options_.program = top_ + "/nowhere";
    EXPECT_EQ(refused(in_memory_), "E_APP_FREEZER");
    options_.program = "/bin/true";
    EXPECT_EQ(refused(in_memory_), "E_APP_FREEZER");
    EXPECT_FALSE(fs::exists(options_.record));
}

TEST_F(KeptFreezer, AMountPointThatIsGoneIsNamed) {
    EXPECT_EQ(refused({{"0:5", top_ + "/gone", "ext4"}}), "E_NOT_FOUND");
}

TEST_F(KeptFreezer, NobodyWaitsAnyMore) {
    options_.give_up = [] { return true; };
    EXPECT_EQ(refused(in_memory_), "E_APP_FREEZER");
}

}  // namespace
}  // namespace ebb::platform
