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

TEST(ControllerHealth, AMachineThatCameHomeNeedsNobody) {
    const auto judged = with_health(protection("failed-back"), std::nullopt, std::nullopt, now);
    EXPECT_EQ(judged["health"], "ok");
}

}  // namespace
}  // namespace ebb::service
