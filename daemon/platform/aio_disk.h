// SPDX-License-Identifier: Apache-2.0
// env::Disk on a block device, or on a regular file: libaio with O_DIRECT for data, a few threads
// for the calls that block (discard, zeroing, flush).
#pragma once

#include <libaio.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "env/disk.h"
#include "platform/event_loop.h"
#include "platform/file_descriptor.h"
#include "platform/worker.h"

namespace ebb::platform {

struct AioDiskOptions {
    std::string path;
    bool read_only = false;
    // O_EXCL of a block device: refused while anything has it mounted or claimed, and nothing can
    // mount or claim it while it is open.
    bool exclusive = true;
    // Requests in the kernel at once; further ones wait here.
    unsigned queue_depth = 128;
};

class AioDisk final : public env::Disk {
public:
    // Blocks for as long as opening the device takes. E_NOT_FOUND, E_BUSY (in use), E_DENIED, E_IO.
    static Result<std::unique_ptr<AioDisk>> open(EventLoop& loop, const AioDiskOptions& options);
    // Waits for requests in the kernel: memory given to them is free afterwards.
    ~AioDisk() override;

    [[nodiscard]] std::uint64_t size() const override { return size_; }
    [[nodiscard]] std::uint64_t request_cost() const override { return request_cost_; }
    void read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) override;
    void write(std::uint64_t offset, std::span<const std::byte> from,
               env::StatusCallback done) override;
    void write_zeroes(std::uint64_t offset, std::uint64_t length,
                      env::StatusCallback done) override;
    void discard(std::uint64_t offset, std::uint64_t length, env::StatusCallback done) override;
    void flush(std::string_view site, env::StatusCallback done) override;

    [[nodiscard]] std::uint32_t logical_block() const { return logical_block_; }

private:
    struct Request {
        iocb control{};
        bool is_write = false;
        std::uint64_t offset = 0;
        std::byte* memory = nullptr;
        std::size_t left = 0;
        // Memory that is not aligned travels through this.
        Buffer bounce;
        std::span<std::byte> copy_to;
        env::StatusCallback done;
    };
    struct Finished {
        env::StatusCallback done;
        Status status;
    };

    AioDisk(EventLoop& loop, AioDiskOptions options);
    Status setup();
    Status open_file();
    Status measure();
    [[nodiscard]] Status check(std::uint64_t offset, std::uint64_t length) const;
    [[nodiscard]] bool fits_blocks(std::uint64_t offset, std::uint64_t length) const;
    void fail_later(Error error, env::StatusCallback done);
    void begin(std::unique_ptr<Request> request);
    void begin_partial(bool is_write, std::uint64_t offset, std::span<std::byte> memory,
                       env::StatusCallback done);
    Status partial_io(bool is_write, std::uint64_t offset, std::span<std::byte> memory) const;
    void schedule_pump();
    void pump();
    void retry_later();
    void wait_for_events();
    void collect();
    void complete(iocb* control, long result, std::vector<Finished>& finished);
    void deliver(std::vector<Finished> finished);
    Status in_steps(const Worker& worker, std::uint64_t offset, std::uint64_t length,
                    const std::function<int(std::uint64_t, std::uint64_t)>& step,
                    const char* what) const;
    int zero_what_is_not(std::uint64_t offset, std::uint64_t length) const;
    int zero_step(std::uint64_t offset, std::uint64_t length) const;
    int discard_step(std::uint64_t offset, std::uint64_t length) const;

    EventLoop& loop_;
    const AioDiskOptions options_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    FileDescriptor file_;
    bool block_device_ = false;
    std::uint64_t size_ = 0;
    std::uint64_t request_cost_ = env::Disk::request_cost();
    std::uint32_t logical_block_ = 512;
    io_context_t aio_ = nullptr;
    boost::asio::posix::stream_descriptor event_;
    boost::asio::steady_timer retry_;
    bool pump_scheduled_ = false;
    std::deque<std::unique_ptr<Request>> waiting_;
    std::unordered_map<iocb*, std::unique_ptr<Request>> running_;
    // Flushes must not wait behind a discard of gigabytes, hence more than one thread.
    std::unique_ptr<Worker> blocking_;
    // Read-modify-write of parts of a logical block: one at a time.
    std::unique_ptr<Worker> partial_;
};

}  // namespace ebb::platform
