// SPDX-License-Identifier: Apache-2.0
#include "lib/stamp.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace ebb::kmodtest {
namespace {

constexpr std::uint64_t magic = 0x504d4154532e4245ull;

// The whole sector as words: head, then a filling that follows from the head.
struct Sector {
    std::uint64_t magic;
    std::uint64_t disk_writer;
    std::uint64_t block_index;  // block << 3 | sector
    std::uint64_t sequence;
    std::uint64_t ticket;
    std::uint64_t filling[stamp_sector / 8 - 5];
};
static_assert(sizeof(Sector) == stamp_sector);

std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

std::uint64_t seed_of(const Sector& s) {
    return mix(s.disk_writer + mix(s.block_index + mix(s.sequence + mix(s.ticket))));
}

}  // namespace

void stamp_fill(std::span<std::byte, stamp_block> block, const Stamp& stamp) {
    Sector sector{};
    for (unsigned index = 0; index < sectors_of_block; ++index) {
        sector.magic = magic;
        sector.disk_writer = static_cast<std::uint64_t>(stamp.disk) << 32 | stamp.writer;
        sector.block_index = stamp.block << 3 | index;
        sector.sequence = stamp.sequence;
        sector.ticket = stamp.ticket;
        std::uint64_t word = seed_of(sector);
        for (auto& slot : sector.filling) slot = word += 0x9e3779b97f4a7c15ull;
        std::memcpy(block.data() + index * stamp_sector, &sector, stamp_sector);
    }
}

SectorState stamp_read(std::span<const std::byte> bytes, unsigned index, Stamp& stamp) {
    Sector sector;
    std::memcpy(&sector, bytes.data(), stamp_sector);
    if (sector.magic != magic) {
        const auto* words = reinterpret_cast<const std::uint64_t*>(&sector);
        bool zero = std::all_of(words, words + stamp_sector / 8, [](auto w) { return w == 0; });
        stamp = {};
        return zero ? SectorState::empty : SectorState::damaged;
    }
    stamp.disk = static_cast<std::uint32_t>(sector.disk_writer >> 32);
    stamp.writer = static_cast<std::uint32_t>(sector.disk_writer);
    stamp.block = sector.block_index >> 3;
    stamp.sequence = sector.sequence;
    stamp.ticket = sector.ticket;
    if ((sector.block_index & 7) != index) return SectorState::damaged;
    std::uint64_t word = seed_of(sector);
    for (auto slot : sector.filling)
        if (slot != (word += 0x9e3779b97f4a7c15ull)) return SectorState::damaged;
    return SectorState::stamped;
}

bool Tickets::open(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 4096) != 0) return false;
    void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) return false;
    counter_ = static_cast<std::atomic<std::uint64_t>*>(memory);
    return true;
}

LogFile::~LogFile() {
    if (fd_ >= 0) {
        (void)flush();
        close(fd_);
    }
}

bool LogFile::open(const std::string& path, bool each) {
    each_ = each;
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd_ >= 0;
}

void LogFile::add(const LogRecord& record) {
    if (fd_ < 0) return;
    pending_.push_back(record);
    if (each_ || pending_.size() >= 1024) (void)flush();
}

bool LogFile::flush() {
    const auto* data = reinterpret_cast<const char*>(pending_.data());
    std::size_t left = pending_.size() * sizeof(LogRecord);
    while (left > 0) {
        ssize_t written = write(fd_, data, left);
        if (written <= 0) {
            failed_ = true;
            break;
        }
        data += written;
        left -= static_cast<std::size_t>(written);
    }
    pending_.clear();
    return !failed_;
}

void log_found(LogFile& log, std::uint32_t disk, std::uint64_t block, std::uint64_t cut,
               std::span<const std::byte, stamp_block> content) {
    LogRecord record;
    record.kind = LogKind::found;
    record.disk = disk;
    record.block = block;
    record.ticket = cut;
    Stamp stamps[sectors_of_block];
    bool same = true;
    for (unsigned i = 0; i < sectors_of_block; ++i) {
        SectorState state =
            stamp_read(content.subspan(i * stamp_sector, stamp_sector), i, stamps[i]);
        // Damage is told by a sequence that nobody ever used.
        if (state == SectorState::damaged) stamps[i].sequence = ~0ull;
        if (state == SectorState::stamped && (stamps[i].disk != disk || stamps[i].block != block))
            stamps[i].sequence = ~0ull;
        same &= stamps[i] == stamps[0];
    }
    for (unsigned i = 0; i < (same ? 1 : sectors_of_block); ++i) {
        record.part = same ? 0 : i + 1;
        record.writer = stamps[i].writer;
        record.sequence = stamps[i].sequence;
        record.stamp_ticket = stamps[i].ticket;
        log.add(record);
    }
}

bool read_log(const std::string& path, std::vector<LogRecord>& records) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (fd < 0 || fstat(fd, &status) != 0) return false;
    // A log cut off by a dying machine may end in half a record.
    std::size_t count = static_cast<std::size_t>(status.st_size) / sizeof(LogRecord);
    std::size_t old = records.size();
    records.resize(old + count);
    auto* at = reinterpret_cast<char*>(records.data() + old);
    std::size_t left = count * sizeof(LogRecord);
    while (left > 0) {
        ssize_t got = read(fd, at, left);
        if (got <= 0) break;
        at += got;
        left -= static_cast<std::size_t>(got);
    }
    close(fd);
    return left == 0;
}

}  // namespace ebb::kmodtest
