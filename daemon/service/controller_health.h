// SPDX-License-Identifier: Apache-2.0
// How a protection fares, from what its two agents last said. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "service/controller_agents.h"

namespace ebb::service {

// The protection's document with what only the agents know: "newest_point", "rpo_seconds" (its age,
// by the source's clock where "rpo_clock" says so, which is the clock that took its cut),
// "rpo_limit_s", "newest_app_point", "app_seconds", "interval_effective_ms", "pace" (why it is not
// the interval), "interval_why" (both in a sentence, where it is not), "points", "retention_bytes",
// "rollback_bytes", "source" and "target" (their states), "health" (ok, warning, critical) and
// "problems" (ERROR each, the gravest first).
[[nodiscard]] api::Json with_health(api::Json protection, const std::optional<AgentView>& source,
                                    const std::optional<AgentView>& target, std::int64_t now_ns);

// What speaks against relying on an agent now; nothing if it is well.
[[nodiscard]] std::optional<Error> agent_problem(const std::string& name,
                                                 const std::optional<AgentView>& view);

// Its part of the protection, in the view; null if it has none.
[[nodiscard]] const api::SourceProtection* source_part(const std::optional<AgentView>& view,
                                                       const std::string& protection);
[[nodiscard]] const api::TargetProtection* target_part(const std::optional<AgentView>& view,
                                                       const std::string& protection);
[[nodiscard]] const api::TargetProtection* target_part(const AgentView& view,
                                                       const std::string& protection);
// A part would outlive a view that nobody keeps.
const api::SourceProtection* source_part(std::optional<AgentView>&&, const std::string&) = delete;
const api::TargetProtection* target_part(std::optional<AgentView>&&, const std::string&) = delete;
const api::TargetProtection* target_part(AgentView&&, const std::string&) = delete;

// A machine that was started for a test failover, or may have been, and was not cleaned up.
[[nodiscard]] bool has_test(const api::Json& protection);
[[nodiscard]] Error test_runs(const std::string& machine);

}  // namespace ebb::service
