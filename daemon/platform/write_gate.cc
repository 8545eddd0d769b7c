// SPDX-License-Identifier: Apache-2.0
#include "platform/write_gate.h"

#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <streambuf>
#include <string>
#include <utility>

namespace ebb::platform {

namespace {

constexpr std::size_t kept_bytes = 256 << 10;

// Lines of standard error.
class LineLog final : public std::streambuf {
public:
    void hold(bool held) {
        const std::lock_guard lock(mutex_);
        held_ = held;
        put();
    }

protected:
    int_type overflow(int_type c) override {
        if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
        const char one = traits_type::to_char_type(c);
        xsputn(&one, 1);
        return c;
    }
    std::streamsize xsputn(const char* text, std::streamsize size) override {
        const std::lock_guard lock(mutex_);
        if (text_.size() < kept_bytes) text_.append(text, static_cast<std::size_t>(size));
        put();
        return size;
    }

private:
    // With the mutex.
    void put() {
        const auto end = text_.rfind('\n');
        if (held_ || end == std::string::npos) return;
        std::size_t done = 0;
        while (done <= end) {
            const ssize_t n = ::write(STDERR_FILENO, text_.data() + done, end + 1 - done);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) break;
            done += static_cast<std::size_t>(n);
        }
        text_.erase(0, end + 1);
    }

    std::mutex mutex_;
    bool held_ = false;  // under mutex_
    std::string text_;   // under mutex_
};

// Lives as long as the process: threads may write at its very end.
LineLog& line_log() {
    static auto* const log = new LineLog();
    return *log;
}

}  // namespace

WriteGate& WriteGate::of_this_process() {
    static auto* const gate = new WriteGate();
    return *gate;
}

void WriteGate::guard_log() {
    std::cerr.rdbuf(&line_log());
}

void WriteGate::close() {
    line_log().hold(true);
    const std::lock_guard lock(mutex_);
    ++closed_;
}

void WriteGate::open() {
    std::vector<std::move_only_function<void()>> waiting;
    {
        const std::lock_guard lock(mutex_);
        if (--closed_ != 0) return;
        waiting.swap(waiting_);
    }
    opened_.notify_all();
    line_log().hold(false);
    for (auto& action : waiting) action();
}

void WriteGate::when_open(std::move_only_function<void()> action) {
    {
        const std::lock_guard lock(mutex_);
        if (closed_ != 0) {
            waiting_.push_back(std::move(action));
            return;
        }
    }
    action();
}

void WriteGate::wait() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return closed_ == 0; });
}

bool WriteGate::closed() const {
    const std::lock_guard lock(mutex_);
    return closed_ != 0;
}

}  // namespace ebb::platform
