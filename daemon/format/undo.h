// SPDX-License-Identifier: Apache-2.0
// Payload of the undo records: docs/disk-format.md. A table of entries and what they store; the
// table can be believed without the content, and each entry's content without the rest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "format/record.h"

namespace ebb::format {

inline constexpr std::size_t undo_head_bytes = 16;
inline constexpr std::size_t undo_entry_bytes = 48;
// Of what an entry stores, unpacked.
inline constexpr std::uint64_t undo_content_max = 128ULL << 10;

enum class UndoKind : std::uint32_t {
    content = 0,
    zero = 1,        // nothing is stored; of any length
    compressed = 2,  // one zstd frame
};

struct UndoEntry {
    DiskIndex disk = 0;
    UndoKind kind = UndoKind::content;
    std::uint64_t offset = 0;  // on the disk
    std::uint64_t length = 0;
    std::uint64_t at = 0;      // of what is stored, from the start of the payload
    std::uint64_t stored = 0;  // bytes
    std::uint64_t digest = 0;  // XXH3-64 of them

    [[nodiscard]] std::uint64_t end() const { return offset + length; }
};

// Bytes of head and table, from the payload's first undo_head_bytes; E_CORRUPT if that is more
// than the payload has.
[[nodiscard]] Result<std::uint64_t> undo_table_bytes(std::span<const std::byte> head,
                                                     std::uint64_t payload_bytes);
// `in` begins with head and table. E_CORRUPT. Each entry's stored bytes are behind the table and in
// the payload.
[[nodiscard]] Result<std::vector<UndoEntry>> decode_undo_table(std::span<const std::byte> in,
                                                               std::uint64_t payload_bytes);
// `stored`: the entry's. `into` has the entry's length. E_CORRUPT.
[[nodiscard]] Status unpack(const UndoEntry& entry, std::span<const std::byte> stored,
                            std::span<std::byte> into);

// Makes the record, ready for seal_record(). Content is copied once where what comes was expected.
class UndoWriter {
public:
    // `level` of zstd; 0: nothing is compressed.
    explicit UndoWriter(int level) : level_(level) {}

    // Before the first: about so many entries will come, of so many bytes. It may be otherwise.
    void expect(std::size_t entries, std::uint64_t bytes);
    // Content of any length, all zero or not.
    void add(DiskIndex disk, std::uint64_t offset, std::span<const std::byte> content);
    void add_zeroes(DiskIndex disk, std::uint64_t offset, std::uint64_t length);
    // As it is stored in another record.
    void add_stored(const UndoEntry& entry, std::span<const std::byte> stored);

    [[nodiscard]] bool empty() const { return entries_.empty(); }
    // Of the payload as it would be now.
    [[nodiscard]] std::uint64_t bytes() const;
    // Begins anew afterwards. `entries`: with their places.
    [[nodiscard]] RecordBytes take(std::vector<UndoEntry>& entries);

private:
    // In record_, with the room that is left for the table.
    [[nodiscard]] std::size_t content_begin() const;
    [[nodiscard]] std::uint64_t content_bytes() const;

    int level_;
    std::vector<UndoEntry> entries_;
    std::size_t room_ = 0;  // entries
    RecordBytes record_;    // of the table only the room, until it is taken; empty: nothing yet
};

}  // namespace ebb::format
