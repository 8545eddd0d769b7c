// SPDX-License-Identifier: Apache-2.0
// Points in the middle are given up: docs/disk-format.md, "Giving up old points".
#include <algorithm>
#include <map>

#include "core/journal.h"

namespace ebb::core {

namespace {

// Of a chapter's blocks a bucket is the part that counts as one.
constexpr std::uint64_t buckets_in_chapter = 16;

// On a disk, in the disks' order.
using Place = std::pair<DiskIndex, std::uint64_t>;

// What of the entry lies between the two places; empty: nothing.
std::pair<std::uint64_t, std::uint64_t> part_between(const format::UndoEntry& entry, Place from,
                                                     Place to) {
    const Place begin = std::max(from, Place{entry.disk, entry.offset});
    const Place end = std::min(to, Place{entry.disk, entry.end()});
    if (begin >= end) return {0, 0};
    return {begin.second, end.second};
}

// The parts of an entry that were not covered, added to what comes before.
Status add_parts(const format::UndoEntry& entry, const UndoRun& run,
                 const std::vector<std::pair<std::uint64_t, std::uint64_t>>& parts,
                 format::UndoWriter& writer) {
    const bool whole = parts.size() == 1 && parts[0] == std::pair(entry.offset, entry.end());
    if (entry.kind == format::UndoKind::zero) {
        for (const auto& [from, to] : parts) writer.add_zeroes(entry.disk, from, to - from);
        return {};
    }
    const auto stored = run.stored(entry);
    std::vector<std::byte> content(entry.length);
    if (auto status = format::unpack(entry, stored, content); !status) return status;
    if (whole) {
        writer.add_stored(entry, stored);
        return {};
    }
    for (const auto& [from, to] : parts)
        writer.add(entry.disk, from, std::span(content).subspan(from - entry.offset, to - from));
    return {};
}

}  // namespace

struct Journal::Merge {
    std::size_t begin = 0;  // of closed()
    std::size_t end = 0;
    MergeLimits limits;
    const bool* stop = nullptr;
    RecordFile file;
    ClosedEpoch result;
    Place from, to;               // of the chapter
    std::vector<Ranges> covered;  // in it
    format::UndoWriter writer{0};
};

Task<Status> Journal::discard_file(std::string name) {
    Op<void> removed;
    volume_.remove(name, removed.callback());
    auto status = co_await removed;
    if (!status && status.error().code == ErrorCode::not_found) co_return Status{};
    co_return status;
}

// The next record of the file, of what was gathered.
Task<Status> Journal::write_slice(Merge& merge) {
    if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
    std::vector<format::UndoEntry> entries;
    auto record = merge.writer.take(entries);
    const std::uint64_t at = merge.file.bytes;
    auto header = co_await append_record(volume_, merge.file, format::RecordType::undo,
                                         std::move(record), "");
    if (!header) co_return std::unexpected(header.error());
    merge.result.undo.push_back({at, *header});
    merge.result.record.undo_bytes += header->payload_bytes;
    co_return Status{};
}

Task<Status> Journal::copy_undo(const ClosedEpoch& epoch, Merge& merge) {
    for (const UndoRecord& record : epoch.undo) {
        UndoReader from = reader(epoch, record);
        auto table = co_await from.table();
        if (!table) co_return std::unexpected(table.error());
        std::vector<format::UndoEntry> wanted;
        for (const format::UndoEntry& entry : *table) {
            if (entry.disk >= disks_) co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
            const auto [from, to] = part_between(entry, merge.from, merge.to);
            if (!merge.covered[entry.disk].missing(from, to).empty()) wanted.push_back(entry);
        }
        for (std::size_t begin = 0; begin < wanted.size();) {
            const auto rest = std::span<const format::UndoEntry>(wanted).subspan(begin);
            const auto part = rest.first(UndoReader::run_length(rest));
            auto run = co_await from.read({part.begin(), part.end()});
            if (!run) co_return std::unexpected(run.error());
            for (const format::UndoEntry& entry : part) {
                const auto [from, to] = part_between(entry, merge.from, merge.to);
                Ranges& covered = merge.covered[entry.disk];
                auto added = add_parts(entry, *run, covered.missing(from, to), merge.writer);
                if (!added) co_return added;
                covered.add(from, to);
            }
            begin += part.size();
            if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
            if (merge.writer.bytes() < merge.limits.slice_bytes) continue;
            auto written = co_await write_slice(merge);
            if (!written) co_return written;
        }
    }
    co_return Status{};
}

// Where chapters end, so that none has more blocks than may be in memory: places are counted by
// buckets, before anything is copied.
Task<Result<std::vector<Place>>> Journal::chapter_ends(const Merge& merge) {
    const std::uint64_t bucket_blocks =
        std::max<std::uint64_t>(1, merge.limits.chapter_blocks / buckets_in_chapter);
    const std::uint64_t bucket = bucket_blocks * block_bytes;
    std::map<Place, std::uint64_t> blocks;
    for (std::size_t i = merge.begin; i <= merge.end; ++i) {
        const ClosedEpoch epoch = closed_[i];
        for (const UndoRecord& record : epoch.undo) {
            if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
            UndoReader reader = this->reader(epoch, record);
            auto table = co_await reader.table();
            if (!table) co_return std::unexpected(table.error());
            for (const format::UndoEntry& entry : *table) {
                for (std::uint64_t at = entry.offset; at < entry.end();
                     at += bucket - at % bucket) {
                    const std::uint64_t end = std::min(entry.end(), at + bucket - at % bucket);
                    std::uint64_t& sum = blocks[{entry.disk, at / bucket}];
                    sum = std::min(bucket_blocks, sum + (end - at + block_bytes - 1) / block_bytes);
                }
            }
        }
    }
    std::vector<Place> ends;
    std::uint64_t sum = 0;
    for (const auto& [place, count] : blocks) {
        if (sum != 0 && sum + count > merge.limits.chapter_blocks) {
            ends.emplace_back(place.first, place.second * bucket);
            sum = 0;
        }
        sum += count;
    }
    ends.emplace_back(UINT32_MAX, 0);
    co_return ends;
}

Task<Status> Journal::write_merged(Merge& merge) {
    Op<void> created;
    volume_.create(merge.file.name, created.callback());
    auto status = co_await created;
    if (!status) co_return status;
    ClosedEpoch& result = merge.result;
    auto done = co_await append_record(
        volume_, merge.file, format::RecordType::merged,
        record_of(format::encode(format::MergedRecord{result.span.first, result.span.last,
                                                      result.before, result.after})),
        "");
    if (!done) co_return std::unexpected(done.error());
    auto ends = co_await chapter_ends(merge);
    if (!ends) co_return std::unexpected(ends.error());
    for (const Place& end : *ends) {
        merge.from = std::exchange(merge.to, end);
        merge.covered.assign(disks_, {});
        for (std::size_t i = merge.begin; i <= merge.end; ++i) {
            // A copy: what is closed meanwhile may move the others in memory.
            const ClosedEpoch epoch = closed_[i];
            status = co_await copy_undo(epoch, merge);
            if (!status) co_return status;
        }
    }
    if (!merge.writer.empty()) {
        status = co_await write_slice(merge);
        if (!status) co_return status;
    }
    done = co_await append_record(volume_, merge.file, format::RecordType::closed,
                                  record_of(format::encode(result.record)), "merge-content");
    if (!done) co_return std::unexpected(done.error());
    result.file_bytes = merge.file.bytes + seal_bytes;
    co_return Status{};
}

Task<Status> Journal::put_in_place(Merge& merge) {
    std::vector<std::string> parts;
    for (std::size_t i = merge.begin; i <= merge.end; ++i)
        parts.push_back(file_name(closed_[i].span));
    Op<void> renamed;
    volume_.rename(merge.file.name, file_name(merge.result.span), renamed.callback());
    auto status = co_await renamed;
    if (!status) co_return status;
    const auto first = closed_.begin() + static_cast<std::ptrdiff_t>(merge.begin);
    closed_.erase(first, closed_.begin() + static_cast<std::ptrdiff_t>(merge.end));
    closed_[merge.begin] = std::move(merge.result);
    Op<void> named;
    volume_.sync_directory("merge-name", named.callback());
    status = co_await named;
    if (status && readers_.merged) {
        auto followed = readers_.merged(closed_[merge.begin]);
        co_await followed;
    }
    for (std::size_t i = 0; i < parts.size() && status; ++i)
        status = co_await discard_file(parts[i]);
    co_return status;
}

Task<Status> Journal::merge(std::size_t begin, std::size_t end, MergeLimits limits,
                            const bool* stop) {
    const ClosedEpoch& oldest = closed_[begin];
    const ClosedEpoch& newest = closed_[end];
    const EpochSpan span{oldest.span.first, newest.span.last};
    Merge merge{begin,
                end,
                limits,
                stop,
                {file_name(span) + ".new", span.last, 0, 0, 0, oldest.before},
                {span.last, span, 0, newest.record, {}, oldest.before, newest.after, {}},
                {},
                {},
                {}};
    merge.result.record.undo_bytes = 0;
    auto status = co_await discard_file(merge.file.name);
    if (!status) co_return status;
    status = co_await write_merged(merge);
    if (status) {
        half_merged_ = true;
        status = co_await put_in_place(merge);
        half_merged_ = !status;
        co_return status;
    }
    // What is left of it is removed by the next one, or at the next start.
    auto ignored = co_await discard_file(merge.file.name);
    (void)ignored;
    co_return status;
}

}  // namespace ebb::core
