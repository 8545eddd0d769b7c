// SPDX-License-Identifier: Apache-2.0
// The directory of a map device, with a checksum that fits and without.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "format/crc32c.h"
#include "format/map_directory.h"

using namespace ebb::format;

namespace {

constexpr std::size_t crc_at = 12;

void again(std::span<const std::byte> copy) {
    const auto directory = decode_map_directory(copy);
    if (!directory) return;
    const auto back = decode_map_directory(encode(*directory));
    if (!back || back->slots != directory->slots) std::abort();
    auto changed = *directory;
    static_cast<void>(changed.reserve("another", 1 << 30, 1));
    if (!decode_map_directory(encode(changed))) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::vector<std::byte> copy(directory_copy_bytes);
    std::memcpy(copy.data(), data, std::min(size, copy.size()));
    again(copy);
    std::memset(copy.data() + crc_at, 0, 4);
    const std::uint32_t crc = crc32c(copy);
    std::memcpy(copy.data() + crc_at, &crc, sizeof(crc));
    again(copy);
    static_cast<void>(newest_map_directory(std::as_bytes(std::span(data, size)), copy));
    return 0;
}
