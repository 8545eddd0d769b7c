// SPDX-License-Identifier: Apache-2.0
// Records of the undo journal: docs/disk-format.md. A record is a header of record_header_bytes,
// a payload, and a trailer of record_trailer_bytes. Each is bound to the one before by a SHA-256
// chain, over the files of all epochs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "format/digest.h"
#include "format/message.h"

namespace ebb::format {

inline constexpr std::size_t record_header_bytes = 112;
inline constexpr std::size_t record_trailer_bytes = 16;
inline constexpr std::uint64_t record_payload_max = 1ULL << 30;

enum class RecordType : std::uint8_t {
    begin = 1,     // epoch begun, or taken over by another incarnation of the tracker
    undo = 2,      // old content, to be durable before it is overwritten
    position = 3,  // the disks hold, durably, all up to here
    closed = 4,    // the epoch is a recovery point
    sealed = 5,    // the closed record before it is durable; outside of the chain
    merged = 6,    // the file stands for several epochs
    move = 7,      // the disks are on their way from one point to another
    arrived = 8,   // they are there
    manifest = 9,  // extents that got to the disks, with the digests that the source made
};

struct RecordHeader {
    RecordType type = RecordType::begin;
    std::uint64_t epoch = 0;
    std::uint64_t sequence = 0;  // in the file, from 0
    std::uint64_t payload_bytes = 0;
    Digest128 payload_digest{};
    Sha256 previous{};  // chain value before this record
    // Bytes of the file that were durable when this record was made: what is damaged below it was
    // not torn by a power cut.
    std::uint64_t durable_bytes = 0;
    std::uint64_t digest = 0;  // of the encoded header: the trailer repeats it
};

// Chain value after the record: SHA-256 of the encoded header, which holds the value before.
[[nodiscard]] Sha256 chain_after(std::span<const std::byte> encoded_header);

// A record is made in place: room for its header, its payload behind that, then seal_record(),
// which fills in the header, appends the trailer, gives the header back and sets `chain` to the
// value after the record.
using RecordBytes = std::vector<std::byte>;
[[nodiscard]] RecordBytes blank_record(std::size_t payload_bytes);
RecordHeader seal_record(RecordBytes& record, RecordType type, std::uint64_t epoch,
                         std::uint64_t sequence, std::uint64_t durable_bytes, Sha256& chain);
// `payload`: its digest, where that is known.
[[nodiscard]] Digest128 payload_digest(const RecordBytes& record);
RecordHeader seal_record(RecordBytes& record, const Digest128& payload, RecordType type,
                         std::uint64_t epoch, std::uint64_t sequence, std::uint64_t durable_bytes,
                         Sha256& chain);
// Where the next record may begin: in.size() when nothing looks like one.
[[nodiscard]] std::size_t find_record_magic(std::span<const std::byte> in);
// E_CORRUPT. `in` holds record_header_bytes.
[[nodiscard]] Result<RecordHeader> decode_record_header(std::span<const std::byte> in);
// Payload and trailer, as read from after the header: E_CORRUPT when they do not match it.
[[nodiscard]] Status check_record(const RecordHeader& header, std::span<const std::byte> rest);

struct BeginRecord {
    Uuid incarnation;
    bool full = false;
    bool initial = false;  // there was no point before: no undo is kept
};

// What the source could not read.
struct Unreadable {
    DiskIndex disk = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};
inline constexpr std::size_t unreadable_max = 1024;

struct PositionRecord {
    std::uint32_t pass = 0;
    Uuid run;
    PassKind kind = PassKind::live;
    std::uint64_t count = 0;
    Sha256 chain{};
    std::uint64_t bytes = 0;             // of extents, in the epoch so far
    bool frozen_began = false;           // acknowledged extents may have been in memory alone
    std::uint64_t unreadable_bytes = 0;  // of the pass
    std::vector<Unreadable> unreadable;  // at most unreadable_max
};

struct ClosedRecord {
    Uuid incarnation;
    WallTime cut_time;
    WallTime closed_time;
    std::string name;
    std::uint64_t bytes = 0;
    std::uint64_t undo_bytes = 0;
    std::uint64_t unreadable_bytes = 0;
    std::vector<Unreadable> unreadable;  // at most unreadable_max
    PointKind point = PointKind::crash;
};

struct MergedRecord {
    std::uint64_t first = 0;  // epochs
    std::uint64_t last = 0;
    Sha256 before{};  // chain before the first one's file
    Sha256 after{};   // and after the last one's
};

struct MoveRecord {
    std::uint64_t from = 0;  // epochs of points
    std::uint64_t to = 0;
};

struct ArrivedRecord {
    std::uint64_t point = 0;
};

struct ManifestEntry {
    DiskIndex disk = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    ExtentKind kind = ExtentKind::data;
    Digest128 digest{};

    [[nodiscard]] std::uint64_t end() const { return offset + length; }
};
inline constexpr std::size_t manifest_entry_bytes = 37;

struct ManifestRecord {
    std::vector<ManifestEntry> extents;  // in order
};

using Payload = std::vector<std::byte>;

[[nodiscard]] Payload encode(const BeginRecord& r);
[[nodiscard]] Payload encode(const PositionRecord& r);
[[nodiscard]] Payload encode(const ClosedRecord& r);
[[nodiscard]] Payload encode(const MergedRecord& r);
[[nodiscard]] Payload encode(const MoveRecord& r);
[[nodiscard]] Payload encode(const ArrivedRecord& r);
[[nodiscard]] Payload encode(const ManifestRecord& r);
[[nodiscard]] Result<BeginRecord> decode_begin_record(std::span<const std::byte> in);
[[nodiscard]] Result<PositionRecord> decode_position_record(std::span<const std::byte> in);
[[nodiscard]] Result<ClosedRecord> decode_closed_record(std::span<const std::byte> in);

[[nodiscard]] Result<MergedRecord> decode_merged_record(std::span<const std::byte> in);
[[nodiscard]] Result<MoveRecord> decode_move_record(std::span<const std::byte> in);
[[nodiscard]] Result<ArrivedRecord> decode_arrived_record(std::span<const std::byte> in);
[[nodiscard]] Result<ManifestRecord> decode_manifest_record(std::span<const std::byte> in);

// Small files that are replaced whole: a checksummed envelope.
struct MetaFile {
    Uuid protection;
    struct Disk {
        std::string source_id;
        std::string target_id;
        std::uint64_t size = 0;
    };
    std::vector<Disk> disks;
};

struct SessionFile {
    std::uint64_t session = 0;
    bool failed_over = false;
};

// Of points that are called otherwise than when they were made.
struct NamesFile {
    struct Entry {
        std::uint64_t epoch = 0;
        std::string name;  // empty: none
    };
    std::vector<Entry> entries;  // ascending
};

// A cut that several machines have in common.
struct CommonCut {
    Uuid cut;
    WallTime time;  // by the clock of whoever made it

    friend bool operator==(const CommonCut& a, const CommonCut& b) {
        return a.cut == b.cut && a.time.ns == b.time.ns;
    }
};

// Of points that are of such a cut.
struct CommonFile {
    struct Entry {
        std::uint64_t epoch = 0;
        CommonCut common;
    };
    std::vector<Entry> entries;  // ascending
};

[[nodiscard]] Payload encode(const MetaFile& m);
[[nodiscard]] Payload encode(const SessionFile& m);
[[nodiscard]] Payload encode(const NamesFile& m);
[[nodiscard]] Payload encode(const CommonFile& m);
[[nodiscard]] Result<MetaFile> decode_meta_file(std::span<const std::byte> in);
[[nodiscard]] Result<SessionFile> decode_session_file(std::span<const std::byte> in);
[[nodiscard]] Result<NamesFile> decode_names_file(std::span<const std::byte> in);
[[nodiscard]] Result<CommonFile> decode_common_file(std::span<const std::byte> in);

}  // namespace ebb::format
