// SPDX-License-Identifier: Apache-2.0
// A fixed number of threads for system calls that block. Work is begun in the order it was
// submitted; with one thread it is also finished in that order. Results come back on the loop,
// those that are there by then in one turn of it. Calls to the kernel are few where much is short:
// of the threads that wait the loop wakes one, which wakes the next.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "env/env.h"
#include "platform/event_loop.h"

namespace ebb::platform {

class Worker {
public:
    // `name`: of the threads, at most 15 characters.
    Worker(EventLoop& loop, unsigned threads, const std::string& name);
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    // Drops what has not begun, waits for what has; callbacks that have not run do not run.
    ~Worker();

    // On the loop. `work` runs on a thread and must not touch what the loop may change.
    template <class T>
    void submit(std::move_only_function<Result<T>()> work, env::Callback<T> done) {
        enqueue([work = std::move(work), done = std::move(done)]() mutable -> Completion {
            return [result = work(), done = std::move(done)]() mutable { done(std::move(result)); };
        });
    }

    // Long work asks between its steps, on its thread.
    [[nodiscard]] bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

private:
    using Completion = std::move_only_function<void()>;
    using Task = std::move_only_function<Completion()>;

    void enqueue(Task task);
    void work();
    void finished(Completion completion);
    void deliver();

    EventLoop& loop_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    const std::weak_ptr<char> lives_{alive_};  // for the threads, which may copy it at any time
    std::mutex mutex_;
    std::condition_variable wake_;
    // Under mutex_:
    std::deque<Task> tasks_;
    unsigned waiting_ = 0;               // threads
    bool waking_ = false;                // one of them has been woken, and is on its way
    std::vector<Completion> completed_;  // for the loop, which has been told unless it is empty
    std::atomic<bool> stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace ebb::platform
