// SPDX-License-Identifier: Apache-2.0
// env::Volume on a directory. One thread makes the calls, in the order they were asked for, and a
// few others read beside it; what is read once, short or long, is read by libaio, as many at once
// as it takes to keep a disk busy that does not seek. What is long passes the page cache by: undo
// is written once and read seldom, and memory that the kernel has to find for it costs more than
// the disk.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "base/buffer.h"
#include "env/volume.h"
#include "platform/aio_reader.h"
#include "platform/event_loop.h"
#include "platform/file_descriptor.h"
#include "platform/worker.h"

namespace ebb::platform {

class DirectoryVolume final : public env::Volume {
public:
    // The directory is locked against other daemons: E_BUSY if another one has it. If it is not
    // there it is made (one level), or E_NOT_FOUND. Blocks.
    static Result<std::unique_ptr<DirectoryVolume>> open(EventLoop& loop, const std::string& path,
                                                         bool make = true);
    // Waits for the call under way.
    ~DirectoryVolume() override;

    void list(env::Callback<std::vector<env::VolumeFile>> done) override;
    void create(std::string name, env::StatusCallback done) override;
    void append(const std::string& name, std::span<const std::byte> from,
                env::StatusCallback done) override;
    void read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override;
    void read_once(const std::string& name, std::uint64_t offset, std::uint64_t length,
                   env::Callback<env::VolumeContent> done) override;
    [[nodiscard]] std::uint64_t request_cost() const override { return request_cost_; }
    void truncate(const std::string& name, std::uint64_t size, env::StatusCallback done) override;
    void sync(const std::string& name, std::string_view site, env::StatusCallback done) override;
    void sync_directory(std::string_view site, env::StatusCallback done) override;
    void remove(const std::string& name, env::StatusCallback done) override;
    void rename(const std::string& from, const std::string& to, env::StatusCallback done) override;
    void space(env::Callback<env::VolumeSpace> done) override;

private:
    struct OpenFile {
        FileDescriptor file;
        FileDescriptor direct;  // past the cache; none: the file system has no such thing
        // What direct reads begin and end at a multiple of, as far as is known.
        std::atomic<std::uint64_t> read_alignment = sector_bytes;
    };
    using OpenFilePtr = std::shared_ptr<OpenFile>;
    struct Named {
        std::string name;
        OpenFilePtr file;
        bool unsynced = false;
    };

    DirectoryVolume(EventLoop& loop, std::string path, FileDescriptor directory);

    void read_aside(OpenFilePtr file, const std::string& name, std::uint64_t offset,
                    std::uint64_t length, env::Callback<env::VolumeContent> done);
    void read_by_thread(const std::string& name, std::uint64_t offset, std::uint64_t length,
                        env::Callback<env::VolumeContent> done);
    // None: it is not open.
    [[nodiscard]] OpenFilePtr opened(const std::string& name);

    // On any thread. `changed`: it stays open until it is synced.
    Result<OpenFilePtr> file_of(const std::string& name, bool changed = false);
    [[nodiscard]] Result<OpenFilePtr> open_now(const std::string& name, int flags) const;
    void remember(std::string name, OpenFilePtr file);
    void synced(const std::string& name);
    void forget(const std::string& name);
    // Long ones past the cache.
    Status read_now(const std::string& name, std::uint64_t offset, std::span<std::byte> into);
    static Result<std::uint64_t> read_direct(OpenFile& file, std::uint64_t at,
                                             std::span<std::byte> into, const std::string& path);

    // All below run on the worker's thread.
    Result<std::vector<env::VolumeFile>> list_now();
    Status create_now(const std::string& name);
    Status append_now(const std::string& name, std::span<const std::byte> from);
    Status rename_now(const std::string& from, const std::string& to);
    [[nodiscard]] std::string full(const std::string& name) const { return path_ + "/" + name; }

    const std::string path_;
    FileDescriptor directory_;
    std::uint64_t request_cost_ = env::Volume::request_cost();
    std::mutex mutex_;
    // Under mutex_. Recently used first. A file written to stays open until it is synced: an error
    // of write-back is then reported to that.
    std::list<Named> open_files_;
    Worker worker_;
    Worker readers_;
    std::unique_ptr<AioReader> aside_;
};

}  // namespace ebb::platform
