// SPDX-License-Identifier: Apache-2.0
// What takes long to compute, beside the executor: digests, compression, copies of much data. One
// CPU is slower at it than disks are, and the executor asks for what comes next meanwhile.
#pragma once

#include <functional>

#include "env/env.h"

namespace ebb::env {

class Cpus {
public:
    virtual ~Cpus() = default;
    // Several at once, in any order. Nobody changes meanwhile what `work` reads, and nobody looks
    // at what it changes before `done`, which is never given an error. What it uses it owns with
    // others, or is alive until `done` has run or is dropped.
    virtual void compute(std::move_only_function<void()> work, StatusCallback done) = 0;
};

}  // namespace ebb::env
