// SPDX-License-Identifier: Apache-2.0
// Disks of a source that are files, and what the module would say of them: it is told of each
// write by the one who writes. Of a frozen pass the blocks that are overwritten are kept aside.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "core/ranges.h"
#include "env/tracker.h"
#include "platform/file_descriptor.h"
#include "platform/worker.h"

namespace ebb::bench {

class FileTracker final : public env::Tracker {
public:
    struct Files {
        std::vector<std::string> paths;  // in DiskIndex order
        bool are_new = false;            // all of them is to be sent
        // Nothing but zeroes, and so are the target's: where all is to be sent, nothing is marked.
        bool empty = false;
        bool cached = false;  // as fast as memory
    };
    // Stops the program when one cannot be opened.
    FileTracker(platform::EventLoop& loop, const Files& files);

    // One block. Any thread.
    void write(DiskIndex disk, std::uint64_t block, const Buffer& content);

    void incarnation(env::Callback<Uuid> done) override;
    void disks(env::Callback<std::vector<env::TrackedDisk>> done) override;
    void mark_all(DiskIndex disk, bool compare, env::StatusCallback done) override;
    void mark(DiskIndex disk, std::span<const Extent> extents, env::StatusCallback done) override;
    void begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                    env::Callback<env::PassInfo> done) override;
    void close_gate(Duration limit, env::Callback<env::GateId> done) override;
    void open_gate(env::GateId gate, env::Callback<env::GateReport> done) override;
    void get_pass(env::PassId pass, env::Callback<env::PassInfo> done) override;
    void pass_map(env::PassId pass, DiskIndex disk, std::uint64_t offset,
                  env::Callback<env::PassMap> done) override;
    void read(env::PassId pass, DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override;
    void read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                   env::StatusCallback done) override;
    void release(env::PassId pass, DiskIndex disk, std::span<const Extent> extents,
                 env::StatusCallback done) override;
    void end_pass(env::PassId pass, env::StatusCallback done) override;
    void keep(const env::Cookie& cookie, env::StatusCallback done) override;
    void leave_note(std::vector<std::byte> note, env::StatusCallback done) override;
    void confirm(const env::Cookie& cookie, env::StatusCallback done) override;
    void abandon(env::StatusCallback done) override;
    void on_event(std::move_only_function<void()>) override {}

private:
    struct Disk {
        std::string path;
        platform::FileDescriptor file;
        std::uint64_t size = 0;
        bool is_new = false;
        core::Ranges dirty, left, unconfirmed;
        std::map<std::uint64_t, Buffer> preserved;  // by offset
    };

    template <class T>
    void answer(env::Callback<T> done, Result<T> result);
    Status read_image(const Disk& disk, std::uint64_t offset, std::span<std::byte> into);

    platform::EventLoop& loop_;
    const bool empty_;
    std::mutex mutex_;  // over all below: a write is before a cut or after it
    std::vector<std::unique_ptr<Disk>> disks_;
    std::optional<env::PassInfo> pass_;
    env::PassId last_pass_ = 0;
    std::unique_ptr<platform::Worker> reader_;  // last: its threads use the disks
};

}  // namespace ebb::bench
