// SPDX-License-Identifier: Apache-2.0
// What the state machines in core/ see of the world. Real ones are in platform/, fakes in
// tests/sim.
//
// Threads: a core object and every environment object given to it belong to one executor. All
// methods are called on it, all callbacks run on it, never from inside the call that asked for
// them. An object may be destroyed only on its executor; callbacks outstanding then are not run.
// Memory: spans passed to an asynchronous call must stay valid until its callback has run or the
// environment object has been destroyed.
#pragma once

#include <cstdint>
#include <functional>

#include "base/error.h"
#include "base/units.h"

namespace ebb::env {

template <class T>
using Callback = std::move_only_function<void(Result<T>)>;
using StatusCallback = Callback<void>;

class Clock {
public:
    using TimerId = std::uint64_t;

    virtual ~Clock() = default;
    [[nodiscard]] virtual MonoTime now() const = 0;
    [[nodiscard]] virtual WallTime wall() const = 0;
    // Runs `action` once, after `delay`; zero means as soon as the executor is free.
    virtual TimerId schedule(Duration delay, std::move_only_function<void()> action) = 0;
    // No effect when the timer has run already.
    virtual void cancel(TimerId timer) = 0;
};

class Random {
public:
    virtual ~Random() = default;
    [[nodiscard]] virtual std::uint64_t next() = 0;
    [[nodiscard]] virtual Uuid uuid() = 0;
};

}  // namespace ebb::env
