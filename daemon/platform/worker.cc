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
    std::deque<Task> dropped;
    {
        const std::lock_guard lock(mutex_);
        stopping_.store(true, std::memory_order_relaxed);
        dropped.swap(tasks_);
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
}

void Worker::enqueue(Task task) {
    bool wake = false;
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        wake = waiting_ > 0 && !waking_;
        waking_ = waking_ || wake;
    }
    if (wake) wake_.notify_one();
}

void Worker::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        while (tasks_.empty() && !stopping()) {
            ++waiting_;
            wake_.wait(lock);
            --waiting_;
            // Also where another thread was quicker: the next task wakes one again.
            waking_ = false;
        }
        if (stopping()) return;
        {
            auto task = std::move(tasks_.front());
            tasks_.pop_front();
            const bool wake = !tasks_.empty() && waiting_ > 0 && !waking_;
            waking_ = waking_ || wake;
            lock.unlock();
            if (wake) wake_.notify_one();
            finished(task());
        }
        lock.lock();
    }
}

void Worker::finished(Completion completion) {
    {
        const std::lock_guard lock(mutex_);
        completed_.push_back(std::move(completion));
        if (completed_.size() > 1) return;
    }
    loop_.post([this, alive = lives_] {
        if (!alive.expired()) deliver();
    });
}

void Worker::deliver() {
    std::vector<Completion> completed;
    {
        const std::lock_guard lock(mutex_);
        completed.swap(completed_);
    }
    // Each may be the end of us.
    const std::weak_ptr<char> alive(lives_);
    for (Completion& completion : completed) {
        if (alive.expired()) return;
        completion();
    }
}

}  // namespace ebb::platform
