// SPDX-License-Identifier: Apache-2.0
#include "service/config.h"

#include <gtest/gtest.h>

#include <string>

namespace ebb::service {
namespace {

Result<Config> with(const std::string& part) {
    return parse_config(R"({"name": "shop", "roles": ["source", "target"])" +
                            (part.empty() ? "" : ", " + part) + "}",
                        "ebbd.json");
}

TEST(ConfigTest, WhatIsNotNamedIsAsTheManualSays) {
    const auto config = with("");
    ASSERT_TRUE(config.has_value()) << config.error().message;
    EXPECT_EQ(config->target.retention_all_hours, 2U);
    EXPECT_EQ(config->target.retention_thin_minutes, 60U);
    EXPECT_EQ(config->target.retention_hours, 24U);
    EXPECT_EQ(config->target.serve_index_mib, 256U);
    EXPECT_EQ(config->source.verify_mib_per_s, 64U);
    EXPECT_EQ(config->source.app_freeze_seconds, 10U);
}

TEST(ConfigTest, WhatIsNamedCounts) {
    const auto config = with(R"("target": {"serve_index_mib": 1024, "retention_hours": 72})");
    ASSERT_TRUE(config.has_value()) << config.error().message;
    EXPECT_EQ(config->target.serve_index_mib, 1024U);
    EXPECT_EQ(config->target.retention_hours, 72U);
}

// Each says which setting it is, and what may be given.
TEST(ConfigTest, WhatCannotBeIsNamed) {
    const std::pair<const char*, const char*> cases[] = {
        {R"("target": {"serve_index_mib": 0})", "serve_index_mib"},
        {R"("target": {"serve_index_mib": 1048577})", "serve_index_mib"},
        {R"("target": {"retention_hours": 0})", "retention_hours"},
        {R"("target": {"retention_hours": 87601})", "retention_hours"},
        {R"("target": {"retention_limit_mib": 1073741825})", "retention_limit_mib"},
        {R"("target": {"retention_all_hours": 87601})", "retention_all_hours"},
        {R"("target": {"retention_thin_minutes": 10081})", "retention_thin_minutes"},
        {R"("source": {"verify_mib_per_s": 1048577})", "verify_mib_per_s"},
        {R"("source": {"app_script_seconds": 0})", "app_script_seconds"},
        {R"("source": {"app_freeze_seconds": 61})", "app_freeze_seconds"},
        {R"("source": {"app_scripts": "here"})", "app_scripts"},
    };
    for (const auto& [part, name] : cases) {
        const auto config = with(part);
        ASSERT_FALSE(config.has_value()) << part;
        EXPECT_EQ(config.error().code, ErrorCode::invalid) << part;
        EXPECT_NE(config.error().message.find(name), std::string::npos) << config.error().message;
        EXPECT_FALSE(config.error().remedy.empty()) << part;
    }
}

TEST(ConfigTest, ALogNeedsAMap) {
    const std::string disk = R"("disks": [{"stable_id": "d0", "tracking": "intent-log"}])";
    EXPECT_FALSE(with(R"("source": {)" + disk + "}").has_value());
    EXPECT_TRUE(with(R"("source": {"map": "/dev/disk/by-id/m", )" + disk + "}").has_value());
}

}  // namespace
}  // namespace ebb::service
