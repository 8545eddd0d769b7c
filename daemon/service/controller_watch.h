// SPDX-License-Identifier: Apache-2.0
// Looks after the health of protections and groups, and keeps a log of what changed: a problem that
// has come up, and when it was over. Owns a thread; everything else from any thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "service/controller_agents.h"
#include "service/controller_store.h"
#include "service/interval_watch.h"

namespace ebb::service {

class ControllerWatch {
public:
    // Groups with their health, of protections as protections() gives them.
    using Groups = std::function<Result<api::Json>(const api::Json& protections)>;

    ControllerWatch(ControllerStore& store, ControllerAgents& agents, Groups groups)
        : store_(store), agents_(agents), groups_(std::move(groups)) {}
    ControllerWatch(const ControllerWatch&) = delete;
    ControllerWatch& operator=(const ControllerWatch&) = delete;
    ~ControllerWatch() { stop(); }

    // Goes on with what the last run of the controller had seen.
    Status start();
    void stop();
    // Protections with their health, as `ebbctl` shows them.
    Result<api::Json> protections();
    // Oldest first: {"time_ns", "machine", "severity", "code", "text"}.
    Result<api::Json> events();

private:
    void work();
    Status look();
    // `key`: under which its problems are kept; `name`: of the machine or group.
    Status compare(const std::string& key, const std::string& name, const api::Json& watched);
    Status compare_interval(const std::string& id, const api::Json& protection);
    Status note(const std::string& machine, const std::string& severity, const std::string& code,
                const std::string& text);

    ControllerStore& store_;
    ControllerAgents& agents_;
    const Groups groups_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;                           // under mutex_
    std::uint64_t next_ = 1;                          // number of the next event; the thread's own
    std::string told_;                                // what could not be written; the thread's own
    std::map<std::string, IntervalWatch> intervals_;  // by protection; the thread's own
    std::thread thread_;
};

}  // namespace ebb::service
