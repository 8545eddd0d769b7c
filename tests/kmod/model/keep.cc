// SPDX-License-Identifier: Apache-2.0
#include "model/keep.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "lib/direct.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::uint64_t block_bytes = sectors_of_block * sector_bytes;
constexpr std::uint64_t piece = 1 << 20;

// What cannot be kept makes every later judgement worthless.
void write_all(int file, const void* data, std::size_t length, std::uint64_t at) {
    if (pwrite(file, data, length, static_cast<off_t>(at)) == static_cast<ssize_t>(length)) return;
    std::perror("modeltest: writing to the folder of what is kept");
    std::abort();
}

}  // namespace

Keep::~Keep() {
    for (const auto& disk : disks_)
        for (int file : {disk.replica, disk.discarded_file, disk.touched_file, disk.may_file})
            if (file >= 0) close(file);
    if (state_file_ >= 0) close(state_file_);
}

int Keep::open_file(const std::string& name) const {
    return ::open((folder_ + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
}

bool Keep::open_bytes(const std::string& name, std::uint64_t count, int& file, Bytes& bytes) const {
    bytes.resize(count);
    file = open_file(name);
    return file >= 0 && ftruncate(file, static_cast<off_t>(count)) == 0 &&
           pread(file, bytes.data(), count, 0) == static_cast<ssize_t>(count);
}

bool Keep::open(const std::vector<std::uint64_t>& sectors) {
    if (sectors.size() > most_disks) return false;
    for (std::size_t d = 0; d < sectors.size(); ++d) {
        std::string number = "." + std::to_string(d);
        std::uint64_t blocks = (sectors[d] + sectors_of_block - 1) / sectors_of_block;
        Disk& disk = disks_.emplace_back();
        disk.sectors = sectors[d];
        disk.replica = open_file("replica" + number);
        if (disk.replica < 0 ||
            ftruncate(disk.replica, static_cast<off_t>(sectors[d] * sector_bytes)) != 0 ||
            !open_bytes("discarded" + number, blocks, disk.discarded_file, disk.discarded) ||
            !open_bytes("touched" + number, blocks, disk.touched_file, disk.touched) ||
            !open_bytes("may" + number, blocks, disk.may_file, disk.may))
            return false;
    }
    state_file_ = open_file("state");
    if (state_file_ < 0) return false;
    if (pread(state_file_, &state_, sizeof(state_), 0) < static_cast<ssize_t>(sizeof(state_)))
        state_ = {};
    return true;
}

void Keep::save() {
    write_all(state_file_, &state_, sizeof(state_), 0);
}

void Keep::touch(std::uint32_t disk, std::uint64_t first, std::uint64_t count) {
    std::lock_guard lock(mutex_);
    Disk& d = disks_[disk];
    std::uint64_t end = std::min<std::uint64_t>(first + count, d.touched.size());
    auto begin = d.touched.begin() + static_cast<std::ptrdiff_t>(first);
    auto last = d.touched.begin() + static_cast<std::ptrdiff_t>(end);
    if (std::find(begin, last, 0) == last) return;
    std::fill(begin, last, 1);
    write_all(d.touched_file, &d.touched[first], end - first, first);
}

void Keep::all_cold() {
    std::lock_guard lock(mutex_);
    for (auto& d : disks_) {
        std::ranges::fill(d.touched, 0);
        write_all(d.touched_file, d.touched.data(), d.touched.size(), 0);
    }
}

bool Keep::is_touched(std::uint32_t disk, std::uint64_t first, std::uint64_t count) {
    std::lock_guard lock(mutex_);
    const Bytes& touched = disks_[disk].touched;
    std::uint64_t end = std::min<std::uint64_t>(first + count, touched.size());
    for (std::uint64_t b = first; b < end; ++b)
        if (touched[b]) return true;
    return false;
}

void Keep::set_exact(const Maps& may) {
    for (std::size_t d = 0; d < disks_.size(); ++d) {
        Disk& disk = disks_[d];
        for (std::uint64_t b = 0; b < disk.may.size(); ++b) disk.may[b] = may[d][b];
        write_all(disk.may_file, disk.may.data(), disk.may.size(), 0);
    }
    state_.exact = 1;
    save();
}

void Keep::forget_exact() {
    state_.exact = 0;
    save();
}

void Keep::put(std::uint32_t disk, std::uint64_t block, const std::byte* data,
               std::uint64_t count) {
    Disk& d = disks_[disk];
    std::uint64_t at = block * block_bytes;
    std::uint64_t length = std::min(count * block_bytes, d.sectors * sector_bytes - at);
    write_all(d.replica, data, length, at);
    auto begin = d.discarded.begin() + static_cast<std::ptrdiff_t>(block);
    auto end = begin + static_cast<std::ptrdiff_t>(count);
    if (std::find(begin, end, 1) == end) return;
    std::fill(begin, end, 0);
    write_all(d.discarded_file, &d.discarded[block], count, block);
}

void Keep::discard(std::uint32_t disk, std::uint64_t block) {
    Disk& d = disks_[disk];
    if (d.discarded[block]) return;
    d.discarded[block] = 1;
    write_all(d.discarded_file, &d.discarded[block], 1, block);
}

Blocks Keep::differing(std::uint32_t disk, int direct) {
    const Disk& d = disks_[disk];
    Blocks out(d.may.size());
    auto ours = kmodtest::aligned(piece), theirs = kmodtest::aligned(piece);
    std::uint64_t bytes = d.sectors * sector_bytes;
    for (std::uint64_t at = 0; at < bytes; at += piece) {
        std::uint64_t length = std::min(piece, bytes - at);
        auto due = static_cast<ssize_t>(length);
        if (pread(direct, theirs.get(), length, static_cast<off_t>(at)) != due ||
            pread(d.replica, ours.get(), length, static_cast<off_t>(at)) != due)
            return {};
        if (std::memcmp(ours.get(), theirs.get(), length) == 0) continue;
        for (std::uint64_t i = 0; i < length; i += block_bytes) {
            std::uint64_t block = (at + i) / block_bytes;
            std::size_t rest = std::min(block_bytes, length - i);
            out[block] =
                !d.discarded[block] && std::memcmp(ours.get() + i, theirs.get() + i, rest) != 0;
        }
    }
    return out;
}

void Keep::set_tracked(std::uint32_t disk, Tracked tracked) {
    if (state_.tracked[disk] == tracked) return;
    state_.tracked[disk] = tracked;
    save();
}

void Keep::set_area(std::uint32_t disk, Area area) {
    if (state_.area[disk] == area) return;
    state_.area[disk] = area;
    save();
}

void Keep::set_areas(Area area) {
    state_.area.fill(area);
    save();
}

std::uint64_t Keep::ask() {
    ++state_.asked;
    save();
    return state_.asked;
}

void Keep::answer() {
    state_.answered = state_.asked;
    save();
}

}  // namespace ebb::kmodmodel
