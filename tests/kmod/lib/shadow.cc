// SPDX-License-Identifier: Apache-2.0
#include "lib/shadow.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ebb::kmodtest {

namespace {
constexpr std::uint64_t piece = 1 << 20;
constexpr std::uint64_t block = 4096;
}  // namespace

bool Shadow::read(int direct, std::uint64_t at, std::byte* to, std::uint64_t length) const {
    return pread(direct, to, length, static_cast<off_t>(at)) == static_cast<ssize_t>(length);
}

bool Shadow::take(int direct, std::uint64_t first, std::uint64_t bytes) {
    first_ = first;
    bytes_ = bytes;
    content_ = aligned(bytes);
    unknown_.assign((bytes + sector - 1) / sector, false);
    for (std::uint64_t at = 0; at < bytes; at += piece)
        if (!read(direct, first + at, content_.get() + at, std::min(piece, bytes - at)))
            return false;
    return true;
}

void Shadow::wrote(std::uint64_t at, std::span<const std::byte> data) {
    std::memcpy(content_.get() + (at - first_), data.data(), data.size());
    // What was unknown of a sector that is written in part stays so: the rest was read from the
    // disk.
    const std::uint64_t from = (at - first_ + sector - 1) / sector;
    const std::uint64_t to = (at - first_ + data.size()) / sector;
    for (std::uint64_t i = from; i < to; ++i) unknown_[i] = false;
}

void Shadow::zeroed(std::uint64_t at, std::uint64_t length) {
    std::memset(content_.get() + (at - first_), 0, length);
    for (std::uint64_t i = 0; i < length / sector; ++i)
        unknown_[(at - first_) / sector + i] = false;
}

void Shadow::unknown(std::uint64_t at, std::uint64_t length) {
    for (std::uint64_t i = 0; i < length / sector; ++i) unknown_[(at - first_) / sector + i] = true;
}

bool Shadow::same(std::uint64_t at, const std::byte* found, std::uint64_t length) const {
    for (std::uint64_t i = 0; i < length; i += sector)
        if (!unknown_[(at + i) / sector] &&
            std::memcmp(found + i, content_.get() + at + i, std::min(sector, length - i)) != 0)
            return false;
    return true;
}

std::vector<std::uint64_t> Shadow::differing(int direct) const {
    std::vector<std::uint64_t> bad;
    auto found = aligned(piece);
    for (std::uint64_t at = 0; at < bytes_; at += piece) {
        const std::uint64_t length = std::min(piece, bytes_ - at);
        const bool readable = read(direct, first_ + at, found.get(), length);
        for (std::uint64_t i = 0; i < length; i += block)
            if (!readable || !same(at + i, found.get() + i, std::min(block, length - i)))
                bad.push_back(first_ + at + i);
    }
    return bad;
}

}  // namespace ebb::kmodtest
