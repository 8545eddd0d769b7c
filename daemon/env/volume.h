// SPDX-License-Identifier: Apache-2.0
// A directory on the retention volume: append-only files and small replaced ones. Names are plain
// file names. Durability as POSIX gives it and no better: a file's bytes are durable after `sync`
// of the file, its name after `sync_directory`; unsynced bytes may be lost, torn or reordered.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "env/env.h"

namespace ebb::env {

struct VolumeFile {
    std::string name;
    std::uint64_t size = 0;
};

struct VolumeContent {
    Buffer memory;
    std::uint64_t begin = 0;
    std::uint64_t length = 0;
    [[nodiscard]] std::span<const std::byte> bytes() const {
        return memory.span().subspan(begin, length);
    }
};

struct VolumeSpace {
    std::uint64_t total = 0;
    std::uint64_t available = 0;  // to us
};

class Volume {
public:
    virtual ~Volume() = default;
    virtual void list(Callback<std::vector<VolumeFile>> done) = 0;
    // E_EXISTS if there is one.
    virtual void create(std::string name, StatusCallback done) = 0;
    // Appends at the end. On an error (E_NO_SPACE, E_IO) the file may have grown by a part.
    virtual void append(const std::string& name, std::span<const std::byte> from,
                        StatusCallback done) = 0;
    // Exactly into.size() bytes, E_IO when the file is shorter.
    virtual void read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
                      StatusCallback done) = 0;
    // The same of what nobody will read again soon: no cache keeps it, and little more is read. It
    // comes in memory in which it may lie anywhere, so that nobody has to copy it.
    virtual void read_once(const std::string& name, std::uint64_t offset, std::uint64_t length,
                           Callback<VolumeContent> done);
    // As Disk::request_cost().
    [[nodiscard]] virtual std::uint64_t request_cost() const { return 64ULL << 10; }
    // Ordered after nothing but an earlier sync of the file.
    virtual void truncate(const std::string& name, std::uint64_t size, StatusCallback done) = 0;
    // `site`: as in Disk::flush. When it fails, what is read afterwards is what the disk has, and
    // not what a cache would have had: that reads well, and later syncs succeed, without it ever
    // reaching the disk.
    virtual void sync(const std::string& name, std::string_view site, StatusCallback done) = 0;
    virtual void sync_directory(std::string_view site, StatusCallback done) = 0;
    virtual void remove(const std::string& name, StatusCallback done) = 0;
    // Replaces `to`, atomically.
    virtual void rename(const std::string& from, const std::string& to, StatusCallback done) = 0;
    virtual void space(Callback<VolumeSpace> done) = 0;
};

inline void Volume::read_once(const std::string& name, std::uint64_t offset, std::uint64_t length,
                              Callback<VolumeContent> done) {
    auto content = std::make_shared<VolumeContent>(Buffer(length), 0, length);
    const auto into = content->memory.span();
    read(name, offset, into, [content, done = std::move(done)](Status status) mutable {
        if (status)
            done(std::move(*content));
        else
            done(std::unexpected(std::move(status.error())));
    });
}

}  // namespace ebb::env
