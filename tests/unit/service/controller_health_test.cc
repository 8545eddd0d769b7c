// SPDX-License-Identifier: Apache-2.0
#include "service/controller_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ebb::service {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* id = "00000000-0000-4000-8000-000000000001";
constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t now = 10'000 * second;

api::Json protection(const std::string& state) {
    return {{"id", id},       {"machine", "shop"},    {"target", "vault"},
            {"state", state}, {"interval_ms", 5'000}, {"preparing", false}};
}

AgentView source_view() {
    AgentView view;
    view.last.source.emplace();
    view.last.source->module.loaded = true;
    api::SourceProtection part;
    part.id = id;
    part.state = api::SourceState::replicating;
    view.last.source->protections.push_back(part);
    return view;
}

AgentView target_view(std::int64_t age_seconds) {
    AgentView view;
    view.last.target.emplace();
    api::TargetProtection part;
    part.id = id;
    part.state = api::TargetState::receiving;
    part.newest_point.emplace();
    part.newest_point->epoch = 7;
    part.newest_point->cut_time_ns = now - age_seconds * second;
    view.last.target->protections.push_back(part);
    return view;
}

std::vector<std::string> codes(const api::Json& judged) {
    std::vector<std::string> list;
    for (const auto& problem : judged["problems"]) {
        list.push_back(problem["code"].get<std::string>());
        EXPECT_FALSE(problem["remedy"].get<std::string>().empty()) << list.back();
    }
    return list;
}

TEST(ControllerHealth, AllIsWell) {
    const auto judged = with_health(protection("protected"), source_view(), target_view(4), now);
    EXPECT_EQ(judged["health"], "ok");
    EXPECT_THAT(codes(judged), IsEmpty());
    EXPECT_DOUBLE_EQ(judged["rpo_seconds"].get<double>(), 4);
}

TEST(ControllerHealth, APointThatIsOldIsAWarning) {
    auto judged = with_health(protection("protected"), source_view(), target_view(299), now);
    EXPECT_EQ(judged["health"], "ok");
    judged = with_health(protection("protected"), source_view(), target_view(301), now);
    EXPECT_EQ(judged["health"], "warning");
    EXPECT_THAT(codes(judged), ElementsAre("E_POINT_OLD"));
    // On demand only: nobody waits for the next.
    auto rare = protection("protected");
    rare["interval_ms"] = 0;
    EXPECT_EQ(with_health(rare, source_view(), target_view(9'000), now)["health"], "ok");
}

// Cut times are of the source's clock, and so is what they are compared with.
TEST(ControllerHealth, TheAgeOfAPointIsOfTheClockThatTookItsCut) {
    auto source = source_view();
    source.last.source->clock_ns = now - 5'000 * second;  // it goes wrong by that much
    auto judged = with_health(protection("protected"), source, target_view(5'003), now);
    EXPECT_DOUBLE_EQ(judged["rpo_seconds"].get<double>(), 3);
    EXPECT_EQ(judged["rpo_clock"], "source");
    EXPECT_EQ(judged["health"], "ok");
    // What has passed since it spoke counts, too.
    source.seconds_silent = 10;
    judged = with_health(protection("protected"), source, target_view(5'003), now);
    EXPECT_DOUBLE_EQ(judged["rpo_seconds"].get<double>(), 13);
    judged = with_health(protection("protected"), std::nullopt, target_view(4), now);
    EXPECT_EQ(judged["rpo_clock"], "controller");
}

TEST(ControllerHealth, ThePolicyIsTheProtectionsOwnAndTheReasonIsTold) {
    auto strict = protection("protected");
    strict["rpo_s"] = 60;
    EXPECT_EQ(with_health(strict, source_view(), target_view(59), now)["health"], "ok");
    const auto message = [&](api::Pace pace) {
        auto source = source_view();
        source.last.source->protections[0].pace = pace;
        const auto judged = with_health(strict, source, target_view(61), now);
        EXPECT_THAT(codes(judged), ElementsAre("E_POINT_OLD"));
        return judged["problems"][0]["message"].get<std::string>();
    };
    EXPECT_THAT(message(api::Pace::kept), testing::HasSubstr("60 are allowed"));
    EXPECT_THAT(message(api::Pace::link), testing::HasSubstr("takes longer to send"));
    EXPECT_THAT(message(api::Pace::voids), testing::HasSubstr("given up"));
    EXPECT_THAT(message(api::Pace::disconnected), testing::HasSubstr("no connection"));
    EXPECT_THAT(message(api::Pace::target_waits), testing::HasSubstr("takes nothing"));
    EXPECT_THAT(message(api::Pace::quiescing), testing::HasSubstr("scripts"));
    // Three intervals are always allowed.
    strict["interval_ms"] = 30'000;
    EXPECT_EQ(with_health(strict, source_view(), target_view(89), now)["health"], "ok");
    EXPECT_EQ(with_health(strict, source_view(), target_view(91), now)["health"], "warning");
}

TEST(ControllerHealth, ApplicationConsistentPoints) {
    auto target = target_view(1);
    auto& part = target.last.target->protections[0];
    part.oldest_point_ns = now - 7'100 * second;
    EXPECT_EQ(with_health(protection("protected"), source_view(), target, now)["health"], "ok");
    part.oldest_point_ns = now - 7'300 * second;
    EXPECT_THAT(codes(with_health(protection("protected"), source_view(), target, now)),
                ElementsAre("E_APP_OLD"));
    part.newest_app_point = part.newest_point;
    const auto judged = with_health(protection("protected"), source_view(), target, now);
    EXPECT_EQ(judged["health"], "ok");
    EXPECT_DOUBLE_EQ(judged["app_seconds"].get<double>(), 1);
    part.newest_app_point->cut_time_ns = now - 7'300 * second;
    EXPECT_THAT(codes(with_health(protection("protected"), source_view(), target, now)),
                ElementsAre("E_APP_OLD"));
    auto never = protection("protected");
    never["app_interval_ms"] = 0;
    EXPECT_EQ(with_health(never, source_view(), target, now)["health"], "ok");
    auto failed = source_view();
    failed.last.source->protections[0].app.error =
        api::ErrorInfo{"E_APP_SCRIPT", "10-db failed", "See its log"};
    EXPECT_THAT(codes(with_health(never, failed, target, now)), ElementsAre("E_APP_SCRIPT"));
}

TEST(ControllerHealth, AgentsThatAreSilentOrRevoked) {
    auto silent = source_view();
    silent.seconds_silent = ControllerAgents::silent_seconds + 1;
    auto judged = with_health(protection("protected"), silent, target_view(1), now);
    EXPECT_EQ(judged["health"], "critical");
    EXPECT_THAT(codes(judged), ElementsAre("E_AGENT_SILENT"));
    AgentView revoked;
    revoked.revoked = true;
    judged = with_health(protection("protected"), revoked, target_view(1), now);
    EXPECT_THAT(codes(judged), ElementsAre("E_REVOKED"));
    judged = with_health(protection("protected"), source_view(), std::nullopt, now);
    EXPECT_THAT(codes(judged), ElementsAre("E_AGENT_NOT_REGISTERED"));
}

TEST(ControllerHealth, TheGravestComesFirst) {
    auto source = source_view();
    source.last.source->protections[0].resync_required = {"sg-io"};
    source.last.source->module.loaded = false;
    const auto judged = with_health(protection("protected"), source, target_view(400), now);
    EXPECT_EQ(judged["health"], "critical");
    EXPECT_THAT(codes(judged),
                ElementsAre("E_MODULE_NOT_LOADED", "E_RESYNC_REQUIRED", "E_POINT_OLD"));
}

TEST(ControllerHealth, WhatTheMachineWarnsOfIsShown) {
    auto source = source_view();
    source.last.source->warnings = {{"E_INITRAMFS_OLD", "the initramfs is old", "Make it anew"}};
    const auto judged = with_health(protection("protected"), source, target_view(1), now);
    EXPECT_EQ(judged["health"], "warning");
    EXPECT_THAT(codes(judged), ElementsAre("E_INITRAMFS_OLD"));
}

TEST(ControllerHealth, AgentsThatHaveForgottenIt) {
    auto source = source_view();
    source.last.source->protections.clear();
    auto target = target_view(1);
    target.last.target->protections.clear();
    EXPECT_THAT(codes(with_health(protection("protected"), source, target, now)),
                ElementsAre("E_NOT_REPLICATING", "E_NOT_REPLICATING"));
    auto young = protection("initial-sync");
    young["preparing"] = true;
    EXPECT_THAT(codes(with_health(young, source, target, now)), IsEmpty());
}

TEST(ControllerHealth, AFullVolumeIsCritical) {
    auto target = target_view(1);
    target.last.target->protections[0].error =
        api::ErrorInfo{"E_NO_SPACE", "/mnt/retention is full", "Make room"};
    const auto judged = with_health(protection("protected"), source_view(), target, now);
    EXPECT_EQ(judged["health"], "critical");
    EXPECT_THAT(codes(judged), ElementsAre("E_NO_SPACE"));
}

TEST(ControllerHealth, WhatVerificationsFound) {
    auto document = protection("protected");
    document["retention_verified"] = {
        {"time", 7},
        {"outcome", "full"},
        {"damage", {{"time", 6}, {"message", "epoch-3"}, {"newest_epoch", 6}}}};
    document["damaged_points"] = {{{"epoch", 4}, {"different_bytes", 512}}};
    auto target = target_view(1);
    auto judged = with_health(document, source_view(), target, now);
    EXPECT_EQ(judged["health"], "critical");
    EXPECT_THAT(codes(judged),
                ElementsAre("E_RETENTION_DAMAGED", "E_POINT_DIFFERS", "E_RETENTION_UNREAD"));
    // The target has given up all that there was then.
    target.last.target->protections[0].oldest_epoch = 7;
    judged = with_health(document, source_view(), target, now);
    EXPECT_EQ(judged["health"], "warning");
    EXPECT_THAT(codes(judged), ElementsAre("E_RETENTION_UNREAD"));
    EXPECT_THAT(judged["damaged_points"], IsEmpty());
    EXPECT_TRUE(judged["retention_verified"]["damage"].is_null());
}

TEST(ControllerHealth, AMachineThatCameHomeNeedsNobody) {
    const auto judged = with_health(protection("failed-back"), std::nullopt, std::nullopt, now);
    EXPECT_EQ(judged["health"], "ok");
}

TEST(ControllerHealth, AnIntervalThatIsNotKeptIsASentence) {
    auto source = source_view();
    auto& part = source.last.source->protections[0];
    part.interval_ms = 5'000;
    part.effective_interval_ms = 12'345;
    const auto words = [&] {
        return with_health(protection("protected"), source, target_view(4), now)
            .value("interval_why", "");
    };
    EXPECT_EQ(words(), "");
    part.pace = api::Pace::link;
    part.rate_bytes_per_s = 2 << 20;
    part.epoch_ms = 11'000;
    part.epoch_bytes = 22 << 20;
    EXPECT_EQ(words(),
              "points are 12 s apart, not the 5 s that are asked for: what changes takes longer to "
              "send, at 2048 KiB/s; the newest took 11 s for 22528 KiB");
    part.pace = api::Pace::voids;
    EXPECT_EQ(words(),
              "points are 12 s apart, not the 5 s that are asked for: cuts had to be given up, so "
              "that no writer had to wait");
    // Well within the policy it is no problem.
    EXPECT_EQ(with_health(protection("protected"), source, target_view(20), now)["health"], "ok");
    part.pace = api::Pace::on_demand;
    EXPECT_EQ(words(), "");
}

}  // namespace
}  // namespace ebb::service
