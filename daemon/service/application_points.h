// SPDX-License-Identifier: Apache-2.0
// How a source makes application-consistent points: scripts are called, filesystems on tracked
// disks stand still while the cut is taken, scripts are called again. One at a time on a machine.
// On the event loop; what blocks is done by a worker. docs/operations.md, "Application-consistent
// points".
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/source.h"
#include "platform/block_table.h"
#include "platform/event_loop.h"
#include "platform/freezer.h"
#include "platform/worker.h"

namespace ebb::service {

struct ApplicationSettings {
    std::string scripts = "/etc/ebb/consistency.d";
    std::chrono::milliseconds script_limit{60'000};
    std::chrono::milliseconds freeze_limit{10'000};
};

// What is another one in tests.
struct ApplicationSurroundings {
    std::string run = "/run/ebb";  // what must outlive the daemon, and not the machine
    platform::HostPaths paths;
    std::function<Result<std::unique_ptr<platform::Freezer>>(
        const platform::FreezerOptions&, const std::vector<platform::TrackedFilesystem>&)>
        open_freezer = platform::open_freezer;
};

class ApplicationPoints {
public:
    struct Request {
        std::string protection;
        std::string name;             // of the point; may be empty
        std::set<std::string> disks;  // stable ids
        // Other machines are awaited when scripts have been called, and nothing stands still yet;
        // may be empty. What it answers keeps nobody from the rest.
        std::function<void(env::StatusCallback go)> meet;
    };
    struct Outcome {
        Status post;                       // E_APP_POST: a script failed after the cut
        std::vector<std::string> flushed;  // mount points of what cannot be frozen
    };

    ApplicationPoints(platform::EventLoop& loop, ApplicationSettings settings,
                      ApplicationSurroundings surroundings);
    ApplicationPoints(const ApplicationPoints&) = delete;
    ApplicationPoints& operator=(const ApplicationPoints&) = delete;
    // Thaws, and calls the scripts that are owed a call.
    ~ApplicationPoints();

    // Calls the scripts that an earlier run did not call after the cut. What it had left frozen was
    // thawed when this one began: main().
    void recover();
    [[nodiscard]] bool busy() const { return busy_; }
    // E_BUSY.
    [[nodiscard]] static Error is_busy();
    // For core::Source. E_BUSY: another one is being made. end() once the request was answered.
    Result<core::CheckpointRequest::Quiesce> begin(const Request& request);
    void end(env::Callback<Outcome> done);

private:
    void before(env::StatusCallback ready);
    void after(env::StatusCallback done);
    void freeze(env::StatusCallback ready);
    void finish_scripts();
    void open_gate();
    // Worker's thread.
    Status prepare(const Request& request);
    Status call_scripts_before();
    Status call_scripts_after(const std::string& result, bool at_end);
    Status call(const std::string& script, const char* phase, const std::string& result,
                bool at_end);
    Status note_owed() const;

    const ApplicationSettings settings_;
    const ApplicationSurroundings surroundings_;
    std::atomic<bool> stopping_ = false;  // what takes long asks
    bool busy_ = false;
    bool gate_closed_ = false;
    unsigned scripts_running_ = 0;  // calls after a cut, under way
    Request request_;
    Outcome outcome_;
    std::string result_;  // told to scripts
    env::Callback<Outcome> ended_;
    // The worker's own, and the destructor's once that is gone.
    std::unique_ptr<platform::Freezer> freezer_;
    std::vector<std::string> owed_;  // scripts that were called before, and not after
    Request working_on_;
    std::unique_ptr<platform::Worker> worker_;
};

}  // namespace ebb::service
