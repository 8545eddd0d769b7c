// SPDX-License-Identifier: Apache-2.0
// env::Cpus: threads of its own, half of the machine's CPUs, at most 4, so that it can go on with
// what it is there for.
#pragma once

#include "env/cpus.h"
#include "platform/event_loop.h"
#include "platform/worker.h"

namespace ebb::platform {

class CpuThreads final : public env::Cpus {
public:
    explicit CpuThreads(EventLoop& loop);
    void compute(std::move_only_function<void()> work, env::StatusCallback done) override;

private:
    Worker worker_;
};

}  // namespace ebb::platform
