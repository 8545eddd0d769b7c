// SPDX-License-Identifier: Apache-2.0
#include "platform/worker.h"

#include <pthread.h>
#include <signal.h>

namespace ebb::platform {

Worker::Worker(EventLoop& loop, unsigned threads, const std::string& name) : loop_(loop) {
    // Signals belong to the loop's thread; a blocking call here must not see EINTR for them.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < threads; ++i) {
        threads_.emplace_back([this] { work(); });
        ::pthread_setname_np(threads_.back().native_handle(), name.substr(0, 15).c_str());
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Worker::~Worker() {
    alive_.reset();
    std::deque<std::move_only_function<void()>> dropped;
    {
        const std::lock_guard lock(mutex_);
        stopping_.store(true, std::memory_order_relaxed);
        dropped.swap(tasks_);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
}

void Worker::enqueue(std::move_only_function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
}

void Worker::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stopping() || !tasks_.empty(); });
        if (stopping()) return;
        {
            auto task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
        }
        lock.lock();
    }
}

}  // namespace ebb::platform
