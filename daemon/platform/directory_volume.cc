// SPDX-License-Identifier: Apache-2.0
#include "platform/directory_volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>

#include "platform/system_error.h"

namespace ebb::platform {

namespace {

constexpr std::size_t open_files_max = 32;
constexpr mode_t file_mode = 0600;
constexpr mode_t directory_mode = 0700;

// What is clean goes from the cache: after a write that failed that is what never reached the disk.
void drop_cache(int file) {
    (void)::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

Status check_name(const std::string& name) {
    if (name.empty() || name == "." || name == ".." || name.size() > 255 ||
        name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
        return fail(ErrorCode::invalid, "not a plain file name: '" + name + "'");
    return {};
}

}  // namespace

DirectoryVolume::DirectoryVolume(EventLoop& loop, std::string path, FileDescriptor directory)
    : path_(std::move(path)), directory_(std::move(directory)), worker_(loop, 1, "ebb-volume") {}

DirectoryVolume::~DirectoryVolume() = default;

Result<std::unique_ptr<DirectoryVolume>> DirectoryVolume::open(EventLoop& loop,
                                                               const std::string& path, bool make) {
    if (make && ::mkdir(path.c_str(), directory_mode) != 0 && errno != EEXIST)
        return system_fail(errno, "make directory " + path);
    FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid()) return system_fail(errno, "open " + path);
    // Its own name is to be as durable as what is in it, whoever has made it.
    const FileDescriptor parent(
        ::openat(directory.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent.valid() || ::fsync(parent.get()) != 0)
        return system_fail(errno, "sync the directory of " + path);
    if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return fail(ErrorCode::busy, path + " is in use by another daemon");
        return system_fail(errno, "lock " + path);
    }
    return std::unique_ptr<DirectoryVolume>(new DirectoryVolume(loop, path, std::move(directory)));
}

void DirectoryVolume::list(env::Callback<std::vector<env::VolumeFile>> done) {
    worker_.submit<std::vector<env::VolumeFile>>([this] { return list_now(); }, std::move(done));
}

Result<std::vector<env::VolumeFile>> DirectoryVolume::list_now() {
    const int copy = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0) return system_fail(errno, "open " + path_);
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(copy), ::closedir);
    if (!entries) {
        ::close(copy);
        return system_fail(errno, "list " + path_);
    }
    std::vector<env::VolumeFile> files;
    for (;;) {
        errno = 0;
        const dirent* entry = ::readdir(entries.get());
        if (entry == nullptr) break;
        struct stat info{};
        if (::fstatat(directory_.get(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) continue;
            return system_fail(errno, "stat " + full(entry->d_name));
        }
        if (S_ISREG(info.st_mode))
            files.push_back({entry->d_name, static_cast<std::uint64_t>(info.st_size)});
    }
    if (errno != 0) return system_fail(errno, "list " + path_);
    return files;
}

Result<int> DirectoryVolume::file_of(const std::string& name) {
    if (auto status = check_name(name); !status) return std::unexpected(status.error());
    for (auto it = open_files_.begin(); it != open_files_.end(); ++it) {
        if (it->name != name) continue;
        open_files_.splice(open_files_.begin(), open_files_, it);
        return open_files_.front().file.get();
    }
    FileDescriptor file(
        ::openat(directory_.get(), name.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_APPEND));
    if (!file.valid()) return system_fail(errno, "open " + full(name));
    // A daemon before this one may have died of a sync that failed.
    drop_cache(file.get());
    open_files_.push_front({name, std::move(file)});
    if (open_files_.size() > open_files_max) open_files_.pop_back();
    return open_files_.front().file.get();
}

void DirectoryVolume::forget(const std::string& name) {
    std::erase_if(open_files_, [&](const OpenFile& open) { return open.name == name; });
}

void DirectoryVolume::create(std::string name, env::StatusCallback done) {
    worker_.submit<void>([this, name = std::move(name)] { return create_now(name); },
                         std::move(done));
}

Status DirectoryVolume::create_now(const std::string& name) {
    if (auto status = check_name(name); !status) return status;
    forget(name);
    FileDescriptor file(::openat(directory_.get(), name.c_str(),
                                 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_APPEND,
                                 file_mode));
    if (!file.valid()) return system_fail(errno, "create " + full(name));
    open_files_.push_front({name, std::move(file)});
    if (open_files_.size() > open_files_max) open_files_.pop_back();
    return {};
}

void DirectoryVolume::append(const std::string& name, std::span<const std::byte> from,
                             env::StatusCallback done) {
    worker_.submit<void>([this, name, from] { return append_now(name, from); }, std::move(done));
}

Status DirectoryVolume::append_now(const std::string& name, std::span<const std::byte> from) {
    const auto file = file_of(name);
    if (!file) return std::unexpected(file.error());
    while (!from.empty()) {
        const ssize_t written = ::write(*file, from.data(), from.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return system_fail(errno, "append to " + full(name));
        from = from.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

void DirectoryVolume::read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
                           env::StatusCallback done) {
    worker_.submit<void>([this, name, offset, into] { return read_now(name, offset, into); },
                         std::move(done));
}

Status DirectoryVolume::read_now(const std::string& name, std::uint64_t offset,
                                 std::span<std::byte> into) {
    const auto file = file_of(name);
    if (!file) return std::unexpected(file.error());
    while (!into.empty()) {
        const ssize_t got = ::pread(*file, into.data(), into.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_fail(errno, "read " + full(name));
        if (got == 0) return fail(ErrorCode::io, "read " + full(name) + ": it is shorter");
        into = into.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
    return {};
}

void DirectoryVolume::truncate(const std::string& name, std::uint64_t size,
                               env::StatusCallback done) {
    worker_.submit<void>(
        [this, name, size]() -> Status {
            const auto file = file_of(name);
            if (!file) return std::unexpected(file.error());
            if (::ftruncate(*file, static_cast<off_t>(size)) != 0)
                return system_fail(errno, "truncate " + full(name));
            return {};
        },
        std::move(done));
}

void DirectoryVolume::sync(const std::string& name, std::string_view /*site*/,
                           env::StatusCallback done) {
    worker_.submit<void>(
        [this, name]() -> Status {
            const auto file = file_of(name);
            if (!file) return std::unexpected(file.error());
            if (::fdatasync(*file) == 0) return {};
            const int error = errno;
            drop_cache(*file);
            return system_fail(error, "sync " + full(name));
        },
        std::move(done));
}

void DirectoryVolume::sync_directory(std::string_view /*site*/, env::StatusCallback done) {
    worker_.submit<void>(
        [this]() -> Status {
            if (::fsync(directory_.get()) != 0) return system_fail(errno, "sync " + path_);
            return {};
        },
        std::move(done));
}

void DirectoryVolume::remove(const std::string& name, env::StatusCallback done) {
    worker_.submit<void>(
        [this, name]() -> Status {
            if (auto status = check_name(name); !status) return status;
            forget(name);
            if (::unlinkat(directory_.get(), name.c_str(), 0) != 0)
                return system_fail(errno, "remove " + full(name));
            return {};
        },
        std::move(done));
}

void DirectoryVolume::rename(const std::string& from, const std::string& to,
                             env::StatusCallback done) {
    worker_.submit<void>([this, from, to] { return rename_now(from, to); }, std::move(done));
}

Status DirectoryVolume::rename_now(const std::string& from, const std::string& to) {
    if (auto status = check_name(from); !status) return status;
    if (auto status = check_name(to); !status) return status;
    forget(to);
    if (::renameat(directory_.get(), from.c_str(), directory_.get(), to.c_str()) != 0)
        return system_fail(errno, "rename " + full(from) + " to " + to);
    for (auto& open : open_files_)
        if (open.name == from) open.name = to;
    return {};
}

void DirectoryVolume::space(env::Callback<env::VolumeSpace> done) {
    worker_.submit<env::VolumeSpace>(
        [this]() -> Result<env::VolumeSpace> {
            struct statvfs info{};
            if (::fstatvfs(directory_.get(), &info) != 0)
                return system_fail(errno, "space of " + path_);
            return env::VolumeSpace{info.f_frsize * info.f_blocks, info.f_frsize * info.f_bavail};
        },
        std::move(done));
}

}  // namespace ebb::platform
