// SPDX-License-Identifier: Apache-2.0
// Reads of image devices, several under way at once, through libaio.
//
// A write of the application to the same disk pays for reads beside it. So no thread is woken for
// each of them, which on a busy CPU costs a write more than the read does; and each is submitted by
// itself: what is submitted together is sent to the disk together and ends together, and then all
// its interrupts come between a write and its sender (docs/performance.md, Latency).
#pragma once

#include <libaio.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "env/env.h"
#include "platform/event_loop.h"
#include "platform/worker.h"

namespace ebb::platform {

class ImageReader {
public:
    // Reads under way at once, of all files together; more wait here.
    static constexpr std::size_t depth = 16;
    // Handed to the thread that submits them at once, at most.
    static constexpr std::size_t together = 4;

    static Result<std::unique_ptr<ImageReader>> open(EventLoop& loop);
    ImageReader(const ImageReader&) = delete;
    ImageReader& operator=(const ImageReader&) = delete;
    // Waits for what is under way; callbacks that have not run do not run.
    ~ImageReader();

    // On the loop. `file`, open for direct reads, and `into` stay until `done` has run or the
    // reader is gone. `offset` and the length: bytes, multiples of the device's blocks. Memory that
    // is not aligned is read through other memory.
    void read(int file, std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done);

private:
    struct Request {
        iocb control{};
        int file = -1;
        std::uint64_t offset = 0;
        std::byte* memory = nullptr;  // where the rest goes
        std::size_t left = 0;
        Buffer bounce;
        std::span<std::byte> into;
        env::StatusCallback done;
    };
    struct Finished {
        env::StatusCallback done;
        Status status;
    };
    struct Submitted {
        std::size_t count = 0;
        int error = 0;  // of the first that was not, if not all were
    };

    explicit ImageReader(EventLoop& loop);
    Status setup();
    void submit();
    void submitted(std::span<iocb* const> batch, const Submitted& result);
    void retry_later();
    void wait_for_events();
    void collect();
    void complete(const iocb* control, long result, std::vector<Finished>& finished);
    void deliver(std::vector<Finished> finished);

    io_context_t aio_ = nullptr;
    boost::asio::posix::stream_descriptor event_;
    boost::asio::steady_timer retry_;
    std::deque<std::unique_ptr<Request>> waiting_;
    std::unordered_map<const iocb*, std::unique_ptr<Request>> running_;
    bool submitting_ = false;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    // Where the queue of a disk is full io_submit() waits: not on the loop.
    std::unique_ptr<Worker> submitter_;
};

}  // namespace ebb::platform
