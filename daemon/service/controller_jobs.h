// SPDX-License-Identifier: Apache-2.0
// The controller's jobs: each on a thread of its own, its document (docs/control-protocol.md) in
// the store, so that it outlives the controller. One at a time for a machine. Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "api/error.h"
#include "api/operator.h"
#include "service/controller_store.h"

namespace ebb::service {

class ControllerJobs {
public:
    class Job {
    public:
        explicit Job(ControllerJobs& jobs) : jobs_(jobs) {}

        void step(const std::string& text, double percent);
        // Puts the members of `numbers` into the document.
        void progress(const api::Json& numbers);
        // As progress, and durable.
        void remember(const api::Json& numbers);
        // False: cancel() is refused from now on.
        void set_cancellable(bool cancellable);
        // Whether to end: cancelled, or the controller ends.
        [[nodiscard]] bool ending() const { return cancelled_ || jobs_.stopping_; }
        // The controller ends: what is done stays as it is, the next start goes on with it.
        [[nodiscard]] bool stopping() const { return jobs_.stopping_; }
        [[nodiscard]] api::Json value(const char* key) const;
        [[nodiscard]] std::uint64_t number() const { return id_; }

    private:
        friend class ControllerJobs;

        ControllerJobs& jobs_;
        std::uint64_t id_ = 0;
        api::Json document_;  // under the mutex of jobs_
        bool unsaved_ = false;
        bool ended_ = false;
        std::atomic<bool> cancelled_ = false;
        std::thread thread_;
    };
    using Steps = std::function<Status(Job&)>;

    struct Order {
        std::string kind;
        std::string machine;
        bool cancellable = false;
        api::Json more = api::Json::object();  // further members of the document
        bool aside = false;  // keeps nobody from anything but from another one of its kind
    };

    // `wake`: called after a cancellation, for whatever a job may wait in.
    ControllerJobs(ControllerStore& store, std::function<void()> wake);
    // stop() must have been called.
    ~ControllerJobs();

    // Reads what is there from before; gives the documents of jobs that were under way.
    Result<std::vector<api::Json>> load();
    // The document of the job that was begun. E_JOB_RUNNING.
    Result<api::Json> begin(const Order& order, Steps steps);
    // Goes on with a job of load()'s.
    void resume(const api::Json& document, Steps steps);
    // Ends one of load()'s that nothing goes on with.
    Status interrupt(api::Json document, const std::string& remedy);

    Result<api::Json> show(const api::JobCall& call);
    Result<api::Json> cancel(std::uint64_t id);
    // By number. Those under way as they are now.
    Result<std::vector<api::Json>> all();
    // E_JOB_RUNNING if there is one for the machine.
    Status idle(const std::string& machine);
    // Tells jobs to end. No others are begun.
    void begin_to_stop();
    // The same, and waits for them.
    void stop();

private:
    Job& add(const api::Json& document);
    // Where it fails, the job has ended by that error.
    Status start(Job& job, Steps steps);
    void run(Job& job, const Steps& steps);
    void end(Job& job, const Status& status);
    void reap();
    void prune();
    Status idle_locked(const std::string& machine, const std::string& kind = {});
    void save(Job& job);
    void changed(Job& job);
    Job* find(std::uint64_t id);

    ControllerStore& store_;
    const std::function<void()> wake_;
    std::atomic<bool> stopping_ = false;
    std::mutex mutex_;
    std::condition_variable news_;
    std::list<Job> jobs_;  // those that run, and those that have ended and not been reaped
    std::uint64_t next_id_ = 1;
};

[[nodiscard]] std::int64_t now_seconds();

}  // namespace ebb::service
