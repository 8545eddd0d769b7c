// SPDX-License-Identifier: Apache-2.0
// Common points of replication groups: on demand, and each group's regular ones, one at a time for
// a group. Owns a thread, and one more for each regular cut under way. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "service/common_cut.h"
#include "service/controller_jobs.h"
#include "service/controller_store.h"
#include "service/group_health.h"

namespace ebb::service {

class ControllerGroupCuts {
public:
    ControllerGroupCuts(ControllerStore& store, ControllerAgents& agents, ControllerJobs& jobs)
        : store_(store), agents_(agents), jobs_(jobs) {}
    ControllerGroupCuts(const ControllerGroupCuts&) = delete;
    ControllerGroupCuts& operator=(const ControllerGroupCuts&) = delete;
    ~ControllerGroupCuts() { stop(); }

    // Begins with regular ones.
    Status start();
    // Returns when none is under way any more; their sources are told to go on alone.
    void stop();
    // A group was set or deleted.
    void changed();

    struct Wish {
        std::string name;
        bool app = false;
    };
    // One attempt, when the group has no other under way; what comes of it is kept in the group's
    // document. As CommonCut::run(); E_GROUP_MEMBER, E_GROUP_NOT_FOUND.
    Result<CutDone> cut(const std::string& group, const Wish& wish,
                        const ControllerAgents::GiveUp& give_up, const CommonCut::Tell& tell);
    // How regular ones fared.
    [[nodiscard]] GroupCourse course(const std::string& group);

private:
    using Clock = std::chrono::steady_clock;
    struct Regular {
        api::Json known;  // what of the group the times below were made of
        Clock::time_point next;
        Clock::time_point next_app;
        bool running = false;
        std::thread thread;
        GroupCourse course;
    };

    void work();
    void look();
    void consider(const std::string& name, const api::Json& group);
    void plan(Regular& regular, const api::Json& group);
    void run_regular(const std::string& name, bool app);
    void ended(const std::string& name, const Result<CutDone>& done, bool app);
    bool take_turn(const std::string& group, const ControllerAgents::GiveUp& give_up);
    void end_turn(const std::string& group);
    Result<CutDone> cut_in_turn(const std::string& group, const Wish& wish,
                                const ControllerAgents::GiveUp& give_up,
                                const CommonCut::Tell& tell);
    Status keep(const api::Json& group, const std::vector<CutMember>& members,
                const api::CommonPoint& point);

    ControllerStore& store_;
    ControllerAgents& agents_;
    ControllerJobs& jobs_;
    std::atomic<bool> stopping_ = false;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool news_ = false;                       // under mutex_, as those below
    std::set<std::string> turns_;             // groups with a cut under way
    std::map<std::string, Regular> regular_;  // by group
    std::thread thread_;
};

}  // namespace ebb::service
