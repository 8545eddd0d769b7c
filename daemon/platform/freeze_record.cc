// SPDX-License-Identifier: Apache-2.0
#include "platform/freeze_record.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "platform/file_descriptor.h"
#include "platform/file_store.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

bool plain(char c) {
    return c != '\\' && c != '\n' && c != '\0';
}

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (plain(c)) {
            out += c;
            continue;
        }
        const auto u = static_cast<unsigned char>(c);
        for (const int shift : {6, 3, 0}) {
            if (shift == 6) out += '\\';
            out += static_cast<char>('0' + ((u >> shift) & 7));
        }
    }
    return out;
}

std::string unescaped(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 3 >= text.size()) {
            out += text[i];
            continue;
        }
        out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] -
                                 '0');
        i += 3;
    }
    return out;
}

bool in_memory(int fd) {
    struct statfs info{};
    return ::fstatfs(fd, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

// Of a device that filesystems like btrfs make up nothing can be told by a file's number.
bool other_device(int fd, const std::string& number) {
    struct stat info{};
    if (::fstat(fd, &info) != 0 || number.starts_with("0:")) return false;
    return number != std::to_string(major(info.st_dev)) + ":" + std::to_string(minor(info.st_dev));
}

// True: it was frozen.
Result<bool> thaw(const RecordedFilesystem& filesystem, const FreezeCalls& calls) {
    const FileDescriptor fd(
        ::open(filesystem.point.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd.valid()) return system_fail(errno, "open " + filesystem.point);
    if (other_device(fd.get(), filesystem.number)) return false;  // it was unmounted since
    const int error = calls.thaw(fd.get());
    if (error != 0 && error != EINVAL) return system_fail(error, "thaw " + filesystem.point);
    return error == 0;
}

}  // namespace

std::string freeze_record_text(const std::vector<RecordedFilesystem>& filesystems) {
    std::string text;
    for (const auto& one : filesystems)
        text += std::string(1, one.state) + " " + one.number + " " + escaped(one.point) + "\n";
    return text;
}

std::vector<RecordedFilesystem> parse_freeze_record(std::string_view text) {
    std::vector<RecordedFilesystem> found;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        const auto line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const auto blank = line.size() < 2 ? std::string_view::npos : line.find(' ', 2);
        if (blank == std::string_view::npos || line[1] != ' ') continue;
        found.push_back(
            {line[0], std::string(line.substr(2, blank - 2)), unescaped(line.substr(blank + 1))});
    }
    return found;
}

Status write_freeze_record(const std::string& path, std::vector<RecordedFilesystem> filesystems) {
    const auto folder = std::filesystem::path(path).parent_path();
    if (auto ok = make_directories(folder); !ok) return ok;
    const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return system_fail(errno, "open " + folder.string());
    for (auto& one : filesystems) one.state = in_memory(fd.get()) ? '.' : 'i';
    return replace_file(path, freeze_record_text(filesystems), private_mode);
}

std::vector<char*> map_freeze_record(int fd) {
    struct stat info{};
    if (!in_memory(fd) || ::fstat(fd, &info) != 0 || info.st_size <= 0) return {};
    const auto size = static_cast<std::size_t>(info.st_size);
    void* const at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return {};
    auto* const text = static_cast<char*>(at);
    std::vector<char*> states;
    for (std::size_t i = 0; i < size; ++i) {
        if (i == 0 || text[i - 1] == '\n') states.push_back(text + i);
    }
    return states;
}

Result<std::vector<std::string>> thaw_recorded(const std::string& path, const FreezeCalls& calls) {
    std::vector<std::string> thawed;
    auto text = read_file(path);
    if (!text && text.error().code == ErrorCode::not_found) return thawed;
    if (!text) return std::unexpected(text.error());
    std::optional<Error> wrong;
    for (const auto& one : parse_freeze_record(*text)) {
        if (one.state != 'i' && one.state != 'f') continue;
        auto was = thaw(one, calls);
        if (!was)
            wrong = was.error();
        else if (*was)
            thawed.push_back(one.point);
    }
    if (wrong) return std::unexpected(std::move(*wrong));
    if (auto ok = remove_file(path); !ok) return std::unexpected(ok.error());
    return thawed;
}

}  // namespace ebb::platform
