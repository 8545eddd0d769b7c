// SPDX-License-Identifier: Apache-2.0
// Closed while filesystems of this machine are frozen for ebbd, or writes to its disks held for a
// cut that it leads through: until that is over nobody in it may write a file, or to the log, whose
// reader may write one. One for the process.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

namespace ebb::platform {

class WriteGate {
public:
    static WriteGate& of_this_process();

    // Standard error goes through it from here on: whole lines, kept in memory while it is closed.
    void guard_log();
    // On the loop. Open when as many have opened it as had closed it; then what waits is run.
    void close();
    void open();
    // On the loop: now, or as soon as it is open.
    void when_open(std::move_only_function<void()> action);
    // Another thread waits.
    void wait();
    [[nodiscard]] bool closed() const;

private:
    WriteGate() = default;

    mutable std::mutex mutex_;
    std::condition_variable opened_;
    unsigned closed_ = 0;                                   // times, under mutex_
    std::vector<std::move_only_function<void()>> waiting_;  // under mutex_
};

}  // namespace ebb::platform
