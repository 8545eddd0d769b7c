// SPDX-License-Identifier: Apache-2.0
// What the tests of both roles share: a machine made of files, certificates, a loop, and a role
// that answers commands and tells its status.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/agent.h"
#include "service/config.h"
#include "unit/platform/machine_of_files.h"
#include "unit/service/identities.h"

namespace ebb::service {

inline constexpr Duration patience = std::chrono::seconds(60);
inline constexpr Duration soon = std::chrono::milliseconds(20);
inline constexpr Duration never = std::chrono::hours(24);
inline constexpr const char* id = "00000000-0000-4000-8000-000000000001";
inline constexpr const char* other = "00000000-0000-4000-8000-000000000002";
inline constexpr std::uint64_t size = 4 << 20;

// `part`: the member of the exchange's request that the role fills.
template <class Role, auto part>
class RoleTest : public testing::Test, protected platform::MachineOfFiles {
protected:
    explicit RoleTest(const std::string& name) : identities_(top_ / "tls") {
        config_.name = name;
        config_.folder = identities_.folder(name);
        config_.state = top_ / "state";
    }
    ~RoleTest() override { role_.reset(); }

    template <class Surroundings>
    void start_with(const Surroundings& surroundings) {
        role_.reset();
        auto role = Role::start(loop_, config_, nullptr, surroundings);
        ASSERT_TRUE(role) << role.error().message;
        role_ = std::move(*role);
    }
    Result<api::Json> run(const std::string& kind, const api::Json& args) {
        std::optional<Result<api::Json>> answer;
        role_->run({1, kind, args}, [&](Result<api::Json> value) { answer = std::move(value); });
        if (!loop_.run_until([&] { return answer.has_value(); }, patience))
            return fail(ErrorCode::timeout, "no answer to " + kind);
        return std::move(*answer);
    }
    // What the role tells the controller; none: it does not tell anything.
    auto told() {
        api::ExchangeRequest request;
        (void)loop_.run_until([&] { return role_->fill(request); }, patience);
        return std::move(request.*part);
    }
    auto status(const char* protection = id) {
        const auto request = told();
        using Protections = std::remove_cvref_t<decltype(request->protections)>;
        std::optional<typename Protections::value_type> found;
        if (!request) return found;
        for (const auto& p : request->protections) {
            if (p.id == protection) found = p;
        }
        return found;
    }
    // Empty: it is not listed, or never in error.
    std::string error() {
        std::string code;
        (void)loop_.run_until(
            [&] {
                const auto p = status();
                code = p && p->error ? p->error->code : "";
                return !p || p->state == decltype(p->state)::error;
            },
            patience);
        return code;
    }

    platform::EventLoop loop_;
    Config config_;
    Identities identities_;
    std::unique_ptr<Role> role_;
};

}  // namespace ebb::service
