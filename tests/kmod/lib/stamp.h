// SPDX-License-Identifier: Apache-2.0
// Stamps: what the stamping writer puts into every sector it writes, and the ordered log of its
// writes and of the replicator's cuts. Positions are in blocks of 4 KiB. Order is by *tickets*, one
// counter in shared memory: taken before a write is issued, after it is acknowledged, before a cut
// is asked for and after it has been granted, so that tickets never contradict what caused what.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ebb::kmodtest {

inline constexpr std::size_t stamp_block = 4096;
inline constexpr std::size_t stamp_sector = 512;
inline constexpr std::size_t sectors_of_block = stamp_block / stamp_sector;

// One write as a sector remembers it.
struct Stamp {
    std::uint32_t disk = 0;
    std::uint32_t writer = 0;
    std::uint64_t block = 0;
    std::uint64_t sequence = 0;  // of the writer, from 1; 0: never written
    std::uint64_t ticket = 0;    // taken before the write was issued
    friend bool operator==(const Stamp&, const Stamp&) = default;
};

// Fills a block so that each of its sectors proves the stamp by itself.
void stamp_fill(std::span<std::byte, stamp_block> block, const Stamp& stamp);

enum class SectorState { empty, stamped, damaged };
// What one sector holds: all zero, a whole stamp, or neither.
[[nodiscard]] SectorState stamp_read(std::span<const std::byte> sector, unsigned index,
                                     Stamp& stamp);

// The counter, shared by all processes of one machine through a file (in /dev/shm).
class Tickets {
public:
    [[nodiscard]] bool open(const std::string& path);
    [[nodiscard]] std::uint64_t take() { return counter_->fetch_add(1) + 1; }

private:
    std::atomic<std::uint64_t>* counter_ = nullptr;
};

enum class LogKind : std::uint32_t {
    issued = 1,        // a write of one block is about to be issued
    acknowledged = 2,  // it was acknowledged
    cut_asked = 3,     // `sequence` is the replicator's number of the cut
    cut_granted = 4,
    cut_closed = 5,  // the replica holds this cut whole
    found = 6,       // a block as the closed cut `ticket` has it: writer and sequence
    discarded = 7,   // a block that the cut `ticket` reports as discarded
};

// 48 bytes; a log is an array of these.
struct LogRecord {
    LogKind kind = LogKind::issued;
    std::uint32_t disk = 0;
    std::uint32_t writer = 0;
    std::uint32_t part = 0;  // found: sector index + 1, or 0 for the whole block
    std::uint64_t block = 0;
    std::uint64_t sequence = 0;
    std::uint64_t ticket = 0;
    // found: the stamp's own ticket; issued, acknowledged: when, in nanoseconds since 1970
    std::uint64_t stamp_ticket = 0;
};
static_assert(sizeof(LogRecord) == 48);

// Appends records to a file in large writes; `each` writes every record at once.
class LogFile {
public:
    ~LogFile();
    [[nodiscard]] bool open(const std::string& path, bool each);
    void add(const LogRecord& record);
    // False when anything could not be written: the log proves nothing then.
    [[nodiscard]] bool flush();

private:
    int fd_ = -1;
    bool each_ = false;
    bool failed_ = false;
    std::vector<LogRecord> pending_;
};

// Adds what the cut with this number has in a block, as `found`.
void log_found(LogFile& log, std::uint32_t disk, std::uint64_t block, std::uint64_t cut,
               std::span<const std::byte, stamp_block> content);

[[nodiscard]] bool read_log(const std::string& path, std::vector<LogRecord>& records);

}  // namespace ebb::kmodtest
