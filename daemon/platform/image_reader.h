// SPDX-License-Identifier: Apache-2.0
// Reads of image devices, several under way at once, through libaio.
//
// A write of the application to the same disk pays for reads beside it. So no thread is woken for
// each of them, which on a busy CPU costs a write more than the read does; and each is submitted by
// itself: what is submitted together is sent to the disk together and ends together, and then all
// its interrupts come between a write and its sender (docs/performance.md, Latency).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "env/env.h"
#include "platform/aio_reader.h"
#include "platform/event_loop.h"

namespace ebb::platform {

class ImageReader {
public:
    // Reads under way at once, of all files together; more wait here.
    static constexpr std::size_t depth = 16;
    // Handed to the thread that submits them at once, at most.
    static constexpr std::size_t together = 4;

    static Result<std::unique_ptr<ImageReader>> open(EventLoop& loop);

    // On the loop. `file`, open for direct reads, and `into` stay until `done` has run or the
    // reader is gone. `offset` and the length: bytes, multiples of the device's blocks. Memory that
    // is not aligned is read through other memory.
    void read(int file, std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done);

private:
    explicit ImageReader(std::unique_ptr<AioReader> reader) : reader_(std::move(reader)) {}

    std::unique_ptr<AioReader> reader_;
};

}  // namespace ebb::platform
