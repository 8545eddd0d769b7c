// SPDX-License-Identifier: Apache-2.0
#include "platform/event_loop.h"

#include <sys/random.h>
#include <time.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdlib>

namespace ebb::platform {

namespace {

std::int64_t clock_ns(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

void fill_random(void* into, std::size_t size) {
    auto* at = static_cast<char*>(into);
    while (size > 0) {
        const ssize_t got = ::getrandom(at, size, 0);
        if (got < 0) {
            // Only EINTR can happen: a kernel without entropy waits.
            if (errno != EINTR) std::abort();
            continue;
        }
        at += got;
        size -= static_cast<std::size_t>(got);
    }
}

}  // namespace

EventLoop::EventLoop() : context_(1), work_(context_.get_executor()) {}

void EventLoop::post(std::move_only_function<void()> action) {
    boost::asio::post(context_, [action = std::move(action)]() mutable { action(); });
}

void EventLoop::run() {
    context_.run();
}

void EventLoop::poll() {
    context_.poll();
}

bool EventLoop::run_until(const std::function<bool()>& condition, Duration limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (context_.run_one_until(deadline) == 0) return condition();
    }
    return true;
}

void EventLoop::stop() {
    context_.stop();
}

MonoTime LoopClock::now() const {
    return {clock_ns(CLOCK_MONOTONIC)};
}

WallTime LoopClock::wall() const {
    return {clock_ns(CLOCK_REALTIME)};
}

env::Clock::TimerId LoopClock::schedule(Duration delay, std::move_only_function<void()> action) {
    const TimerId id = next_++;
    auto timer = std::make_unique<Timer>(loop_.context());
    timer->action = std::move(action);
    if (delay < Duration::zero()) delay = Duration::zero();
    timer->wait.expires_after(delay);
    timer->wait.async_wait([this, id, alive = std::weak_ptr<char>(alive_)](const auto&) {
        // A cancelled timer is no longer in the table, whatever the outcome says.
        if (!alive.expired()) run(id);
    });
    timers_.emplace(id, std::move(timer));
    return id;
}

void LoopClock::cancel(TimerId timer) {
    timers_.erase(timer);
}

void LoopClock::run(TimerId timer) {
    const auto found = timers_.find(timer);
    if (found == timers_.end()) return;
    auto action = std::move(found->second->action);
    timers_.erase(found);
    action();
}

std::uint64_t SystemRandom::next() {
    std::uint64_t value = 0;
    fill_random(&value, sizeof value);
    return value;
}

Uuid SystemRandom::uuid() {
    Uuid uuid;
    fill_random(uuid.bytes.data(), uuid.bytes.size());
    uuid.bytes[6] = (uuid.bytes[6] & std::byte{0x0f}) | std::byte{0x40};
    uuid.bytes[8] = (uuid.bytes[8] & std::byte{0x3f}) | std::byte{0x80};
    return uuid;
}

}  // namespace ebb::platform
