// SPDX-License-Identifier: Apache-2.0
#include "platform/map_device.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <vector>

#include "base/buffer.h"
#include "base/uuid_text.h"
#include "platform/file_descriptor.h"
#include "platform/map_config.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

constexpr const char* partition_name = "ebb-map";

// Past the page cache: the module writes past it, too.
Result<FileDescriptor> open_direct(const std::string& node, int flags) {
    FileDescriptor fd(::open(node.c_str(), flags | O_DIRECT | O_CLOEXEC));
    if (!fd.valid() && errno == EINVAL)
        fd = FileDescriptor(::open(node.c_str(), flags | O_CLOEXEC));  // a file in a test
    if (!fd.valid()) return system_fail(errno, "opening " + node);
    return fd;
}

Status read_at(int fd, std::uint64_t offset, std::span<std::byte> into) {
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t got =
            ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_fail(errno, "reading the map directory");
        if (got == 0) return fail(ErrorCode::io, "the map device is too small");
        done += static_cast<std::size_t>(got);
    }
    return {};
}

Status write_at(int fd, std::uint64_t offset, std::span<const std::byte> from) {
    std::size_t done = 0;
    while (done < from.size()) {
        const ssize_t put =
            ::pwrite(fd, from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return system_fail(put < 0 ? errno : EIO, "writing the map directory");
        done += static_cast<std::size_t>(put);
    }
    if (::fdatasync(fd) != 0) return system_fail(errno, "writing the map directory");
    return {};
}

Result<format::MapDirectory> read_directory(int fd) {
    Buffer first(format::directory_copy_bytes);
    Buffer second(format::directory_copy_bytes);
    if (auto ok = read_at(fd, 0, first.span()); !ok) return std::unexpected(ok.error());
    if (auto ok = read_at(fd, format::directory_second_copy, second.span()); !ok)
        return std::unexpected(ok.error());
    return format::newest_map_directory(first.span(), second.span());
}

Result<std::uint64_t> number_of(int fd, const std::string& node) {
    struct stat status = {};
    if (::fstat(fd, &status) != 0) return system_fail(errno, "looking at " + node);
    return std::uint64_t{major(status.st_rdev)} << 32 | minor(status.st_rdev);
}

std::string partition_name_of(const BlockDevice& device) {
    std::ifstream in(device.path + "/uevent");
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("PARTNAME=")) return line.substr(9);
    }
    return {};
}

bool may_be_map(const BlockTable& table, const BlockDevice& device) {
    if (device.size < 2 * format::directory_bytes || device.name.starts_with("ebb")) return false;
    const bool partition = !device.parent.empty();
    const auto* disk = partition ? table.find(device.parent) : &device;
    if (disk == nullptr || !disk->physical) return false;
    if (partition) {
        const auto name = partition_name_of(device);
        return name.empty() || name == partition_name;
    }
    return std::ranges::none_of(
        table.devices(), [&](const auto& other) { return other.second.parent == device.name; });
}

Status check_empty(int fd, const std::string& node) {
    Buffer head(format::directory_bytes);
    if (auto ok = read_at(fd, 0, head.span()); !ok) return ok;
    const auto zero = [](std::byte byte) { return byte == std::byte{0}; };
    if (std::ranges::all_of(head.span(), zero)) return {};
    return fail("E_MAP_IN_USE", ErrorCode::refused, node + " holds something already",
                "Clear it (wipefs, blkdiscard -z), or say --force");
}

}  // namespace

Result<MapDevice> MapDevice::open(const std::string& node) {
    auto fd = open_direct(node, O_RDONLY);
    if (!fd) return std::unexpected(fd.error());
    auto directory = read_directory(fd->get());
    if (!directory) {
        auto error = directory.error();
        error.message = node + ": " + error.message;
        return std::unexpected(std::move(error));
    }
    auto number = number_of(fd->get(), node);
    if (!number) return std::unexpected(number.error());
    return MapDevice(node, *number, std::move(*directory));
}

Result<MapDevice> MapDevice::find(const BlockTable& table, const std::optional<Uuid>& uuid) {
    std::vector<MapDevice> found;
    std::optional<Error> damaged;
    for (const auto& [name, device] : table.devices()) {
        if (!may_be_map(table, device)) continue;
        auto map = open(table.node(device));
        if (map && (!uuid || map->directory().uuid == *uuid)) found.push_back(std::move(*map));
        if (!map && map.error().code == ErrorCode::corrupt) damaged = map.error();
    }
    if (found.size() > 1) {
        return fail("E_MAP_AMBIGUOUS", ErrorCode::refused,
                    found[0].node() + " and " + found[1].node() + " are both map devices",
                    "Name one with --map, or take the other away");
    }
    if (!found.empty()) return std::move(found.front());
    if (damaged) return std::unexpected(*damaged);
    return fail("E_MAP_NOT_FOUND", ErrorCode::not_found,
                uuid ? "there is no map device with the directory " + to_text(*uuid)
                     : "there is no map device",
                "Attach it, or make one: ebb-attach --create DEVICE");
}

Result<MapDevice> MapDevice::create(const std::string& node, bool force,
                                    const std::optional<Uuid>& uuid) {
    auto fd = open_direct(node, O_RDWR | O_EXCL);
    if (!fd && fd.error().message.ends_with("busy")) {
        return fail("E_MAP_IN_USE", ErrorCode::refused, node + " is in use",
                    "Unmount what is on it, or choose another device");
    }
    if (!fd) return std::unexpected(fd.error());
    const auto size = ::lseek(fd->get(), 0, SEEK_END);
    if (size < static_cast<off_t>(2 * format::directory_bytes)) {
        return fail("E_MAP_FULL", ErrorCode::no_space, node + " is smaller than 2 MiB",
                    "A larger one: 1 MiB and 32 MiB for each TiB that is tracked");
    }
    if (!force) {
        if (auto ok = check_empty(fd->get(), node); !ok) return std::unexpected(ok.error());
    }
    auto number = number_of(fd->get(), node);
    if (!number) return std::unexpected(number.error());
    format::MapDirectory directory;
    directory.device_bytes = static_cast<std::uint64_t>(size) / block_bytes * block_bytes;
    if (uuid) {
        directory.uuid = *uuid;
    } else if (::getrandom(directory.uuid.bytes.data(), directory.uuid.bytes.size(), 0) < 0) {
        return system_fail(errno, "a random UUID");
    }
    // Nothing of an older directory may come back.
    const Buffer zeroes = [] {
        Buffer buffer(format::directory_copy_bytes);
        std::ranges::fill(buffer.span(), std::byte{0});
        return buffer;
    }();
    for (const auto at : {std::uint64_t{0}, format::directory_second_copy}) {
        if (auto ok = write_at(fd->get(), at, zeroes.span()); !ok)
            return std::unexpected(ok.error());
    }
    MapDevice map(node, *number, directory);
    if (auto ok = map.store(directory); !ok) return std::unexpected(ok.error());
    return map;
}

Status MapDevice::store(format::MapDirectory directory) {
    auto fd = open_direct(node_, O_RDWR);
    if (!fd) return std::unexpected(fd.error());
    directory.sequence = directory_.sequence + 1;
    const auto copy = format::encode(directory);
    Buffer buffer(copy.size());
    std::ranges::copy(copy, buffer.span().begin());
    const std::uint64_t at = directory.sequence % 2 == 0 ? 0 : format::directory_second_copy;
    if (auto ok = write_at(fd->get(), at, buffer.span()); !ok) return ok;
    directory_ = std::move(directory);
    return {};
}

}  // namespace ebb::platform
