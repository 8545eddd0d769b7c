// SPDX-License-Identifier: Apache-2.0
// Virtual time: everything that happens in a simulated world, in order, on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "env/cpus.h"
#include "env/env.h"

namespace ebb::sim {

// xoshiro-like generator, the same on every machine.
class Rng {
public:
    explicit Rng(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 0x1234567ULL) {}
    std::uint64_t next() {
        state_ += 0x9e3779b97f4a7c15ULL;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }
    std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }
    bool chance(unsigned percent) { return below(100) < percent; }

private:
    std::uint64_t state_;
};

class Executor {
public:
    explicit Executor(std::uint64_t seed) : rng(seed) {}

    std::uint64_t at(std::int64_t delay_ns, std::move_only_function<void()> action) {
        const std::uint64_t id = ++last_;
        queue_.emplace(std::pair(now_ + (delay_ns < 0 ? 0 : delay_ns), id), std::move(action));
        return id;
    }
    // Runs the next event; false: none left.
    bool step() {
        if (queue_.empty()) return false;
        auto node = queue_.extract(queue_.begin());
        now_ = node.key().first;
        node.mapped()();
        return true;
    }
    [[nodiscard]] std::int64_t now() const { return now_; }
    // A short delay of I/O.
    std::int64_t io_delay() {
        return static_cast<std::int64_t>(10'000 + rng.below(slow ? 20'000'000 : 1'000'000));
    }

    Rng rng;
    bool slow = false;

private:
    std::int64_t now_ = 0;
    std::uint64_t last_ = 0;
    std::map<std::pair<std::int64_t, std::uint64_t>, std::move_only_function<void()>> queue_;
};

// A process or a machine that can die: what was scheduled in its life does not run after it.
class Life {
public:
    explicit Life(Executor& executor) : executor_(executor), token_(std::make_shared<int>(0)) {}
    std::uint64_t at(std::int64_t delay_ns, std::move_only_function<void()> action) {
        return executor_.at(delay_ns,
                            [weak = std::weak_ptr<int>(token_), run = std::move(action)]() mutable {
                                if (!weak.expired()) run();
                            });
    }
    void io(std::move_only_function<void()> action) { at(executor_.io_delay(), std::move(action)); }
    void end() { token_.reset(); }
    [[nodiscard]] Executor& executor() { return executor_; }

private:
    Executor& executor_;
    std::shared_ptr<int> token_;
};

// May be set at any moment, back or forward, by seconds or years: the wall clock of one machine.
// now() never is. A timer is never early.
inline constexpr std::int64_t wall_start = 1'700'000'000'000'000'000;
inline constexpr std::int64_t on_time = 0;

class SimClock : public env::Clock {
public:
    // `stepped` ns ahead of the truth, as somebody sets it.
    explicit SimClock(Life& life, const std::int64_t& stepped = on_time)
        : life_(life), stepped_(stepped) {}
    MonoTime now() const override { return {life_.executor().now()}; }
    WallTime wall() const override { return {life_.executor().now() + wall_start + stepped_}; }
    TimerId schedule(Duration delay, std::move_only_function<void()> action) override {
        const TimerId id = ++last_;
        auto keep = std::make_shared<std::move_only_function<void()>>(std::move(action));
        timers_[id] = keep;
        life_.at(delay.count(), [this, id] {
            auto node = timers_.extract(id);
            if (!node.empty()) (*node.mapped())();
        });
        return id;
    }
    void cancel(TimerId timer) override { timers_.erase(timer); }

private:
    Life& life_;
    const std::int64_t& stepped_;
    TimerId last_ = 0;
    std::map<TimerId, std::shared_ptr<std::move_only_function<void()>>> timers_;
};

class SimCpus : public env::Cpus {
public:
    explicit SimCpus(Life& life) : life_(life) {}
    void compute(std::move_only_function<void()> work, env::StatusCallback done) override {
        life_.io([work = std::move(work), done = std::move(done)]() mutable {
            work();
            done({});
        });
    }

private:
    Life& life_;
};

class SimRandom : public env::Random {
public:
    explicit SimRandom(Rng& rng) : rng_(rng) {}
    std::uint64_t next() override { return rng_.next(); }
    Uuid uuid() override {
        Uuid value;
        for (auto& byte : value.bytes) byte = static_cast<std::byte>(rng_.next());
        return value;
    }

private:
    Rng& rng_;
};

}  // namespace ebb::sim
