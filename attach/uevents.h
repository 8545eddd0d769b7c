// SPDX-License-Identifier: Apache-2.0
// Tells when the kernel has something new: a device that one waits for may be there.
#pragma once

#include <chrono>

#include "base/error.h"
#include "platform/file_descriptor.h"

namespace ebb::attach {

class Uevents {
public:
    // What happens from now on is not missed.
    static Result<Uevents> listen();
    // True: something happened; false: time is up.
    [[nodiscard]] bool wait(std::chrono::steady_clock::time_point until);

private:
    explicit Uevents(platform::FileDescriptor fd) : fd_(std::move(fd)) {}
    platform::FileDescriptor fd_;
};

}  // namespace ebb::attach
