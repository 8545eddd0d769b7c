// SPDX-License-Identifier: Apache-2.0
// Reads of files past the page cache, several under way at once, through libaio: no thread waits
// for each of them, and none has to be woken when it ends.
#pragma once

#include <libaio.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "platform/event_loop.h"
#include "platform/worker.h"

namespace ebb::platform {

class AioReader {
public:
    struct Options {
        std::string name;      // of the thread that submits
        std::size_t depth;     // under way at once, of all files together; more wait here
        std::size_t together;  // handed to the thread at once, at most
        bool one_by_one = false;
    };
    // Bytes, fewer where the file ends; negative: a number of an error.
    using Done = std::move_only_function<void(long)>;

    static Result<std::unique_ptr<AioReader>> open(EventLoop& loop, Options options);
    AioReader(const AioReader&) = delete;
    AioReader& operator=(const AioReader&) = delete;
    // Waits for what is under way; callbacks that have not run do not run.
    ~AioReader();

    // On the loop. `file`, open for direct reads, and `into` stay until `done` has run or the
    // reader is gone. `offset`, the length and the memory: multiples of what the file takes.
    void read(int file, std::uint64_t offset, std::span<std::byte> into, Done done);

private:
    struct Request {
        iocb control{};
        int file = -1;
        std::uint64_t offset = 0;
        std::byte* memory = nullptr;  // where the rest goes
        std::size_t left = 0;
        std::size_t got = 0;
        Done done;
    };
    struct Finished {
        Done done;
        long result = 0;
    };
    struct Submitted {
        std::size_t count = 0;
        int error = 0;  // of the first that was not, if not all were
    };

    AioReader(EventLoop& loop, Options options);
    Status setup();
    void submit();
    void submitted(std::span<iocb* const> batch, const Submitted& result);
    void retry_later();
    void wait_for_events();
    void collect();
    void complete(const iocb* control, long result, std::vector<Finished>& finished);
    void deliver(std::vector<Finished> finished);

    const Options options_;
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
