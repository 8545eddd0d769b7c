// SPDX-License-Identifier: Apache-2.0
// env::Volume on a directory. One thread makes the calls, in the order they were asked for.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "env/volume.h"
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
    void truncate(const std::string& name, std::uint64_t size, env::StatusCallback done) override;
    void sync(const std::string& name, std::string_view site, env::StatusCallback done) override;
    void sync_directory(std::string_view site, env::StatusCallback done) override;
    void remove(const std::string& name, env::StatusCallback done) override;
    void rename(const std::string& from, const std::string& to, env::StatusCallback done) override;
    void space(env::Callback<env::VolumeSpace> done) override;

private:
    struct OpenFile {
        std::string name;
        FileDescriptor file;
    };

    DirectoryVolume(EventLoop& loop, std::string path, FileDescriptor directory);

    // All below run on the worker's thread.
    Result<std::vector<env::VolumeFile>> list_now();
    Result<int> file_of(const std::string& name);
    void forget(const std::string& name);
    Status create_now(const std::string& name);
    Status append_now(const std::string& name, std::span<const std::byte> from);
    Status read_now(const std::string& name, std::uint64_t offset, std::span<std::byte> into);
    Status rename_now(const std::string& from, const std::string& to);
    [[nodiscard]] std::string full(const std::string& name) const { return path_ + "/" + name; }

    const std::string path_;
    FileDescriptor directory_;
    // Recently used first. A file written to stays open until it is synced, or so many others
    // were used: an error of write-back is then reported to its next sync.
    std::list<OpenFile> open_files_;
    Worker worker_;
};

}  // namespace ebb::platform
