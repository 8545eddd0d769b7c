// SPDX-License-Identifier: Apache-2.0
// SHA-256 of much data, beside the executor: one CPU computes it more slowly than disks are read.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "env/env.h"

namespace ebb::env {

class Hasher {
public:
    using Digest = std::array<std::byte, 32>;

    virtual ~Hasher() = default;
    // In any order. Never an error; nobody changes `data` meanwhile.
    virtual void sha256(std::span<const std::byte> data, Callback<Digest> done) = 0;
};

}  // namespace ebb::env
