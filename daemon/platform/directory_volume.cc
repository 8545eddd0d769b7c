// SPDX-License-Identifier: Apache-2.0
#include "platform/directory_volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "platform/request_cost.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

constexpr std::size_t open_files_max = 32;
constexpr unsigned reading_threads = 4;
// Of what is read once: short reads of a disk that does not seek are as many as it takes to keep it
// busy while nobody here has a CPU.
constexpr std::size_t aside_depth = 256;
constexpr std::size_t aside_together = 64;
// Shorter ones are made by way of the cache.
constexpr std::uint64_t direct_append_bytes = 1ULL << 20;
constexpr std::uint64_t direct_read_bytes = 256ULL << 10;
constexpr std::uint64_t direct_step_bytes = 1ULL << 20;
constexpr std::uint64_t direct_read_step_bytes = 256ULL << 10;
constexpr mode_t file_mode = 0600;
constexpr mode_t directory_mode = 0700;

// What is clean goes from the cache: after a write that failed that is what never reached the disk.
void drop_cache(int file) {
    (void)::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

// Memory of a thread, for what is not where direct I/O wants it.
Buffer& bounce() {
    thread_local Buffer buffer(direct_step_bytes);
    return buffer;
}
Buffer& read_bounce() {
    thread_local Buffer buffer(direct_read_step_bytes);
    return buffer;
}

bool not_direct(int error) {
    return error == EINVAL || error == EOPNOTSUPP;
}

Status append_cached(int file, std::span<const std::byte> from, const std::string& path) {
    while (!from.empty()) {
        const ssize_t written = ::write(file, from.data(), from.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return system_fail(errno, "append to " + path);
        from = from.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

// Whole blocks of `from`, which come to lie at `at`, a multiple of a block; says how many bytes.
// The rest is for the cache.
Result<std::uint64_t> append_direct(int file, std::uint64_t at, std::span<const std::byte> from,
                                    const std::string& path) {
    std::uint64_t done = 0;
    while (from.size() - done >= direct_io_alignment) {
        const std::uint64_t whole =
            (from.size() - done) / direct_io_alignment * direct_io_alignment;
        const auto part = from.subspan(done, std::min(whole, direct_step_bytes));
        std::memcpy(bounce().data(), part.data(), part.size());
        const ssize_t written =
            ::pwrite(file, bounce().data(), part.size(), static_cast<off_t>(at + done));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && not_direct(errno)) break;
        if (written < 0) return system_fail(errno, "append to " + path);
        done += static_cast<std::uint64_t>(written);
        if (done % direct_io_alignment != 0) break;
    }
    return done;
}

Status check_name(const std::string& name) {
    if (name.empty() || name == "." || name == ".." || name.size() > 255 ||
        name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
        return fail(ErrorCode::invalid, "not a plain file name: '" + name + "'");
    return {};
}

}  // namespace

DirectoryVolume::DirectoryVolume(EventLoop& loop, std::string path, FileDescriptor directory)
    : path_(std::move(path)),
      directory_(std::move(directory)),
      worker_(loop, 1, "ebb-volume"),
      readers_(loop, reading_threads, "ebb-volume-read") {
    struct stat info{};
    if (::fstat(directory_.get(), &info) == 0 && !seeks(info.st_dev)) request_cost_ = no_seek_cost;
}

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
    auto volume =
        std::unique_ptr<DirectoryVolume>(new DirectoryVolume(loop, path, std::move(directory)));
    auto aside = AioReader::open(
        loop, {.name = "ebb-volume-aio", .depth = aside_depth, .together = aside_together});
    if (!aside) return std::unexpected(aside.error());
    volume->aside_ = std::move(*aside);
    return volume;
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

Result<DirectoryVolume::OpenFilePtr> DirectoryVolume::file_of(const std::string& name,
                                                              bool changed) {
    if (auto status = check_name(name); !status) return std::unexpected(status.error());
    const std::lock_guard lock(mutex_);
    auto found = std::ranges::find(open_files_, name, &Named::name);
    if (found == open_files_.end()) {
        auto file = open_now(name, 0);
        if (!file) return file;
        // A daemon before this one may have died of a sync that failed.
        drop_cache((*file)->file.get());
        remember(name, std::move(*file));
        found = open_files_.begin();
    }
    open_files_.splice(open_files_.begin(), open_files_, found);
    found->unsynced = found->unsynced || changed;
    return found->file;
}

Result<DirectoryVolume::OpenFilePtr> DirectoryVolume::open_now(const std::string& name,
                                                               int flags) const {
    constexpr int always = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
    auto file = std::make_shared<OpenFile>();
    file->file = FileDescriptor(
        ::openat(directory_.get(), name.c_str(), always | O_APPEND | flags, file_mode));
    if (!file->file.valid())
        return system_fail(errno, (flags == 0 ? "open " : "create ") + full(name));
    file->direct = FileDescriptor(::openat(directory_.get(), name.c_str(), always | O_DIRECT));
    return file;
}

// With mutex_.
void DirectoryVolume::remember(std::string name, OpenFilePtr file) {
    open_files_.push_front({std::move(name), std::move(file)});
    if (open_files_.size() <= open_files_max) return;
    const auto oldest = std::find_if(open_files_.rbegin(), std::prev(open_files_.rend()),
                                     [](const Named& open) { return !open.unsynced; });
    if (oldest != std::prev(open_files_.rend())) open_files_.erase(std::next(oldest).base());
}

void DirectoryVolume::synced(const std::string& name) {
    const std::lock_guard lock(mutex_);
    for (Named& open : open_files_)
        if (open.name == name) open.unsynced = false;
}

void DirectoryVolume::forget(const std::string& name) {
    const std::lock_guard lock(mutex_);
    std::erase_if(open_files_, [&](const Named& open) { return open.name == name; });
}

void DirectoryVolume::create(std::string name, env::StatusCallback done) {
    worker_.submit<void>([this, name = std::move(name)] { return create_now(name); },
                         std::move(done));
}

Status DirectoryVolume::create_now(const std::string& name) {
    if (auto status = check_name(name); !status) return status;
    forget(name);
    auto file = open_now(name, O_CREAT | O_EXCL);
    if (!file) return std::unexpected(file.error());
    const std::lock_guard lock(mutex_);
    remember(name, std::move(*file));
    return {};
}

void DirectoryVolume::append(const std::string& name, std::span<const std::byte> from,
                             env::StatusCallback done) {
    worker_.submit<void>([this, name, from] { return append_now(name, from); }, std::move(done));
}

Status DirectoryVolume::append_now(const std::string& name, std::span<const std::byte> from) {
    const auto file = file_of(name, true);
    if (!file) return std::unexpected(file.error());
    const int cached = (*file)->file.get();
    if (from.size() >= direct_append_bytes && (*file)->direct.valid()) {
        struct stat info{};
        if (::fstat(cached, &info) != 0) return system_fail(errno, "stat " + full(name));
        const auto size = static_cast<std::uint64_t>(info.st_size);
        const std::uint64_t begin =
            (size + direct_io_alignment - 1) / direct_io_alignment * direct_io_alignment;
        auto status = append_cached(cached, from.first(begin - size), full(name));
        if (!status) return status;
        from = from.subspan(begin - size);
        const auto done = append_direct((*file)->direct.get(), begin, from, full(name));
        if (!done) return std::unexpected(done.error());
        from = from.subspan(*done);
    }
    return append_cached(cached, from, full(name));
}

void DirectoryVolume::read(const std::string& name, std::uint64_t offset, std::span<std::byte> into,
                           env::StatusCallback done) {
    readers_.submit<void>([this, name, offset, into] { return read_now(name, offset, into); },
                          std::move(done));
}

void DirectoryVolume::read_once(const std::string& name, std::uint64_t offset, std::uint64_t length,
                                env::Callback<env::VolumeContent> done) {
    if (auto file = opened(name)) {
        read_aside(std::move(file), name, offset, length, std::move(done));
        return;
    }
    // Opening it may take as long as a read.
    readers_.submit<OpenFilePtr>(
        [this, name] { return file_of(name); },
        [this, name, offset, length, done = std::move(done)](Result<OpenFilePtr> file) mutable {
            if (!file) return done(std::unexpected(std::move(file.error())));
            read_aside(std::move(*file), name, offset, length, std::move(done));
        });
}

DirectoryVolume::OpenFilePtr DirectoryVolume::opened(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(open_files_, name, &Named::name);
    if (found == open_files_.end()) return nullptr;
    open_files_.splice(open_files_.begin(), open_files_, found);
    return found->file;
}

// Sectors of 512 bytes are tried, since blocks of undo lie anywhere; those of 4 KiB are what
// everything takes that has direct reads.
void DirectoryVolume::read_aside(OpenFilePtr file, const std::string& name, std::uint64_t offset,
                                 std::uint64_t length, env::Callback<env::VolumeContent> done) {
    if (length == 0 || !file->direct.valid())
        return read_by_thread(name, offset, length, std::move(done));
    const std::uint64_t alignment = file->read_alignment;
    const std::uint64_t from = offset / alignment * alignment;
    const std::uint64_t to = (offset + length + alignment - 1) / alignment * alignment;
    env::VolumeContent content{Buffer(to - from), offset - from, length};
    const int direct = file->direct.get();
    const auto into = content.memory.span();
    aside_->read(direct, from, into,
                 [this, file = std::move(file), name, offset, length, alignment,
                  content = std::move(content), done = std::move(done)](long got) mutable {
                     if (got >= 0 && static_cast<std::uint64_t>(got) >= content.begin + length)
                         return done(std::move(content));
                     if (got == -EINVAL && alignment < direct_io_alignment) {
                         file->read_alignment = direct_io_alignment;
                         return read_aside(std::move(file), name, offset, length, std::move(done));
                     }
                     // It says what is wrong, if anything is.
                     read_by_thread(name, offset, length, std::move(done));
                 });
}

void DirectoryVolume::read_by_thread(const std::string& name, std::uint64_t offset,
                                     std::uint64_t length, env::Callback<env::VolumeContent> done) {
    readers_.submit<env::VolumeContent>(
        [this, name, offset, length]() -> Result<env::VolumeContent> {
            env::VolumeContent content{Buffer(length), 0, length};
            auto status = read_now(name, offset, content.memory.span());
            if (!status) return std::unexpected(status.error());
            return content;
        },
        std::move(done));
}

// Says how much; less than all: the rest is for the cache. Alignment as in read_aside().
Result<std::uint64_t> DirectoryVolume::read_direct(OpenFile& file, std::uint64_t at,
                                                   std::span<std::byte> into,
                                                   const std::string& path) {
    std::uint64_t done = 0;
    while (done < into.size()) {
        const std::uint64_t alignment = file.read_alignment;
        const std::uint64_t from = (at + done) / alignment * alignment;
        const std::uint64_t before = at + done - from;
        const std::uint64_t wanted = (before + into.size() - done + alignment - 1) / alignment;
        const ssize_t got =
            ::pread(file.direct.get(), read_bounce().data(),
                    std::min(wanted * alignment, direct_read_step_bytes), static_cast<off_t>(from));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EINVAL && alignment < direct_io_alignment) {
            file.read_alignment = direct_io_alignment;
            continue;
        }
        if (got < 0 && not_direct(errno)) break;
        if (got < 0) return system_fail(errno, "read " + path);
        if (static_cast<std::uint64_t>(got) <= before) break;
        const std::uint64_t part = std::min(static_cast<std::uint64_t>(got) - before,
                                            static_cast<std::uint64_t>(into.size()) - done);
        std::memcpy(into.data() + done, read_bounce().data() + before, part);
        done += part;
    }
    return done;
}

Status DirectoryVolume::read_now(const std::string& name, std::uint64_t offset,
                                 std::span<std::byte> into) {
    const auto file = file_of(name);
    if (!file) return std::unexpected(file.error());
    if (into.size() >= direct_read_bytes && (*file)->direct.valid()) {
        const auto done = read_direct(**file, offset, into, full(name));
        if (!done) return std::unexpected(done.error());
        into = into.subspan(*done);
        offset += *done;
    }
    while (!into.empty()) {
        const ssize_t got =
            ::pread((*file)->file.get(), into.data(), into.size(), static_cast<off_t>(offset));
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
            const auto file = file_of(name, true);
            if (!file) return std::unexpected(file.error());
            if (::ftruncate((*file)->file.get(), static_cast<off_t>(size)) != 0)
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
            const int result = ::fdatasync((*file)->file.get());
            const int error = errno;
            synced(name);
            if (result == 0) return {};
            drop_cache((*file)->file.get());
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
            const int result = ::unlinkat(directory_.get(), name.c_str(), 0);
            const int error = errno;
            // Not before: somebody who reads might open it once more.
            forget(name);
            if (result != 0) return system_fail(error, "remove " + full(name));
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
    const std::lock_guard lock(mutex_);
    std::erase_if(open_files_, [&](const Named& open) { return open.name == to; });
    if (::renameat(directory_.get(), from.c_str(), directory_.get(), to.c_str()) != 0)
        return system_fail(errno, "rename " + full(from) + " to " + to);
    for (Named& open : open_files_)
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
