// SPDX-License-Identifier: Apache-2.0
// One attempt at a point that several machines have in common: their sources are led through the
// steps of docs/decisions/0409, side by side, and their targets told what came of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "api/command.h"
#include "api/operator.h"
#include "api/points.h"
#include "service/controller_agents.h"

namespace ebb::service {

struct CutMember {
    std::string machine;
    std::string target;
    std::string protection;  // UUID
};

struct CutOrder {
    std::vector<CutMember> members;
    std::string name;  // of the points, once they are in common; empty: none
    bool app = false;
    std::uint64_t gate_ms = api::default_group_gate_ms;

    // For what is not limited by the gates.
    struct Patience {
        std::chrono::milliseconds prepared{120'000};
        std::chrono::milliseconds ready{60'000};
        std::chrono::milliseconds exchange{3'000};  // beside what a step takes
        std::chrono::milliseconds durable{600'000};
        std::chrono::milliseconds mark{60'000};
    } patience{};
};

struct CutDone {
    api::CommonPoint point;
    std::uint64_t held_ms = 0;      // for so long, on the machine where that was longest
    std::optional<Error> degraded;  // E_COMMON_CUT: why it is not application-consistent, as asked
    std::optional<Error> after;     // what failed of scripts, or the name, when the point was there
};

class CommonCut {
public:
    // `told`: what goes on now, of the calling thread.
    using Tell = std::function<void(const std::string& step, double percent)>;

    CommonCut(ControllerAgents& agents, CutOrder order, ControllerAgents::GiveUp give_up,
              Tell tell);
    // Blocks. E_COMMON_CUT, which names the machine and its reason; E_CANCELLED by `give_up`. The
    // sources have been told to go on alone then, as far as they could be reached.
    Result<CutDone> run();

private:
    void begin();
    Status lead();
    Status step(api::CutStep step, std::chrono::milliseconds patience);
    [[nodiscard]] std::optional<Error> ended_alone() const;
    void leave();
    Status take_results();
    Status take_result(const CutMember& member, const api::CheckpointValue& value);
    Status mark();
    void give_name();
    [[nodiscard]] Status cancelled() const;

    ControllerAgents& agents_;
    const CutOrder order_;
    const ControllerAgents::GiveUp give_up_;
    const Tell tell_;
    ControllerAgents::Calls checkpoints_;  // of the members, in their order
    CutDone done_;
};

}  // namespace ebb::service
