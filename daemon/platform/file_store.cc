// SPDX-License-Identifier: Apache-2.0
#include "platform/file_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "platform/file_descriptor.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

std::string directory_of(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Status sync_directory_of(const std::string& path) {
    const std::string directory = directory_of(path);
    const FileDescriptor file(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file.valid()) return system_fail(errno, "open " + directory);
    if (::fsync(file.get()) != 0) return system_fail(errno, "sync " + directory);
    return {};
}

Status write_all(int file, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(file, content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return system_fail(errno, "write " + path);
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    if (::fsync(file) != 0) return system_fail(errno, "sync " + path);
    return {};
}

}  // namespace

Status replace_file(const std::string& path, std::string_view content, mode_t mode) {
    std::string beside = path + ".XXXXXX";
    const FileDescriptor file(::mkostemp(beside.data(), O_CLOEXEC));
    if (!file.valid()) return system_fail(errno, "create " + beside);
    Status status = write_all(file.get(), content, beside);
    if (status && ::fchmod(file.get(), mode) != 0) status = system_fail(errno, "chmod " + beside);
    if (status && ::rename(beside.c_str(), path.c_str()) != 0)
        status = system_fail(errno, "rename " + beside + " to " + path);
    if (!status) {
        ::unlink(beside.c_str());
        return status;
    }
    return sync_directory_of(path);
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return system_fail(errno, "open " + path);
    std::string content;
    std::string part(1 << 14, '\0');
    for (;;) {
        const ssize_t got = ::read(file.get(), part.data(), part.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_fail(errno, "read " + path);
        if (got == 0) return content;
        content.append(part, 0, static_cast<std::size_t>(got));
        if (content.size() > limit) return fail(ErrorCode::invalid, path + " is too large");
    }
}

Status make_directories(const std::string& path, mode_t mode) {
    std::size_t at = 0;
    while (at != std::string::npos) {
        at = path.find('/', at + 1);
        const std::string part = path.substr(0, at);
        if (part.empty()) continue;
        if (::mkdir(part.c_str(), mode) == 0) {
            if (auto status = sync_directory_of(part); !status) return status;
        } else if (errno != EEXIST) {
            // What is there may lie on a read-only file system: only its absence matters.
            const int error = errno;
            struct stat info{};
            if (::stat(part.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
                return system_fail(error, "make directory " + part);
        }
    }
    return {};
}

Status remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0)
        return errno == ENOENT ? Status{} : system_fail(errno, "remove " + path);
    return sync_directory_of(path);
}

}  // namespace ebb::platform
