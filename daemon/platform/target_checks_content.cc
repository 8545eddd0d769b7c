// SPDX-License-Identifier: Apache-2.0
// What is on a device: signatures by libblkid, then its first and last MiB.
#include <blkid/blkid.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "platform/target_checks.h"

namespace ebb::platform {

namespace {

constexpr std::uint64_t looked_at = 1 << 20;

struct Found {
    std::string type;   // file system, RAID, LVM, swap; empty: none
    std::string table;  // partition table; empty: none
};

using Probe = std::unique_ptr<blkid_struct_probe, decltype(&blkid_free_probe)>;

std::string value(blkid_probe probe, const char* name) {
    const char* data = nullptr;
    if (blkid_probe_lookup_value(probe, name, &data, nullptr) != 0 || data == nullptr) return {};
    return data;
}

std::unexpected<Error> failed(const std::string& what, const std::string& node, int number) {
    return fail(ErrorCode::io, "cannot " + what + " " + node + ": " + std::strerror(number));
}

Result<Probe> open_probe(const std::string& node) {
    errno = 0;
    Probe probe(blkid_new_probe_from_filename(node.c_str()), blkid_free_probe);
    if (!probe) return failed("open", node, errno == 0 ? ENOMEM : errno);
    blkid_probe_enable_superblocks(probe.get(), 1);
    blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE);
    blkid_probe_enable_partitions(probe.get(), 1);
    return probe;
}

// Signatures of several kinds at once are no error here: the first of each is enough to refuse.
Result<Found> signatures(const std::string& node) {
    auto probe = open_probe(node);
    if (!probe) return std::unexpected(probe.error());
    Found found;
    for (;;) {
        errno = 0;
        const int rc = blkid_do_probe(probe->get());
        if (rc < 0) return failed("read", node, errno == 0 ? EIO : errno);
        if (rc != 0) return found;
        if (found.type.empty()) found.type = value(probe->get(), "TYPE");
        if (found.table.empty()) found.table = value(probe->get(), "PTTYPE");
    }
}

Result<bool> all_zero(int fd, const std::string& node, std::uint64_t offset, std::uint64_t length) {
    std::vector<char> data(length);
    std::uint64_t done = 0;
    while (done < length) {
        const ssize_t got =
            ::pread(fd, data.data() + done, length - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return failed("read", node, errno);
        if (got == 0) break;
        done += static_cast<std::uint64_t>(got);
    }
    data.resize(done);
    return std::ranges::all_of(data, [](char c) { return c == 0; });
}

Result<std::string> ends(const std::string& node) {
    const int fd = ::open(node.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return failed("open", node, errno);
    const std::unique_ptr<const int, void (*)(const int*)> closer(
        &fd, [](const int* open) { ::close(*open); });
    const auto end = ::lseek(fd, 0, SEEK_END);
    if (end < 0) return failed("find the size of", node, errno);
    const auto size = static_cast<std::uint64_t>(end);
    const auto length = std::min(size, looked_at);
    auto zero = all_zero(fd, node, 0, length);
    if (!zero) return std::unexpected(zero.error());
    if (!*zero) return "data at its beginning";
    zero = all_zero(fd, node, size - length, length);
    if (!zero) return std::unexpected(zero.error());
    return *zero ? std::string{} : "data at its end";
}

}  // namespace

Result<std::string> device_signature(const std::string& node) {
    auto found = signatures(node);
    if (!found) return std::unexpected(found.error());
    return found->type;
}

Result<std::string> device_content(const std::string& node) {
    auto found = signatures(node);
    if (!found) return std::unexpected(found.error());
    if (!found->type.empty()) return found->type + " signature";
    if (!found->table.empty()) return found->table + " partition table";
    return ends(node);
}

}  // namespace ebb::platform
