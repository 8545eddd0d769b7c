// SPDX-License-Identifier: Apache-2.0
#include "api/agent.h"

#include <gtest/gtest.h>

#include "api/command.h"

namespace ebb::api {
namespace {

const char* const uuid = "01234567-89ab-cdef-0123-456789abcdef";

ExchangeRequest request() {
    ExchangeRequest r;
    r.version = "0.1.0";
    r.incarnation = uuid;
    r.machine = {"db1", "", "", "Debian 12", "6.1"};
    r.roles = {Role::source, Role::target};
    r.source.emplace();
    r.source->disks.push_back({"naa.1", "sda", 1 << 20, "m", "c", {"/"}, true, true, {}});
    SourceProtection p;
    p.id = uuid;
    p.state = SourceState::initial_sync;
    p.pass = PassName::live;
    p.held_max_ns = 5;
    p.resync_required = {"gap"};
    r.source->protections.push_back(p);
    r.target.emplace();
    r.target->volumes.push_back(
        {"/mnt/retention", "/dev/sdb", "ext4", 9, 8, false, {{"E_RETENTION_FAT", "a", "b"}}});
    TargetProtection t;
    t.id = uuid;
    t.newest_point = Point{4, "n", 1, 2, PointKind::crash, 3};
    r.target->protections.push_back(t);
    r.results.push_back({3, false, Json::object(), ErrorInfo{"E_BUSY", "m", ""}});
    r.events.push_back({1, Severity::critical, "source.fenced", "text", ""});
    return r;
}

TEST(Exchange, RoundTrip) {
    const auto json = encode(request());
    const auto again = decode<ExchangeRequest>(json);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_TRUE(check(*again));
    EXPECT_EQ(encode(*again), json);
    EXPECT_EQ(json["source"]["protections"][0]["state"], "initial-sync");
    EXPECT_EQ(json["target"]["protections"][0]["newest_point"]["name"], "n");
}

TEST(Exchange, EveryFieldOfEveryWrongTypeIsAnError) {
    const auto good = encode(request());
    const auto flat = good.flatten();
    std::size_t tried = 0;
    for (const auto& [path, value] : flat.items()) {
        for (const Json& wrong : {Json::array({1, 2}), Json(-1.5), Json(true), Json("\1garbage")}) {
            Json broken = good;
            broken[Json::json_pointer(path)] = wrong;
            const auto result = decode<ExchangeRequest>(broken);
            if (result) static_cast<void>(check(*result));
            if (!result) {
                EXPECT_EQ(result.error().code, ErrorCode::invalid);
            }
            ++tried;
        }
    }
    EXPECT_GT(tried, 100U);
}

TEST(Exchange, MeaninglessIsRefused) {
    auto r = request();
    r.protocol = 2;
    EXPECT_EQ(check(r).error().code, ErrorCode::version);
    r = request();
    r.machine.name = "../../etc";
    EXPECT_FALSE(check(r));
    r = request();
    r.results[0].error.reset();
    EXPECT_FALSE(check(r));
    r = request();
    r.target->volumes[0].path = "relative";
    EXPECT_FALSE(check(r));
    r = request();
    r.source->disks[0].stable_id = "";
    EXPECT_FALSE(check(r));
    r.source->disks[0].trackable = false;
    EXPECT_TRUE(check(r));
}

// Nobody knows then which points it has given up.
TEST(Exchange, ATargetOfAnOlderReleaseSaysNothingOfItsOldestEpoch) {
    auto r = request();
    r.target->protections[0].oldest_epoch = 3;
    auto json = encode(r);
    EXPECT_EQ(decode<ExchangeRequest>(json)->target->protections[0].oldest_epoch, 3U);
    json["target"]["protections"][0].erase("oldest_epoch");
    const auto older = decode<ExchangeRequest>(json);
    ASSERT_TRUE(older) << older.error().message;
    EXPECT_EQ(older->target->protections[0].oldest_epoch, 0U);
}

TEST(Commands, ArgumentsAreChecked) {
    SourceProtectArgs protect;
    protect.protection = uuid;
    protect.session = 1;
    protect.disks = {{0, "a", 4096}, {1, "b", 4096}};
    protect.target = {"::1", 9443, "mt1"};
    EXPECT_TRUE(decode_args<SourceProtectArgs>(encode(protect)));
    auto bad = protect;
    bad.disks[1].stable_id = "a";
    EXPECT_FALSE(check(bad));
    bad = protect;
    bad.disks[1].index = 2;
    EXPECT_FALSE(check(bad));
    bad = protect;
    bad.disks[1].size = 100;
    EXPECT_FALSE(check(bad));
    bad = protect;
    bad.session = 0;
    EXPECT_FALSE(check(bad));
    bad = protect;
    bad.disks.clear();
    EXPECT_FALSE(check(bad));
    EXPECT_FALSE(decode_args<SourceProtectArgs>(Json::object()));
}

TEST(Commands, ExportTravelsUnderItsName) {
    const auto json = encode(CheckpointArgs{uuid, "final", "/mnt/x"});
    EXPECT_EQ(json["export"], "/mnt/x");
    EXPECT_TRUE(decode_args<CheckpointArgs>(json));
    EXPECT_FALSE(check(CheckpointArgs{uuid, "final", "/mnt/../x"}));
}

TEST(Commands, APointMayBeOfACommonCut) {
    Point point;
    EXPECT_FALSE(decode<Point>(encode(point))->common.has_value());
    point.common = CommonMark{uuid, 5};
    const auto decoded = decode<Point>(encode(point));
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->common.value().cut, uuid);
    EXPECT_EQ(decoded->common.value().time_ns, 5);
    EXPECT_TRUE(check(CommonArgs{uuid, 7, uuid, 5}));
    EXPECT_FALSE(check(CommonArgs{uuid, 7, "7", 5}));
    EXPECT_FALSE(decode_args<CommonArgs>({{"protection", uuid}, {"epoch", 7}}));
}

TEST(Commands, ACommonCutIsOneOfManyOrOfNone) {
    CheckpointArgs args{uuid, {}, {}};
    EXPECT_FALSE(decode_args<CheckpointArgs>(encode(args))->common.has_value());
    args.common = CommonCutArgs{};
    args.common->cut = uuid;
    const auto decoded = decode_args<CheckpointArgs>(encode(args));
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->common.value().cut, uuid);
    for (const std::uint64_t ms : {min_gate_ms - 1, max_gate_ms + 1}) {
        args.common->gate_ms = ms;
        EXPECT_FALSE(check(args));
    }
    EXPECT_EQ(encode(CutArgs{uuid, uuid, CutStep::close})["step"], "close");
    EXPECT_FALSE(check(CutArgs{uuid, "7", CutStep::close}));
    EXPECT_FALSE(decode_args<CutArgs>({{"protection", uuid}, {"cut", uuid}, {"step", "shut"}}));
}

}  // namespace
}  // namespace ebb::api
