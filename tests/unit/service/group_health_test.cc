// SPDX-License-Identifier: Apache-2.0
#include "service/group_health.h"

#include <gtest/gtest.h>

namespace ebb::service {
namespace {

using api::Json;

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t now = 10'000 * second;

class GroupHealthTest : public testing::Test {
protected:
    GroupHealthTest() {
        for (const char* machine : {"books", "shop"}) {
            protections_[machine] = {
                {"machine", machine}, {"id", std::string("id-") + machine}, {"state", "protected"}};
        }
    }
    static Json point(std::int64_t age_s) {
        return {{"cut", "a"},
                {"time_ns", now - age_s * second},
                {"epochs", {{"books", 5}, {"shop", 7}}},
                {"of", {{"books", "id-books"}, {"shop", "id-shop"}}}};
    }
    [[nodiscard]] std::vector<std::string> codes() const {
        std::vector<std::string> all;
        const auto found = with_group_health(group_, protections_, course_, now);
        for (const auto& problem : found["problems"]) all.push_back(api::text(problem, "code"));
        EXPECT_EQ(api::text(found, "health"), all.empty() ? "ok" : "warning");
        return all;
    }

    Json group_{{"group", "web"},        {"machines", {"books", "shop"}},
                {"interval_ms", 10'000}, {"app_interval_ms", 0},
                {"rpo_s", 60},           {"since", 0},
                {"newest", point(50)},   {"newest_app", nullptr}};
    Protections protections_;
    GroupCourse course_;
};

using Codes = std::vector<std::string>;

TEST_F(GroupHealthTest, TheAgeOfTheNewest) {
    auto found = with_group_health(group_, protections_, course_, now);
    EXPECT_EQ(found["rpo_seconds"], 50);
    EXPECT_FALSE(found["newest"].contains("of"));
    EXPECT_EQ(codes(), Codes{});
    group_["newest"] = point(61);
    EXPECT_EQ(codes(), Codes{"E_COMMON_CUT"});
    // Three intervals are always allowed; on demand there is no age that is too much.
    group_["interval_ms"] = 21'000;
    EXPECT_EQ(codes(), Codes{});
    group_["interval_ms"] = 0;
    group_["newest"] = nullptr;
    EXPECT_EQ(codes(), Codes{});
}

TEST_F(GroupHealthTest, ANewGroupIsGivenTime) {
    group_["newest"] = nullptr;
    EXPECT_EQ(codes(), Codes{"E_COMMON_CUT"});
    group_["since"] = now / second - 59;
    EXPECT_EQ(codes(), Codes{});
}

TEST_F(GroupHealthTest, FailuresInARow) {
    course_ = {2, refusal("E_COMMON_CUT", "shop: busy", "wait")};
    EXPECT_EQ(codes(), Codes{});
    course_.failures = 3;
    EXPECT_EQ(codes(), Codes{"E_COMMON_CUT"});
}

TEST_F(GroupHealthTest, MachinesThatAreNotProtected) {
    protections_["shop"]["state"] = "commit-pending";
    EXPECT_EQ(codes(), Codes{"E_GROUP_MEMBER"});
    protections_.erase("books");
    group_["newest"] = nullptr;
    EXPECT_EQ(codes(), (Codes{"E_GROUP_MEMBER", "E_GROUP_MEMBER"}));
}

TEST_F(GroupHealthTest, ApplicationConsistentOnes) {
    group_["app_interval_ms"] = 60'000;
    group_["newest_app"] = point(119);
    EXPECT_EQ(codes(), Codes{});
    group_["newest_app"] = point(121);
    EXPECT_EQ(codes(), Codes{"E_APP_OLD"});
}

TEST_F(GroupHealthTest, APointIsThereWhileAllHaveIt) {
    protections_["shop"]["oldest_epoch"] = 7;
    EXPECT_TRUE(point_there(group_, "newest", protections_).is_object());
    protections_["shop"]["oldest_epoch"] = 8;
    EXPECT_TRUE(point_there(group_, "newest", protections_).is_null());
    protections_["shop"]["oldest_epoch"] = 0;
    protections_["books"]["state"] = "failed-back";
    EXPECT_TRUE(point_there(group_, "newest", protections_).is_null());
    protections_["books"] = {{"id", "another"}, {"state", "protected"}};
    EXPECT_TRUE(point_there(group_, "newest", protections_).is_null());
}

}  // namespace
}  // namespace ebb::service
