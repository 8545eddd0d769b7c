// SPDX-License-Identifier: Apache-2.0
#include "platform/initramfs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine_of_files.h"

namespace ebb::platform {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class InitramfsTest : public testing::Test, protected MachineOfFiles {
protected:
    InitramfsTest() {
        places_ = {top_ / "notes", top_ / "boot", top_ / "modules", "6.1"};
        wanted_.map.emplace();
        wanted_.map->bytes.fill(std::byte{7});
        wanted_.disks = {"naa.1", "naa.2"};
    }
    void made(const std::string& release, const MapConfig& config) {
        write("notes/" + release, map_config_text(config));
    }
    InitramfsPlaces places_;
    MapConfig wanted_;
};

TEST_F(InitramfsTest, IsOldUntilItHasAllDisksAndTheMap) {
    EXPECT_THAT(outdated_initramfs(wanted_, places_), ElementsAre("6.1"));
    auto less = wanted_;
    less.remove("naa.2");
    made("6.1", less);
    EXPECT_THAT(outdated_initramfs(wanted_, places_), ElementsAre("6.1"));
    auto other = wanted_;
    other.map->bytes.fill(std::byte{8});
    made("6.1", other);
    EXPECT_THAT(outdated_initramfs(wanted_, places_), ElementsAre("6.1"));
    made("6.1", wanted_);
    EXPECT_THAT(outdated_initramfs(wanted_, places_), IsEmpty());
    // One disk less to attach does no harm.
    EXPECT_THAT(outdated_initramfs(less, places_), IsEmpty());
    write("notes/6.1", "damaged");
    EXPECT_THAT(outdated_initramfs(wanted_, places_), ElementsAre("6.1"));
    // Nothing is to be attached.
    EXPECT_THAT(outdated_initramfs({}, places_), IsEmpty());
}

TEST_F(InitramfsTest, EveryKernelThatMayBeBootedCounts) {
    for (const char* file :
         {"initrd.img-6.1", "initrd.img-6.12", "initrd.img-6.12.bak", "vmlinuz-6.6",
          "initramfs-5.14.img", "initramfs-0-rescue-8.img", "initramfs-5.14kdump.img"})
        write(std::string("boot/") + file, "");
    for (const char* release : {"6.1", "6.12", "5.14", "6.6"})
        write(std::string("modules/") + release + "/modules.dep", "");
    EXPECT_THAT(outdated_initramfs(wanted_, places_), ElementsAre("5.14", "6.1", "6.12"));
    made("5.14", wanted_);
    made("6.1", wanted_);
    EXPECT_THAT(outdated_initramfs(wanted_, places_), ElementsAre("6.12"));
}

}  // namespace
}  // namespace ebb::platform
