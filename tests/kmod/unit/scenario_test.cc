// SPDX-License-Identifier: Apache-2.0
// Scenarios: the same by the same seed, saved and read again, sound, and made smaller.
#include "model/scenario.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "model/generator.h"
#include "model/sector.h"
#include "model/shrinker.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::uint64_t seeds = 500;

// Of both kinds, by number.
Scenario make(std::uint64_t seed) {
    return seed % 2 ? generate(seed) : generate_restarts(seed);
}

TEST(Scenario, IsTheSameAfterSaving) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = make(seed);
        EXPECT_EQ(scenario, make(seed));
        auto read = parse_scenario(to_text(scenario));
        ASSERT_TRUE(read) << to_text(scenario);
        EXPECT_EQ(*read, scenario);
    }
}

TEST(Scenario, RefusesGarbage) {
    EXPECT_FALSE(parse_scenario("disk nullb 8192 512 1 0 0 0\npath 0 whole 0\n1 fly at=3\n"));
    EXPECT_FALSE(parse_scenario("disk nullb 8192 512 1 0 0 0\npath 0 whole 0\n1 direct path=1\n"));
    EXPECT_FALSE(parse_scenario("disk nullb 8192 512 1 0 0 0\npath 1 whole 0\n"));
    EXPECT_FALSE(parse_scenario("disk nullb\n"));
    // Stacked on nothing, on another such disk, beyond the end.
    const std::string nullb = "disk nullb 8192 512 1 0 0 0 0 0\n",
                      stacked = "disk stacked 8000 512 1 0 0 0 0 9\n", path = "path 0 whole 0\n";
    EXPECT_TRUE(parse_scenario(nullb + stacked + path));
    EXPECT_FALSE(parse_scenario(stacked + path));
    EXPECT_FALSE(parse_scenario(nullb + stacked + "disk stacked 80 512 1 0 0 0 0 9\n" + path));
    EXPECT_FALSE(parse_scenario(nullb + "disk stacked 8000 512 1 0 0 0 0 193\n" + path));
    // A restart, and no map device.
    EXPECT_FALSE(parse_scenario("disk nvme 8192 512 1 0 0 0\npath 0 whole 0\n0 reboot\n"));
}

// QEMU's NVMe does not honour FUA, by which maps are written.
TEST(Generator, MapsAreNotOnNvme) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed)
        EXPECT_NE(generate_restarts(seed).map, "nvme") << seed;
}

// What takes several steps to come about: data that was confirmed stays in a disk's cache, as
// nobody writes or flushes any more, until the machine goes down in order.
TEST(Generator, GoesDownInEveryWayAlsoWhenCalm) {
    std::map<Kind, int> ends;
    int calm = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = generate_restarts(seed);
        bool settled = false, written = false;
        for (const auto& o : scenario.operations) {
            if (o.lane != operator_lane) written = true;
            if (!is_boundary(o.kind)) continue;
            if (is_restart(o.kind)) ++ends[o.kind];
            calm += settled && !written && scenario.parameters["log_cool_s"] > 1 &&
                    (o.kind == Kind::reboot || o.kind == Kind::poweroff || is_halt_cut(o.kind));
            settled = o.kind == Kind::settle || o.kind == Kind::daemon;
            written = false;
        }
    }
    EXPECT_EQ(ends.size(), 7U);
    for (auto [kind, count] : ends) EXPECT_GE(count, 50) << kind_name(kind);
    EXPECT_GE(calm, 50);
}

TEST(Scenario, OnlyWhatWaitsForARequestNamesTheMapDevice) {
    const std::string disk = "disk virtio 8192 512 1 0 0 0\npath 0 whole 0\nmap virtio 512\n";
    for (const char* kind : {"cutwrite", "cutflush", "haltwrite", "haltflush"})
        EXPECT_TRUE(parse_scenario(disk + "0 " + kind + " disk=1 at=1\n")) << kind;
    for (const char* kind : {"reboot", "poweroff", "cut"})
        EXPECT_FALSE(parse_scenario(disk + "0 " + kind + " disk=1\n")) << kind;
}

// Every kind comes up, on disks that can do it.
TEST(Generator, HasEveryKind) {
    std::map<Kind, int> kinds;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = generate(seed);
        for (const auto& o : scenario.operations) {
            ++kinds[o.kind];
            const auto& disk = scenario.disks[o.disk].kind;
            const auto& written = scenario.disks[scenario.paths[o.path].disk].kind;
            EXPECT_TRUE(o.kind != Kind::erase || written == "erasable") << seed;
            EXPECT_TRUE(o.kind != Kind::passthrough || disk == "scsi") << seed;
            EXPECT_TRUE(o.kind != Kind::resize || disk == "delay" || disk == "flakey") << seed;
        }
    }
    for (Kind kind : {Kind::direct, Kind::sync, Kind::nowait, Kind::aio, Kind::uring, Kind::polled,
                      Kind::buffered, Kind::zero, Kind::discard, Kind::erase, Kind::flush,
                      Kind::passthrough, Kind::resize, Kind::reload})
        EXPECT_GE(kinds[kind], 5) << kind_name(kind);
}

// Nobody writes to the disk below but the one above, whose size would be wrong after another one.
TEST(Generator, StacksDisks) {
    int found = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = generate(seed);
        for (std::uint32_t d = 1; d < scenario.disks.size(); ++d) {
            if (scenario.disks[d].kind != "stacked") continue;
            ++found;
            for (const auto& path : scenario.paths) EXPECT_NE(path.disk, d - 1) << seed;
            for (const auto& o : scenario.operations)
                EXPECT_TRUE(o.kind != Kind::resize || o.disk != d - 1) << seed;
        }
    }
    EXPECT_GE(found, 20);
}

// Writes stay on their disks and on whole logical blocks, direct ones outside of the buffered part.
TEST(Generator, StaysInBounds) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = make(seed);
        for (const auto& o : scenario.operations) {
            if (o.kind > Kind::erase) continue;
            const PathPlan& path = scenario.paths[o.path];
            const DiskPlan& disk = scenario.disks[path.disk];
            std::uint64_t unit = disk.block / sector_bytes, border = disk.sectors * 3 / 4;
            std::uint64_t first = path.first + o.at, end = first + o.n;
            EXPECT_EQ(o.at % unit + o.n % unit + path.first % unit, 0U) << to_line(o);
            EXPECT_GT(o.n, 0U);
            EXPECT_LE(end, disk.sectors) << seed << ": " << to_line(o);
            if (o.kind == Kind::buffered) {
                EXPECT_GE(path.first + o.at / 8 * 8, border) << seed << ": " << to_line(o);
            } else {
                EXPECT_LE(end, border - 8) << seed << ": " << to_line(o);
            }
        }
    }
}

// Two lanes, and two paths of one disk, never have a page in common.
TEST(Generator, BufferedWritesHavePagesOfTheirOwn) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Scenario scenario = make(seed);
        std::vector<Operation> all;
        std::ranges::copy_if(scenario.operations, std::back_inserter(all),
                             [](const Operation& o) { return o.kind == Kind::buffered; });
        for (const auto& a : all)
            for (const auto& b : all) {
                const PathPlan &p = scenario.paths[a.path], &q = scenario.paths[b.path];
                if (p.disk != q.disk || (a.lane == b.lane && a.path == b.path)) continue;
                std::uint64_t end = p.first + (a.at + a.n + 7) / 8 * 8;
                std::uint64_t other = q.first + b.at / 8 * 8;
                std::uint64_t other_end = q.first + (b.at + b.n + 7) / 8 * 8;
                EXPECT_TRUE(end <= other || other_end <= p.first + a.at / 8 * 8)
                    << seed << ": " << to_line(a) << " and " << to_line(b);
            }
    }
}

TEST(Shrinker, FindsTheTwoThatMatter) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        Scenario scenario = generate(seed);
        const Operation first{.lane = 1, .kind = Kind::direct, .n = 8};
        const Operation second{.lane = operator_lane, .kind = Kind::frozen, .seed = 4711};
        scenario.operations.insert(scenario.operations.begin(), first);
        scenario.operations.push_back(second);
        auto fails = [&](const Scenario& s) {
            return std::ranges::count(s.operations, first) &&
                   std::ranges::count(s.operations, second);
        };
        Scenario small = shrink(scenario, fails, [] { return true; });
        EXPECT_EQ(small.operations, (std::vector<Operation>{first, second}));
        EXPECT_EQ(small.disks.size(), scenario.paths[0].disk + 1U);
        int left = 3;
        EXPECT_TRUE(fails(shrink(scenario, fails, [&] { return left-- > 0; })));
    }
}

}  // namespace
}  // namespace ebb::kmodmodel
