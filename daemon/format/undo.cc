// SPDX-License-Identifier: Apache-2.0
#include "format/undo.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "format/bytes.h"
#include "format/codec.h"

namespace ebb::format {

namespace {

std::unexpected<Error> damaged(const char* what) {
    return fail(ErrorCode::corrupt, std::string("damaged ") + what);
}

bool valid(const UndoEntry& entry, std::uint64_t table_bytes, std::uint64_t payload_bytes) {
    if (entry.length == 0 || entry.length % sector_bytes != 0 || entry.offset % sector_bytes != 0 ||
        entry.end() < entry.offset) {
        return false;
    }
    if (entry.kind == UndoKind::zero) return entry.stored == 0;
    const bool whole = entry.kind == UndoKind::content ? entry.stored == entry.length
                                                       : entry.stored < entry.length;
    return whole && entry.length <= undo_content_max && entry.stored != 0 &&
           entry.at >= table_bytes && entry.at <= payload_bytes &&
           entry.stored <= payload_bytes - entry.at;
}

void put(Writer& w, const UndoEntry& entry) {
    w.u32(entry.disk);
    w.u32(static_cast<std::uint32_t>(entry.kind));
    w.u64(entry.offset);
    w.u64(entry.length);
    w.u64(entry.at);
    w.u64(entry.stored);
    w.u64(entry.digest);
}

}  // namespace

Result<std::uint64_t> undo_table_bytes(std::span<const std::byte> head,
                                       std::uint64_t payload_bytes) {
    Reader r(head);
    const std::uint64_t count = r.u64();
    if (r.failed() || payload_bytes < undo_head_bytes ||
        count > (payload_bytes - undo_head_bytes) / undo_entry_bytes) {
        return damaged("undo table");
    }
    return undo_head_bytes + count * undo_entry_bytes;
}

Result<std::vector<UndoEntry>> decode_undo_table(std::span<const std::byte> in,
                                                 std::uint64_t payload_bytes) {
    const auto size = undo_table_bytes(in, payload_bytes);
    if (!size) return std::unexpected(size.error());
    if (*size > in.size()) return damaged("undo table");
    const auto table = in.first(*size).subspan(undo_head_bytes);
    Reader head(in);
    const std::uint64_t count = head.u64();
    if (head.u64() != xxh3_64(table)) return damaged("undo table");
    Reader r(table);
    std::vector<UndoEntry> entries;
    entries.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
        UndoEntry entry;
        entry.disk = r.u32();
        const std::uint32_t kind = r.u32();
        entry.kind = static_cast<UndoKind>(kind);
        entry.offset = r.u64();
        entry.length = r.u64();
        entry.at = r.u64();
        entry.stored = r.u64();
        entry.digest = r.u64();
        if (kind > static_cast<std::uint32_t>(UndoKind::compressed) ||
            !valid(entry, *size, payload_bytes)) {
            return damaged("undo table");
        }
        entries.push_back(entry);
    }
    return entries;
}

Status unpack(const UndoEntry& entry, std::span<const std::byte> stored,
              std::span<std::byte> into) {
    if (into.size() != entry.length || stored.size() != entry.stored) {
        return fail(ErrorCode::internal, "undo is unpacked into another length");
    }
    if (entry.kind == UndoKind::zero) {
        std::ranges::fill(into, std::byte{0});
        return {};
    }
    if (xxh3_64(stored) != entry.digest) return damaged("undo content");
    if (entry.kind == UndoKind::content) {
        std::ranges::copy(stored, into.begin());
        return {};
    }
    if (!decompress(stored, into)) return damaged("undo content");
    return {};
}

std::size_t UndoWriter::content_begin() const {
    return record_header_bytes + undo_head_bytes + room_ * undo_entry_bytes;
}

std::uint64_t UndoWriter::content_bytes() const {
    return record_.empty() ? 0 : record_.size() - content_begin();
}

void UndoWriter::expect(std::size_t entries, std::uint64_t bytes) {
    room_ = entries;
    entries_.reserve(entries);
    record_ = blank_record(undo_head_bytes + entries * undo_entry_bytes + bytes);
    record_.resize(content_begin());
}

void UndoWriter::add_zeroes(DiskIndex disk, std::uint64_t offset, std::uint64_t length) {
    if (!entries_.empty()) {
        UndoEntry& last = entries_.back();
        if (last.kind == UndoKind::zero && last.disk == disk && last.end() == offset) {
            last.length += length;
            return;
        }
    }
    entries_.push_back({disk, UndoKind::zero, offset, length, 0, 0, 0});
}

void UndoWriter::add(DiskIndex disk, std::uint64_t offset, std::span<const std::byte> content) {
    if (record_.empty()) record_.resize(content_begin());
    while (!content.empty()) {
        const auto part = content.first(std::min<std::uint64_t>(undo_content_max, content.size()));
        content = content.subspan(part.size());
        if (all_zero(part)) {
            add_zeroes(disk, offset, part.size());
        } else {
            UndoEntry entry{disk, UndoKind::content, offset, part.size(), content_bytes(), 0, 0};
            if (level_ != 0 && compress_append(part, level_, record_)) {
                entry.kind = UndoKind::compressed;
            } else {
                record_.insert(record_.end(), part.begin(), part.end());
            }
            entry.stored = content_bytes() - entry.at;
            entry.digest = xxh3_64(std::span(record_).last(entry.stored));
            entries_.push_back(entry);
        }
        offset += part.size();
    }
}

void UndoWriter::add_stored(const UndoEntry& entry, std::span<const std::byte> stored) {
    if (entry.kind == UndoKind::zero) {
        add_zeroes(entry.disk, entry.offset, entry.length);
        return;
    }
    if (record_.empty()) record_.resize(content_begin());
    entries_.push_back(entry);
    entries_.back().at = content_bytes();
    record_.insert(record_.end(), stored.begin(), stored.end());
}

std::uint64_t UndoWriter::bytes() const {
    return undo_head_bytes + entries_.size() * undo_entry_bytes + content_bytes();
}

RecordBytes UndoWriter::take(std::vector<UndoEntry>& entries) {
    const std::uint64_t table = undo_head_bytes + entries_.size() * undo_entry_bytes;
    record_.reserve(record_header_bytes + table + content_bytes() + record_trailer_bytes);
    if (record_.empty()) record_.resize(content_begin());
    const auto content = record_.begin() + static_cast<std::ptrdiff_t>(content_begin());
    if (entries_.size() > room_)
        record_.insert(content, (entries_.size() - room_) * undo_entry_bytes, std::byte{});
    else
        record_.erase(record_.begin() + static_cast<std::ptrdiff_t>(record_header_bytes + table),
                      content);
    Payload encoded;
    encoded.reserve(table);
    Writer w(encoded);
    for (UndoEntry& entry : entries_) {
        if (entry.kind != UndoKind::zero) entry.at += table;
        put(w, entry);
    }
    Payload head;
    Writer out(head);
    out.u64(entries_.size());
    out.u64(xxh3_64(encoded));
    std::ranges::copy(head, record_.begin() + record_header_bytes);
    std::ranges::copy(encoded, record_.begin() + record_header_bytes + undo_head_bytes);
    entries = std::move(entries_);
    entries_.clear();
    room_ = 0;
    return std::exchange(record_, {});
}

}  // namespace ebb::format
