// SPDX-License-Identifier: Apache-2.0
// A block device of the target. Offsets and lengths are multiples of `sector_bytes`, memory is
// aligned to `direct_io_alignment`. Several operations may be under way at once; their order is
// not defined unless one was begun after the callback of the other. What was written is durable
// only after a flush that was begun after the write's callback.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "env/env.h"

namespace ebb::env {

class Disk {
public:
    virtual ~Disk() = default;
    [[nodiscard]] virtual std::uint64_t size() const = 0;
    // What beginning a request costs, in bytes that could be read meanwhile: what is not wanted
    // between two parts that are is read with them unless it is longer.
    [[nodiscard]] virtual std::uint64_t request_cost() const { return 16ULL << 10; }
    virtual void read(std::uint64_t offset, std::span<std::byte> into, StatusCallback done) = 0;
    virtual void write(std::uint64_t offset, std::span<const std::byte> from,
                       StatusCallback done) = 0;
    // Reads as zeroes afterwards.
    virtual void write_zeroes(std::uint64_t offset, std::uint64_t length, StatusCallback done) = 0;
    // Content indeterminate afterwards; a disk without discard leaves it as it is and succeeds.
    virtual void discard(std::uint64_t offset, std::uint64_t length, StatusCallback done) = 0;
    // `site` names the place in core that needs this order (a literal, for traces and for the
    // simulator, which proves of each that it is needed).
    virtual void flush(std::string_view site, StatusCallback done) = 0;
};

}  // namespace ebb::env
