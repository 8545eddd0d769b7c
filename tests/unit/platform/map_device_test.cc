// SPDX-License-Identifier: Apache-2.0
// Map devices and what a machine remembers of its boots, on a machine made of files.
#include "platform/map_device.h"

#include <gtest/gtest.h>

#include "base/uuid_text.h"
#include "machine_of_files.h"
#include "platform/file_store.h"
#include "platform/map_config.h"
#include "platform/netlink.h"
#include "platform/restart_record.h"

namespace ebb::platform {
namespace {

Uuid uuid(int number) {
    Uuid value;
    value.bytes.fill(static_cast<std::byte>(number));
    return value;
}

class MapDeviceTest : public testing::Test, protected MachineOfFiles {
protected:
    MapDeviceTest() {
        const auto sda = disk("sda", "8:0", "naa.1");
        partition(sda, "sda1", "8:1");
        partition(sda, "sda2", "8:2");
        write("sys/class/block/sda1/uevent", "DEVNAME=sda1\nPARTNAME=root\n");
        write("sys/class/block/sda2/uevent", "DEVNAME=sda2\nPARTNAME=ebb-map\n");
        disk("sdb", "8:16", "naa.2");
    }
    [[nodiscard]] std::string node(const std::string& name) const { return top_ / "dev" / name; }
    Result<MapDevice> find(const std::optional<Uuid>& id = {}) {
        auto table = BlockTable::load(host_.paths);
        if (!table) return std::unexpected(table.error());
        return MapDevice::find(*table, id);
    }
};

TEST_F(MapDeviceTest, IsFoundByItsNameOrAsAWholeDisk) {
    EXPECT_EQ(find().error().name(), "E_MAP_NOT_FOUND");
    auto made = MapDevice::create(node("sda2"), false);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    auto found = find();
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->directory().uuid, made->directory().uuid);
    // A partition of another name is somebody else's, whatever is on it.
    ASSERT_TRUE(MapDevice::create(node("sda1"), false).has_value());
    EXPECT_TRUE(find().has_value());
    auto other = MapDevice::create(node("sdb"), false);
    ASSERT_TRUE(other.has_value());
    EXPECT_EQ(find().error().name(), "E_MAP_AMBIGUOUS");
    EXPECT_EQ(find(other->directory().uuid)->node(), node("sdb"));
    EXPECT_EQ(find(uuid(3)).error().name(), "E_MAP_NOT_FOUND");
}

TEST_F(MapDeviceTest, OneOfTwoCopiesIsWholeAtAnyMoment) {
    auto map = MapDevice::create(node("sdb"), false);
    ASSERT_TRUE(map.has_value());
    for (int i = 0; i < 5; ++i) {
        auto directory = map->directory();
        ASSERT_TRUE(directory.reserve("naa." + std::to_string(i), 8 * mib, 1).has_value());
        ASSERT_TRUE(map->store(std::move(directory)).has_value());
        EXPECT_EQ(MapDevice::open(node("sdb"))->directory().slots, map->directory().slots);
    }
    // The newer one torn: the state before it.
    const bool second = map->directory().sequence % 2 == 1;
    put("sdb", (second ? format::directory_second_copy : 0) + 300, "torn");
    EXPECT_EQ(MapDevice::open(node("sdb"))->directory().slots.size(), 4U);
    put("sdb", (second ? 0 : format::directory_second_copy) + 300, "torn");
    EXPECT_EQ(MapDevice::open(node("sdb")).error().name(), "E_MAP_DAMAGED");
    EXPECT_EQ(find().error().name(), "E_MAP_DAMAGED");
}

TEST_F(MapDeviceTest, WhatHoldsSomethingIsNotTaken) {
    put("sdb", 70000, "data");
    EXPECT_EQ(MapDevice::create(node("sdb"), false).error().name(), "E_MAP_IN_USE");
    EXPECT_TRUE(MapDevice::create(node("sdb"), true).has_value());
    disk("sdc", "8:32", "naa.3", lsi, mib);
    EXPECT_EQ(MapDevice::create(node("sdc"), true).error().name(), "E_MAP_FULL");
}

TEST(MapConfig, ComesBackAndNamesWhatIsWrong) {
    MapConfig config;
    config.map = uuid(0xa5);
    config.add("naa.1");
    config.add("naa.2");
    config.add("naa.1");
    EXPECT_EQ(*parse_map_config(map_config_text(config)), config);
    config.remove("naa.1");
    EXPECT_FALSE(config.has("naa.1"));
    EXPECT_EQ(parse_map_config("disk naa.1\ndisk\n").error().code, ErrorCode::invalid);
    EXPECT_FALSE(parse_map_config("map 12\n").has_value());
    EXPECT_TRUE(parse_map_config("# nothing\n\n").has_value());
}

class RestartRecordTest : public testing::Test, protected MachineOfFiles {
protected:
    RestartRecordTest() : path_(top_ / "state/restarts"), now_(*boot_id()) {}
    // As if the boots had been seen before this one, and the disk settled in the first.
    std::shared_ptr<RestartRecord> open(std::vector<Boot> boots) {
        RestartState state;
        state.settled["naa.1"] = boots.front().id;
        state.boots = std::move(boots);
        EXPECT_TRUE(make_directories(top_ / "state").has_value());
        EXPECT_TRUE(replace_file(path_, restart_state_text(state), private_mode).has_value());
        auto record = RestartRecord::open(path_, top_ / "crash");
        EXPECT_TRUE(record.has_value());
        return *record;
    }
    using Reasons = std::vector<std::string>;
    std::string path_;
    Uuid now_;
};

TEST_F(RestartRecordTest, ABootThatTheMapDoesNotKnowIsAGap) {
    const auto record = open({{uuid(1), 10}, {uuid(2), 20}});
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), uuid(2), now_}, true), Reasons{});
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true),
              Reasons{"boot-without-module"});
    // A new map has its own reason.
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {now_}, false), Reasons{});
    ASSERT_TRUE(record->settle("naa.1", uuid(9)).has_value());
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{});
    // Boots before all of it was marked, and those that the map has forgotten, say nothing.
    EXPECT_EQ(record->gaps("naa.2", uuid(9), {uuid(2), now_}, true), Reasons{});
}

TEST_F(RestartRecordTest, AMapThatWentBackIsNoBootWithoutTheModule) {
    const auto relied = "\nrelied naa.1 " + to_text(uuid(2)) + "\n";
    auto record = open({{uuid(1), 10}, {uuid(2), 20}});
    const auto text = *read_file(path_);
    ASSERT_TRUE(replace_file(path_, text + relied, private_mode).has_value());
    record = *RestartRecord::open(path_, top_ / "crash");
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{"map-out-of-step"});
    // That it is relied on is noted, and stays so.
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), uuid(2), now_}, true), Reasons{});
    EXPECT_EQ(parse_restart_state(*read_file(path_)).relied["naa.1"], now_);
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1)}, true), Reasons{"map-out-of-step"});
}

TEST_F(RestartRecordTest, AMapThatFailedIsNotBelievedLater) {
    auto record = open({{uuid(1), 10}});
    ASSERT_TRUE(record->distrust(uuid(9)).has_value());
    record = *RestartRecord::open(path_, top_ / "crash");
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{"map-failed"});
    EXPECT_EQ(record->gaps("naa.1", uuid(8), {uuid(1), now_}, true), Reasons{});
    ASSERT_TRUE(record->settle("naa.1", uuid(9)).has_value());
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{});
}

TEST_F(RestartRecordTest, WhatCouldNotBeNotedIsNotedAtTheNextTry) {
    auto record = open({{uuid(1), 10}});
    const auto folder = std::filesystem::path(path_).parent_path();
    std::filesystem::rename(folder, top_ / "away");
    write(folder.filename(), "no folder");
    EXPECT_FALSE(record->distrust(uuid(9)).has_value());
    std::filesystem::remove(folder);
    std::filesystem::rename(top_ / "away", folder);
    ASSERT_TRUE(record->distrust(uuid(9)).has_value());
    record = *RestartRecord::open(path_, top_ / "crash");
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{"map-failed"});
}

TEST_F(RestartRecordTest, ADumpBetweenTwoBootsIsAGap) {
    write("crash/202611211200/dump.1", "core");
    std::filesystem::last_write_time(
        top_ / "crash/202611211200/dump.1",
        std::filesystem::file_time_type::clock::now() - std::chrono::hours(24 * 365));
    auto record = open({{uuid(1), 10}});
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{"kdump"});
    // One from before that boot is old news.
    record = open({{uuid(1), 4'000'000'000}});
    EXPECT_EQ(record->gaps("naa.1", uuid(9), {uuid(1), now_}, true), Reasons{});
}

TEST(RestartState, ComesBack) {
    RestartState state;
    state.boots = {{uuid(1), 5}, {uuid(2), 7}};
    state.settled = {{"naa.1", uuid(1)}};
    state.relied = {{"naa.1", uuid(2)}};
    state.distrusted = {uuid(4)};
    EXPECT_EQ(parse_restart_state(restart_state_text(state)), state);
    EXPECT_EQ(parse_restart_state("boot x 1\nsettled a\n\nwhat\n"), RestartState{});
}

}  // namespace
}  // namespace ebb::platform
