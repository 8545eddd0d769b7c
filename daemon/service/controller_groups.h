// SPDX-License-Identifier: Apache-2.0
// The controller's replication groups: what operators ask of them. A group's document, by name:
// "group", "machines", "interval_ms", "app_interval_ms", "gate_ms", "rpo_s", "since" (seconds: when
// its machines were named), "newest" and "newest_app" (COMMON, and "of": {machine: protection}).
// Any thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "api/operator.h"
#include "service/controller_group_cuts.h"
#include "service/controller_protections.h"

namespace ebb::service {

class ControllerGroups {
public:
    // `own_name`: of the controller, which no group may bear.
    ControllerGroups(ControllerStore& store, ControllerAgents& agents, ControllerJobs& jobs,
                     ControllerProtections& protections, std::string own_name);

    // Regular common cuts: see ControllerGroupCuts.
    Status start() { return cuts_.start(); }
    void stop() { cuts_.stop(); }

    Outcome set(const api::GroupSetCall& call);
    Outcome remove(const api::GroupCall& call);
    Outcome points(const api::GroupCall& call);
    Outcome checkpoint(const api::GroupCheckpointCall& call);
    Outcome failover(const api::GroupFailoverCall& call);
    // With their health. `protections`: as operators see them.
    Result<api::Json> all(const api::Json& protections);

private:
    using Job = ControllerJobs::Job;
    using Points = std::map<std::string, std::vector<api::Point>>;  // by machine

    Result<api::Json> group_of(const std::string& name);
    std::vector<Error> against_name(const std::string& name);
    Result<std::vector<Error>> against_members(const std::string& group,
                                               const std::vector<std::string>& machines);
    Status checkpoint_steps(Job& job, const api::GroupCheckpointCall& call);

    // controller_group_failover.cc
    // Of the targets of all of them, now; in `errors` those of whom they could not be had.
    Points points_of(const Protections& protections, std::map<std::string, Error>& errors);
    Protections protections_of(const api::Json& group, std::map<std::string, Error>& errors);
    // By machine; none: each one's newest.
    Result<std::map<std::string, std::uint64_t>> choose(const api::GroupFailoverCall& call,
                                                        const Points& points, Outcome& outcome);

    ControllerStore& store_;
    ControllerAgents& agents_;
    ControllerJobs& jobs_;
    ControllerProtections& protections_;
    const std::string own_name_;
    ControllerGroupCuts cuts_;
};

// Of several machines the same may be said.
void drop_doubles(std::vector<Error>& reasons);

// Begins one for each; {"jobs": [JOB]}, or, where one could not be begun after others were,
// E_GROUP_FAILOVER, which says which were and which not.
[[nodiscard]] Outcome begin_each(const std::string& group, const std::vector<std::string>& machines,
                                 const std::function<Outcome(const std::string& machine)>& begin);

}  // namespace ebb::service
