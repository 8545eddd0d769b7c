// SPDX-License-Identifier: Apache-2.0
// A fixed number of threads for system calls that block. Work is begun in the order it was
// submitted; with one thread it is also finished in that order. Results come back on the loop.
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
        enqueue([this, alive = std::weak_ptr<char>(alive_), work = std::move(work),
                 done = std::move(done)]() mutable {
            auto result = work();
            loop_.post([alive = std::move(alive), result = std::move(result),
                        done = std::move(done)]() mutable {
                if (!alive.expired()) done(std::move(result));
            });
        });
    }

    // Long work asks between its steps, on its thread.
    [[nodiscard]] bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

private:
    void enqueue(std::move_only_function<void()> task);
    void work();

    EventLoop& loop_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::move_only_function<void()>> tasks_;  // under mutex_
    std::atomic<bool> stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace ebb::platform
