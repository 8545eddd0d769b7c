// SPDX-License-Identifier: Apache-2.0
#include "core/applier.h"

#include <algorithm>
#include <cstring>

namespace ebb::core {

namespace {

// Zeroes for both: a discarded range is indeterminate on the source, and the same at every
// reading here.
bool zeroes(const format::ExtentHead& head) {
    return head.kind == format::ExtentKind::zero || head.kind == format::ExtentKind::discard;
}

// What the source could not read stays as it is, and so does what is the same.
bool changes(const format::ExtentHead& head) {
    return head.kind != format::ExtentKind::unreadable && head.kind != format::ExtentKind::same;
}

bool same_content(const Received& extent, std::uint64_t offset, std::span<const std::byte> old) {
    if (zeroes(extent.head)) return format::all_zero(old);
    return std::memcmp(extent.content->data() + (offset - extent.head.offset), old.data(),
                       old.size()) == 0;
}

// The undo of the blocks of `old` that differ from what comes.
void add_undo(const Received& extent, std::uint64_t offset, std::span<const std::byte> old,
              format::UndoWriter& writer) {
    const auto block_at = [&](std::uint64_t at) {
        return old.subspan(at, std::min<std::uint64_t>(block_bytes, old.size() - at));
    };
    for (std::uint64_t at = 0; at < old.size();) {
        const std::uint64_t from = at;
        const bool zero = format::all_zero(block_at(at));
        while (at < old.size() && !same_content(extent, offset + at, block_at(at)) &&
               format::all_zero(block_at(at)) == zero) {
            at += block_at(at).size();
        }
        if (at == from) {
            at += block_at(at).size();
        } else if (zero) {
            writer.add_zeroes(extent.head.disk, offset + from, at - from);
        } else {
            writer.add(extent.head.disk, offset + from, old.subspan(from, at - from));
        }
    }
}

}  // namespace

Task<Status> Applier::apply(const std::vector<Received>& extents) {
    std::size_t begin = 0;
    while (begin < extents.size()) {
        std::uint64_t bytes = 0;
        std::size_t end = begin;
        while (end < extents.size() && (end == begin || bytes < limits_.slice_bytes)) {
            bytes += extents[end].head.length;
            ++end;
        }
        auto status = co_await apply_slice(extents, begin, end);
        if (!status) co_return status;
        begin = end;
    }
    co_return Status{};
}

Task<Status> Applier::apply_slice(const std::vector<Received>& extents, std::size_t begin,
                                  std::size_t end) {
    std::vector<bool> same(end - begin, false);
    if (!journal_.open_epoch()->begin.initial) {
        auto status = co_await save_old(extents, begin, end, same);
        if (!status) co_return status;
    }
    auto status = co_await write(extents, begin, end, same);
    co_return status;
}

Task<Status> Applier::save_old(const std::vector<Received>& extents, std::size_t begin,
                               std::size_t end, std::vector<bool>& same) {
    std::vector<Old> parts;
    Together reads(limits_.depth);
    for (std::size_t i = begin; i < end; ++i) {
        const format::ExtentHead& head = extents[i].head;
        if (!changes(head)) continue;
        const Ranges& undone = journal_.open_epoch()->undone[head.disk];
        for (const auto& [from, to] : undone.missing(head.offset, head.offset + head.length)) {
            auto room = co_await reads.room();
            if (!room) break;
            parts.push_back({i, from, std::make_shared<Buffer>(to - from)});
            auto buffer = parts.back().content;
            disks_[head.disk]->read(from, buffer->span(), reads.callback(buffer));
        }
    }
    auto status = co_await reads.finish();
    if (!status) co_return status;
    format::UndoWriter writer(limits_.compression);
    std::uint64_t bytes = 0;
    for (const Old& old : parts) bytes += old.content->size();
    writer.expect(parts.size(), bytes);
    for (const Old& old : parts) {
        const Received& extent = extents[old.extent];
        const std::span<const std::byte> content = old.content->span();
        // Nothing to write where all of it is there already.
        if (content.size() == extent.head.length && same_content(extent, old.offset, content)) {
            same[old.extent - begin] = true;
        }
        add_undo(extent, old.offset, content, writer);
    }
    if (writer.empty()) co_return Status{};
    std::vector<format::UndoEntry> entries;
    auto record = writer.take(entries);
    Op<env::VolumeSpace> asked;
    volume_.space(asked.callback());
    auto space = co_await asked;
    if (!space) co_return std::unexpected(space.error());
    if (space->available < record.size() + limits_.reserve_bytes) {
        co_return fail(ErrorCode::no_space, "the retention volume is full",
                       "make it larger, or keep points for a shorter time");
    }
    status = co_await journal_.append_undo(std::move(entries), std::move(record));
    co_return status;
}

Task<Status> Applier::write(const std::vector<Received>& extents, std::size_t begin,
                            std::size_t end, const std::vector<bool>& same) {
    Together writes(limits_.depth);
    for (std::size_t i = begin; i < end; ++i) {
        const format::ExtentHead& head = extents[i].head;
        if (!changes(head) || same[i - begin]) continue;
        auto room = co_await writes.room();
        if (!room) break;
        env::Disk& disk = *disks_[head.disk];
        if (zeroes(head)) {
            disk.write_zeroes(head.offset, head.length, writes.callback());
        } else {
            disk.write(head.offset, extents[i].content->span(),
                       writes.callback(extents[i].content));
        }
    }
    auto status = co_await writes.finish();
    if (!status && status.error().code == ErrorCode::no_space) {
        // Of the disk, not of the volume: waiting for pruning would not help.
        status = fail(ErrorCode::io, "a target disk cannot be written: " + status.error().message);
    }
    co_return status;
}

Task<Status> Applier::flush(std::string_view site) {
    Together flushes(limits_.depth);
    for (env::Disk* disk : disks_) disk->flush(site, flushes.callback());
    auto status = co_await flushes.finish();
    co_return status;
}

Task<Result<std::uint64_t>> Applier::roll_back() {
    std::uint64_t bytes = 0;
    if (journal_.open_epoch()) {
        // Each block is in the epoch's undo once, so the order does not matter.
        for (const UndoRecord& record : journal_.open_epoch()->undo) {
            auto done = co_await put_back(journal_.open_reader(record));
            if (!done) co_return done;
            bytes += *done;
        }
    }
    auto status = co_await flush("roll-back");
    if (!status) co_return std::unexpected(status.error());
    co_return bytes;
}

Task<Result<std::uint64_t>> Applier::put_back(UndoReader reader) {
    std::uint64_t bytes = 0;
    auto table = co_await reader.table();
    if (!table) co_return std::unexpected(table.error());
    Together writes(limits_.depth);
    for (std::size_t begin = 0; begin < table->size();) {
        const auto rest = std::span<const format::UndoEntry>(*table).subspan(begin);
        const auto part = rest.first(UndoReader::run_length(rest));
        auto run = co_await reader.read({part.begin(), part.end()});
        if (!run) co_return std::unexpected(run.error());
        for (const format::UndoEntry& entry : part) {
            auto room = co_await writes.room();
            if (!room) break;
            bytes += entry.length;
            if (entry.kind == format::UndoKind::zero) {
                disks_[entry.disk]->write_zeroes(entry.offset, entry.length, writes.callback());
                continue;
            }
            auto buffer = std::make_shared<Buffer>(entry.length);
            auto whole = format::unpack(entry, run->stored(entry), buffer->span());
            if (!whole) co_return std::unexpected(whole.error());
            disks_[entry.disk]->write(entry.offset, buffer->span(), writes.callback(buffer));
        }
        begin += part.size();
    }
    auto status = co_await writes.finish();
    if (!status) co_return std::unexpected(status.error());
    co_return bytes;
}

}  // namespace ebb::core
