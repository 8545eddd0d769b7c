// SPDX-License-Identifier: Apache-2.0
// Points in the middle are given up: docs/disk-format.md, "Giving up old points".
#include <algorithm>
#include <map>
#include <ranges>

#include "core/journal.h"

namespace ebb::core {

namespace {

// Of a chapter's blocks a bucket is the part that counts as one.
constexpr std::uint64_t buckets_in_chapter = 16;
// Of a merged file's manifest records, at most.
constexpr std::uint64_t manifest_slice_bytes = 1ULL << 20;

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

// Parts of an extent say as much as the whole does.
bool divisible(const format::ManifestEntry& extent) {
    return extent.kind != format::ExtentKind::data && extent.kind != format::ExtentKind::same;
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
    format::ManifestRecord manifest;
    std::map<Place, std::uint64_t> places;  // by bucket: how many, until there are chapters

    [[nodiscard]] std::uint64_t bucket_blocks() const {
        return std::max<std::uint64_t>(1, limits.chapter_blocks / buckets_in_chapter);
    }

    // Something of it is in the chapter, or where an extent that begins there may go on to.
    [[nodiscard]] bool reaches(DiskIndex disk, std::uint64_t begin, std::uint64_t end) const {
        const Place beyond{to.first, to.second + format::extent_bytes_max};
        return from < Place{disk, end} && Place{disk, begin} < beyond;
    }
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

Task<Status> Journal::write_manifest(Merge& merge) {
    if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
    const std::uint64_t at = merge.file.bytes;
    auto header = co_await append_record(volume_, merge.file, format::RecordType::manifest,
                                         record_of(format::encode(merge.manifest)), "");
    if (!header) co_return std::unexpected(header.error());
    merge.result.manifests.push_back({at, *header});
    merge.manifest.extents.clear();
    co_return Status{};
}

// The newest first: of an extent is kept what nothing has covered, or nothing where a digest is of
// the whole. One that goes beyond the chapter's end belongs to this one all the same, so what it
// reaches there is looked at, too.
Task<Status> Journal::copy_manifests(const ClosedEpoch& epoch, Merge& merge) {
    const std::uint64_t slice_bytes = std::min(manifest_slice_bytes, merge.limits.slice_bytes);
    for (auto at = epoch.manifests.rbegin(); at != epoch.manifests.rend(); ++at) {
        if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
        auto record = co_await read_manifest(epoch.span, *at);
        if (!record) co_return std::unexpected(record.error());
        for (const format::ManifestEntry& extent : record->extents | std::views::reverse) {
            if (extent.disk >= disks_)
                co_return fail(ErrorCode::corrupt, "a manifest has an extent of an unknown disk");
            if (!merge.reaches(extent.disk, extent.offset, extent.end())) continue;
            Ranges& covered = merge.covered[extent.disk];
            const Place begin{extent.disk, extent.offset};
            for (const auto& [from, to] : covered.missing(extent.offset, extent.end())) {
                if (begin < merge.from || begin >= merge.to) break;
                if (to - from != extent.length && !divisible(extent)) break;
                merge.manifest.extents.push_back(
                    {extent.disk, from, to - from, extent.kind, extent.digest});
            }
            covered.add(extent.offset, extent.end());
            const std::size_t kept = merge.manifest.extents.size();
            if (kept == 0 || kept * format::manifest_entry_bytes < slice_bytes) continue;
            auto written = co_await write_manifest(merge);
            if (!written) co_return written;
        }
    }
    co_return Status{};
}

// What an epoch has changed, also where nothing is left of its extents.
Task<Status> Journal::cover_undo(const ClosedEpoch& epoch, Merge& merge) {
    for (const UndoRecord& record : epoch.undo) {
        if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
        UndoReader reader = this->reader(epoch, record);
        auto table = co_await reader.table();
        if (!table) co_return std::unexpected(table.error());
        for (const format::UndoEntry& entry : *table) {
            if (merge.reaches(entry.disk, entry.offset, entry.end()))
                merge.covered[entry.disk].add(entry.offset, entry.end());
        }
    }
    co_return Status{};
}

// What lies in each bucket, at most: of undo the blocks, and how many extents, each of which is one
// range in memory: those of a resync are large, and may have changed nothing.
Task<Status> Journal::count_places(const ClosedEpoch& epoch, Merge& merge) {
    const auto count = [&merge](DiskIndex disk, std::uint64_t from, std::uint64_t end, bool each) {
        const std::uint64_t bucket = merge.bucket_blocks() * block_bytes;
        for (std::uint64_t at = from; at < end; at += bucket - at % bucket) {
            const std::uint64_t to = std::min(end, at + bucket - at % bucket);
            std::uint64_t& sum = merge.places[{disk, at / bucket}];
            sum += each ? (to - at + block_bytes - 1) / block_bytes : 1;
            sum = std::min(sum, merge.bucket_blocks());
        }
    };
    for (const UndoRecord& record : epoch.undo) {
        if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
        UndoReader reader = this->reader(epoch, record);
        auto table = co_await reader.table();
        if (!table) co_return std::unexpected(table.error());
        for (const format::UndoEntry& entry : *table)
            count(entry.disk, entry.offset, entry.end(), true);
    }
    for (const UndoRecord& at : epoch.manifests) {
        if (*merge.stop) co_return fail(ErrorCode::cancelled, "merging was given up");
        auto record = co_await read_manifest(epoch.span, at);
        if (!record) co_return std::unexpected(record.error());
        for (const format::ManifestEntry& extent : record->extents)
            count(extent.disk, extent.offset, extent.end(), false);
    }
    co_return Status{};
}

// Where chapters end, so that none has more blocks than may be in memory: places are counted by
// buckets, before anything is copied.
Task<Result<std::vector<Place>>> Journal::chapter_ends(Merge& merge) {
    for (std::size_t i = merge.begin; i <= merge.end; ++i) {
        const ClosedEpoch epoch = closed_[i];
        auto status = co_await count_places(epoch, merge);
        if (!status) co_return std::unexpected(status.error());
    }
    std::vector<Place> ends;
    std::uint64_t sum = 0;
    for (const auto& [place, count] : std::exchange(merge.places, {})) {
        if (sum != 0 && sum + count > merge.limits.chapter_blocks) {
            ends.emplace_back(place.first, place.second * merge.bucket_blocks() * block_bytes);
            sum = 0;
        }
        sum += count;
    }
    ends.emplace_back(UINT32_MAX, 0);
    co_return ends;
}

// The oldest undo of each block, then the newest digest.
Task<Status> Journal::copy_chapter(Merge& merge) {
    merge.covered.assign(disks_, {});
    for (std::size_t i = merge.begin; i <= merge.end; ++i) {
        // A copy: what is closed meanwhile may move the others in memory.
        const ClosedEpoch epoch = closed_[i];
        auto status = co_await copy_undo(epoch, merge);
        if (!status) co_return status;
    }
    merge.covered.assign(disks_, {});
    for (std::size_t i = merge.end + 1; i-- > merge.begin;) {
        const ClosedEpoch epoch = closed_[i];
        auto status = co_await copy_manifests(epoch, merge);
        if (status && i != merge.begin) status = co_await cover_undo(epoch, merge);
        if (!status) co_return status;
    }
    co_return Status{};
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
        status = co_await copy_chapter(merge);
        if (!status) co_return status;
    }
    if (!merge.writer.empty()) {
        status = co_await write_slice(merge);
        if (!status) co_return status;
    }
    if (!merge.manifest.extents.empty()) {
        status = co_await write_manifest(merge);
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
    Merge merge;
    merge.begin = begin;
    merge.end = end;
    merge.limits = limits;
    merge.stop = stop;
    merge.file = {file_name(span) + ".new", span.last, 0, 0, 0, oldest.before};
    merge.result = {span.last, span, 0, newest.record, {}, oldest.before, newest.after, {}};
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
