// SPDX-License-Identifier: Apache-2.0
// Coroutines over the callbacks of env/: a Task is a sequence of steps that waits without a
// thread. A Task that is destroyed takes what it awaits with it; callbacks that come later find
// nobody and do nothing. All on one executor.
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "base/error.h"
#include "env/env.h"

namespace ebb::core {

template <class T>
class Task;

namespace detail {

struct PromiseBase {
    std::coroutine_handle<> continuation = std::noop_coroutine();

    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final {
        bool await_ready() noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return self.promise().continuation;
        }
        void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    void unhandled_exception() { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
    std::optional<T> value;
    Task<T> get_return_object();
    void return_value(T result) { value.emplace(std::move(result)); }
};

template <>
struct Promise<void> : PromiseBase {
    Task<void> get_return_object();
    void return_void() {}
};

}  // namespace detail

// Lazy: runs when awaited, or by start().
template <class T>
class [[nodiscard]] Task {
public:
    using promise_type = detail::Promise<T>;
    using Handle = std::coroutine_handle<promise_type>;

    Task() = default;
    explicit Task(Handle handle) : handle_(handle) {}
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            if (handle_) handle_.destroy();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    ~Task() {
        if (handle_) handle_.destroy();
    }

    // For the outermost one, whose owner keeps it until it is done.
    void start() { handle_.resume(); }
    [[nodiscard]] bool done() const { return !handle_ || handle_.done(); }
    // Awaits one that was started, and goes on beside the one that awaits it.
    [[nodiscard]] auto join() {
        struct Awaiter {
            Handle handle;
            bool await_ready() const { return handle.done(); }
            void await_suspend(std::coroutine_handle<> awaiting) {
                handle.promise().continuation = awaiting;
            }
            T await_resume() {
                if constexpr (!std::is_void_v<T>) return std::move(*handle.promise().value);
            }
        };
        return Awaiter{handle_};
    }

    bool await_ready() const { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) {
        handle_.promise().continuation = awaiting;
        return handle_;
    }
    T await_resume() {
        if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
    }

private:
    Handle handle_;
};

namespace detail {
template <class T>
Task<T> Promise<T>::get_return_object() {
    return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
    return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}
}  // namespace detail

// Awaits one callback: Op<T> op; disk.read(..., op.callback()); auto result = co_await op;
template <class T>
class Op {
public:
    Op() : state_(std::make_shared<State>()) {}
    Op(const Op&) = delete;
    Op& operator=(const Op&) = delete;
    ~Op() { state_->waiting = {}; }

    // `keep` lives until the callback has run or is dropped: memory of the operation.
    template <class... Keep>
    env::Callback<T> callback(Keep... keep) {
        return [state = state_, ... kept = std::move(keep)](Result<T> result) {
            state->result.emplace(std::move(result));
            if (auto waiting = std::exchange(state->waiting, {})) waiting.resume();
        };
    }

    bool await_ready() const { return state_->result.has_value(); }
    void await_suspend(std::coroutine_handle<> waiting) { state_->waiting = waiting; }
    Result<T> await_resume() { return std::move(*state_->result); }

private:
    struct State {
        std::optional<Result<T>> result;
        std::coroutine_handle<> waiting;
    };
    std::shared_ptr<State> state_;
};

// Something happened: wakes its one waiter, or lets the next wait() pass.
class Signal {
public:
    Signal() = default;
    Signal(const Signal&) = delete;
    Signal& operator=(const Signal&) = delete;

    void notify() {
        set_ = true;
        if (auto waiting = std::exchange(waiting_, {})) waiting.resume();
    }
    [[nodiscard]] auto wait() {
        struct Awaiter {
            Signal& signal;
            bool await_ready() const { return signal.set_; }
            void await_suspend(std::coroutine_handle<> waiting) { signal.waiting_ = waiting; }
            void await_resume() { signal.set_ = false; }
        };
        return Awaiter{*this};
    }

private:
    bool set_ = false;
    std::coroutine_handle<> waiting_;
};

// Operations side by side, at most `depth` at once; the first error stays.
//   Together group(8); for (...) { co_await group.room(); disk.write(..., group.callback(buffer));
//   } Status status = co_await group.finish();
class Together {
public:
    explicit Together(std::size_t depth)
        : depth_(depth == 0 ? 1 : depth), state_(std::make_shared<State>()) {}
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;
    ~Together() { state_->waiting = {}; }

    template <class... Keep>
    env::StatusCallback callback(Keep... keep) {
        ++state_->under_way;
        return [state = state_, ... kept = std::move(keep)](Status status) {
            --state->under_way;
            if (!status && state->status) state->status = std::move(status);
            if (state->waiting && state->under_way <= state->until) {
                std::exchange(state->waiting, {}).resume();
            }
        };
    }
    [[nodiscard]] auto room() { return Awaiter{*state_, depth_ - 1}; }
    [[nodiscard]] auto finish() { return Awaiter{*state_, 0}; }

private:
    struct State {
        std::size_t under_way = 0;
        std::size_t until = 0;
        Status status;
        std::coroutine_handle<> waiting;
    };
    struct Awaiter {
        State& state;
        std::size_t until;
        bool await_ready() const { return state.under_way <= until; }
        void await_suspend(std::coroutine_handle<> waiting) {
            state.until = until;
            state.waiting = waiting;
        }
        Status await_resume() { return state.status; }
    };
    std::size_t depth_;
    std::shared_ptr<State> state_;
};

}  // namespace ebb::core
