// SPDX-License-Identifier: Apache-2.0
#include "platform/cpu_threads.h"

#include <algorithm>
#include <thread>

namespace ebb::platform {

namespace {

constexpr unsigned threads_max = 4;

unsigned threads() {
    return std::clamp(std::thread::hardware_concurrency() / 2, 1U, threads_max);
}

}  // namespace

CpuThreads::CpuThreads(EventLoop& loop) : worker_(loop, threads(), "ebb-compute") {}

void CpuThreads::compute(std::move_only_function<void()> work, env::StatusCallback done) {
    worker_.submit<void>(
        [work = std::move(work)]() mutable -> Status {
            work();
            return {};
        },
        std::move(done));
}

}  // namespace ebb::platform
