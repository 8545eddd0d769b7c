// SPDX-License-Identifier: Apache-2.0
// Looks after the health of protections and keeps a log of what changed: a problem that has come
// up, and when it was over. Owns a thread; everything else from any thread.
#pragma once

#include <condition_variable>
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
    ControllerWatch(ControllerStore& store, ControllerAgents& agents)
        : store_(store), agents_(agents) {}
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
    Status compare(const std::string& id, const api::Json& protection);
    Status compare_interval(const std::string& id, const api::Json& protection);
    Status note(const std::string& machine, const std::string& severity, const std::string& code,
                const std::string& text);

    ControllerStore& store_;
    ControllerAgents& agents_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;                           // under mutex_
    std::uint64_t next_ = 1;                          // number of the next event; the thread's own
    std::string told_;                                // what could not be written; the thread's own
    std::map<std::string, IntervalWatch> intervals_;  // by protection; the thread's own
    std::thread thread_;
};

}  // namespace ebb::service
