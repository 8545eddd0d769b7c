// SPDX-License-Identifier: Apache-2.0
// The executor of a daemon: one thread runs all state machines and all callbacks of the
// environment objects made for it.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <unordered_map>

#include "env/env.h"

namespace ebb::platform {

class EventLoop {
public:
    EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    [[nodiscard]] boost::asio::io_context& context() { return context_; }
    // Any thread.
    void post(std::move_only_function<void()> action);
    // Runs until stop(); returns then, with whatever was not yet run left unrun.
    void run();
    // Runs what is ready and returns.
    void poll();
    // Runs until `condition` holds or `limit` has passed; true if it holds. For tests and
    // one-shot commands.
    bool run_until(const std::function<bool()>& condition, Duration limit);
    // Any thread.
    void stop();

private:
    boost::asio::io_context context_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
};

// CLOCK_MONOTONIC and CLOCK_REALTIME, timers on the loop.
class LoopClock final : public env::Clock {
public:
    explicit LoopClock(EventLoop& loop) : loop_(loop) {}
    [[nodiscard]] MonoTime now() const override;
    [[nodiscard]] WallTime wall() const override;
    TimerId schedule(Duration delay, std::move_only_function<void()> action) override;
    void cancel(TimerId timer) override;

private:
    struct Timer {
        explicit Timer(boost::asio::io_context& context) : wait(context) {}
        boost::asio::steady_timer wait;
        std::move_only_function<void()> action;
    };

    void run(TimerId timer);

    EventLoop& loop_;
    TimerId next_ = 1;
    std::unordered_map<TimerId, std::unique_ptr<Timer>> timers_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

// getrandom(2).
class SystemRandom final : public env::Random {
public:
    [[nodiscard]] std::uint64_t next() override;
    // Version 4.
    [[nodiscard]] Uuid uuid() override;
};

}  // namespace ebb::platform
