// SPDX-License-Identifier: Apache-2.0
// The controller's replication groups: what operators ask of them. A group's document, by name:
// "group", "machines", "interval_ms", "app_interval_ms", "gate_ms", "rpo_s", "since" (seconds: when
// its machines were named), "newest" and "newest_app" (COMMON, and "of": {machine: protection}).
// Any thread.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/operator.h"
#include "service/controller_group_cuts.h"
#include "service/controller_protections.h"

namespace ebb::service {

// Of what is begun for each machine of a group.
struct BeginWords {
    std::string what;   // "failovers"
    std::string code;   // where some could not be begun after others were
    std::string alone;  // how one is begun by itself
};

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
    Outcome change_point(const api::GroupMoveCall& call);
    Outcome rollback(const api::GroupMoveCall& call);
    Outcome test_failover(const api::GroupMoveCall& call);
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
    // What is done with all machines of a group at once, or with none; each by a job of its own.
    struct Move {
        BeginWords words;
        bool to_point = true;
        bool names_newest = false;  // each machine's is chosen now, and not when it is done
        std::function<std::vector<Error>(const api::Json& protection)> against;
        // Of a point that has been chosen; empty: nothing ever is.
        std::function<std::optional<Error>(const api::Json& protection, std::uint64_t epoch)>
            against_point;
        // `epoch` 0: the newest that there is then.
        std::function<Outcome(const api::Json& protection, std::uint64_t epoch)> begin;
    };
    Outcome move(const std::string& name, const std::string& point, bool dry_run, const Move& move);
    // By machine; 0: each one's newest.
    using Epochs = std::map<std::string, std::uint64_t>;
    Result<Epochs> choose(const std::string& group, const std::string& point, const Points& points,
                          Outcome& outcome);

    ControllerStore& store_;
    ControllerAgents& agents_;
    ControllerJobs& jobs_;
    ControllerProtections& protections_;
    const std::string own_name_;
    ControllerGroupCuts cuts_;
};

// Of several machines the same may be said.
void drop_doubles(std::vector<Error>& reasons);

// Begins one for each; {"jobs": [JOB]}, or, where one could not be begun after others were, an
// error that says which were and which not.
[[nodiscard]] Outcome begin_each(const BeginWords& words, const std::string& group,
                                 const std::vector<std::string>& machines,
                                 const std::function<Outcome(const std::string& machine)>& begin);

}  // namespace ebb::service
