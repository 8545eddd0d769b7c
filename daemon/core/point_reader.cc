// SPDX-License-Identifier: Apache-2.0
#include "core/point_reader.h"

#include <algorithm>
#include <cstring>

namespace ebb::core {

namespace {

// Small reads in a row hit the same entry again and again.
constexpr std::size_t recent_entries = 16;

}  // namespace

void PointReader::give_up(Error why) {
    if (given_up()) return;
    status_.error = std::move(why);
    status_.ready = false;
    status_.index_bytes = 0;
    for (PieceIndex& pieces : index_) pieces.clear();
    for (File& file : files_) file.pieces = 0;
    recent_.clear();
}

std::uint32_t PointReader::file_of(const EpochSpan& span) {
    const auto [at, fresh] = numbers_.try_emplace(span, static_cast<std::uint32_t>(files_.size()));
    if (fresh) files_.push_back({span, 0});
    return at->second;
}

// Files of the same epochs, merged or not, stand for each other: the one that comes later is the
// one that stays.
bool PointReader::older(const Piece& piece, std::uint32_t file) const {
    const bool before = files_[piece.file].span.last < files_[file].span.first;
    return rules_.oldest_first ? before : files_[piece.file].span.first > files_[file].span.last;
}

void PointReader::put(std::uint32_t file, const UndoRecord& record,
                      const format::UndoEntry& entry) {
    if (!only_.empty() && only_[entry.disk].common(entry.offset, entry.end()).empty()) return;
    PieceIndex& pieces = index_[entry.disk];
    std::vector<Part> parts;
    const auto wanted = [&](std::uint64_t from, std::uint64_t to) {
        if (!parts.empty() && parts.back().to == from) {
            parts.back().to = to;
        } else if (from < to) {
            parts.push_back({from, to});
        }
    };
    std::uint64_t at = entry.offset;
    for (const Piece& there : pieces.overlapping(entry.offset, entry.end())) {
        wanted(at, there.from);
        at = std::max(at, there.from);
        const std::uint64_t to = std::min(there.end, entry.end());
        if (!older(there, file)) wanted(at, to);
        at = to;
    }
    wanted(at, entry.end());
    Piece piece;
    piece.entry_offset = entry.offset;
    piece.entry_length = entry.length;
    piece.at = record.at + format::record_header_bytes + entry.at;
    piece.stored = entry.stored;
    piece.digest = entry.digest;
    piece.file = file;
    piece.kind = entry.kind;
    for (const Part& part : parts) {
        piece.from = part.from;
        piece.end = part.to;
        if (!PieceIndex::fits(piece))
            return give_up({ErrorCode::corrupt, "undo beyond any disk or file", {}, {}});
        pieces.put(piece, [this](std::uint32_t of, int n) {
            files_[of].pieces += n;
            status_.index_bytes += n * PieceIndex::piece_bytes;
        });
    }
    if (status_.index_bytes <= limits_.index_bytes) return;
    give_up({ErrorCode::no_memory,
             "the index of the point would take more than " +
                 std::to_string(limits_.index_bytes >> 20) + " MiB",
             "Choose a later point, since which fewer blocks have changed, or set "
             "target.serve_index_mib in the target's ebbd.json, as its memory allows",
             "E_POINT_TOO_LARGE"});
}

bool PointReader::is_closed(const EpochSpan& span) const {
    return std::ranges::any_of(journal_.closed(),
                               [&](const ClosedEpoch& closed) { return closed.span == span; });
}

const ClosedEpoch* PointReader::closed_after(std::uint64_t epoch) const {
    const auto found = std::ranges::upper_bound(journal_.closed(), epoch, {}, &ClosedEpoch::epoch);
    return found == journal_.closed().end() ? nullptr : &*found;
}

Task<Status> PointReader::take_file(ClosedEpoch closed) {
    for (const UndoRecord& record : closed.undo) {
        UndoReader reader = journal_.reader(closed, record);
        auto table = co_await reader.table();
        // follow() has taken what stands for it.
        if (!is_closed(closed.span)) co_return Status{};
        if (!table) co_return std::unexpected(table.error());
        for (const format::UndoEntry& entry : *table) {
            if (given_up()) co_return Status{};
            if (entry.disk >= disks_.size())
                co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
            put(file_of(closed.span), record, entry);
        }
    }
    co_return Status{};
}

Task<Status> PointReader::take_open(std::size_t& taken) {
    const std::uint64_t epoch = journal_.open_epoch()->epoch;
    const UndoRecord record = journal_.open_epoch()->undo[taken];
    UndoReader reader = journal_.open_reader(record);
    auto table = co_await reader.table();
    // Closed meanwhile: it is taken with the others.
    const bool open = journal_.open_epoch() && journal_.open_epoch()->epoch == epoch;
    if (given_up() || !open) co_return Status{};
    if (!table) co_return std::unexpected(table.error());
    for (const format::UndoEntry& entry : *table) {
        if (given_up()) co_return Status{};
        if (entry.disk >= disks_.size())
            co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
        put(file_of({epoch, epoch}), record, entry);
    }
    ++taken;
    co_return Status{};
}

Task<void> PointReader::build() {
    std::uint64_t done = status_.epoch;
    std::uint64_t open = 0;
    std::size_t taken = 0;
    while (!given_up()) {
        Status status;
        if (const ClosedEpoch* next = closed_after(done)) {
            const EpochSpan span = next->span;
            status = co_await take_file(*next);
            if (is_closed(span)) done = span.last;
        } else if (const auto& now = journal_.open_epoch()) {
            if (std::exchange(open, now->epoch) != now->epoch) taken = 0;
            if (taken == now->undo.size()) break;
            status = co_await take_open(taken);
        } else {
            break;
        }
        if (!status) give_up(status.error());
    }
    status_.ready = !given_up();
}

void PointReader::note_undo(const EpochSpan& span, const UndoRecord& record,
                            const std::vector<format::UndoEntry>& entries) {
    if (!rules_.note_undo) return;
    for (const format::UndoEntry& entry : entries) {
        if (given_up()) return;
        put(file_of(span), record, entry);
    }
}

Task<void> PointReader::follow(ClosedEpoch merged) {
    if (given_up() || merged.span.last <= status_.epoch || !rules_.follow_merges) co_return;
    if (merged.span.first <= status_.epoch) {
        give_up({ErrorCode::internal, "a point was merged away while it was served", {}, {}});
        co_return;
    }
    for (const UndoRecord& record : merged.undo) {
        UndoReader reader = journal_.reader(merged, record);
        auto table = co_await reader.table();
        if (given_up()) co_return;
        if (!table) {
            give_up(table.error());
            co_return;
        }
        for (const format::UndoEntry& entry : *table) {
            if (given_up()) co_return;
            put(file_of(merged.span), record, entry);
        }
    }
    for (const File& file : files_) {
        if (file.pieces == 0 || file.span == merged.span || !merged.span.contains(file.span))
            continue;
        give_up({ErrorCode::corrupt, "a merged file lacks what it was made of", {}, {}});
        co_return;
    }
    ++status_.merges_followed;
}

PointReader::Found PointReader::find(DiskIndex disk, const std::vector<Part>& parts) const {
    Found found;
    for (auto [at, end] : parts) {
        for (const Piece& piece : index_[disk].overlapping(at, end)) {
            if (piece.from > at) found.disk.push_back({at, piece.from});
            at = std::max(at, piece.from);
            const std::uint64_t to = std::min(piece.end, end);
            found.undo.push_back({{at, to}, piece});
            at = to;
        }
        if (at < end) found.disk.push_back({at, end});
    }
    return found;
}

bool PointReader::is_current(DiskIndex disk, const Part& part, const Piece& piece) const {
    const Found now = find(disk, {part});
    return now.disk.empty() && std::ranges::all_of(now.undo, [&](const auto& found) {
               return found.second.file == piece.file && found.second.at == piece.at;
           });
}

Task<Result<std::shared_ptr<std::vector<std::byte>>>> PointReader::unpacked(Piece piece) {
    const auto known = std::ranges::find_if(
        recent_, [&](const Unpacked& one) { return one.file == piece.file && one.at == piece.at; });
    if (known != recent_.end()) co_return known->content;
    auto stored = co_await read_bytes(volume_, Journal::file_name(files_[piece.file].span),
                                      piece.at, piece.stored);
    if (!stored) co_return std::unexpected(stored.error());
    auto content = std::make_shared<std::vector<std::byte>>(piece.entry_length);
    const format::UndoEntry entry{0, piece.kind,   piece.entry_offset, piece.entry_length,
                                  0, piece.stored, piece.digest};
    auto whole = format::unpack(entry, *stored, *content);
    if (!whole) co_return std::unexpected(whole.error());
    recent_.push_back({piece.file, piece.at, content});
    if (recent_.size() > recent_entries) recent_.pop_front();
    co_return content;
}

Task<Status> PointReader::fetch(DiskIndex disk, Part part, Piece piece, std::uint64_t offset,
                                std::shared_ptr<Buffer> into) {
    std::byte* const to = into->data() + (part.from - offset);
    if (piece.kind == format::UndoKind::zero) {
        std::memset(to, 0, part.to - part.from);
        co_return Status{};
    }
    auto content = co_await unpacked(piece);
    if (!content) {
        // Merged away meanwhile: what stands for it is to be read.
        if (!is_current(disk, part, piece)) co_return fail(ErrorCode::stale, "read again");
        const bool gone = content.error().code == ErrorCode::not_found;
        co_return fail(gone ? ErrorCode::corrupt : content.error().code,
                       "undo of the point cannot be read: " + content.error().message,
                       "ebbctl retention verify says what is damaged");
    }
    std::memcpy(to, (*content)->data() + (part.from - piece.entry_offset), part.to - part.from);
    co_return Status{};
}

Task<Result<Ranges>> PointReader::read(DiskIndex disk, std::uint64_t offset,
                                       std::shared_ptr<Buffer> into) {
    ++status_.reads;
    Ranges undone;
    std::vector<Part> left{{offset, offset + into->size()}};
    while (!left.empty()) {
        if (given_up()) co_return std::unexpected(*status_.error);
        if (!status_.ready)
            co_return fail(ErrorCode::busy, "the point is being prepared, and not served yet");
        const Found found = find(disk, left);
        left.clear();
        for (const auto& [part, piece] : found.undo) {
            auto status = co_await fetch(disk, part, piece, offset, into);
            if (!status && status.error().code == ErrorCode::stale) {
                left.push_back(part);
            } else if (!status) {
                co_return std::unexpected(status.error());
            } else {
                undone.add(part.from, part.to);
            }
        }
        Together reads(limits_.depth);
        for (const Part& part : found.disk) {
            auto room = co_await reads.room();
            if (!room) break;
            disks_[disk]->read(part.from,
                               into->span().subspan(part.from - offset, part.to - part.from),
                               reads.callback(into));
        }
        auto status = co_await reads.finish();
        if (!status) co_return std::unexpected(status.error());
        if (!rules_.look_again) continue;
        // What has undo by now may have been overwritten before it was read.
        for (const auto& [part, piece] : find(disk, found.disk).undo) {
            left.push_back(part);
            ++status_.repeated;
        }
    }
    if (given_up()) co_return std::unexpected(*status_.error);
    co_return undone;
}

}  // namespace ebb::core
