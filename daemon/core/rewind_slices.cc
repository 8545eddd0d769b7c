// SPDX-License-Identifier: Apache-2.0
// What a move does with its slices. While one is written to the disks, the next is saved, of the
// one after that a record is made, and what one more is to have, and has, is read: each part of it
// keeps another device busy, or another direction of it, or the CPU.
#include <algorithm>
#include <tuple>

#include "core/rewind.h"

namespace ebb::core {

namespace {

constexpr std::uint64_t read_bytes_max = 1ULL << 20;
constexpr std::uint64_t write_bytes_max = 1ULL << 20;

bool any(const std::vector<Ranges>& ranges) {
    return std::ranges::any_of(ranges, [](const Ranges& disk) { return !disk.empty(); });
}

bool is_zero(const format::UndoEntry& entry) {
    return entry.kind == format::UndoKind::zero;
}

}  // namespace

// In chapters of the disks' order, since what is to be read for one has to be known before, by all
// tables.
Task<void> Rewind::read_stage(Stages& stages, std::vector<Source>& sources,
                              std::vector<Ranges> wanted, bool save) {
    while (stages.status && any(wanted)) {
        auto chapter = take_first(wanted, limits_.chapter_bytes);
        auto status = co_await read_chapter(stages, sources, std::move(chapter), save);
        if (!status) stages.fail(status.error());
    }
    stages.read.end();
}

Task<Status> Rewind::read_chapter(Stages& stages, std::vector<Source>& sources,
                                  std::vector<Ranges> chapter, bool save) {
    std::vector<Part> parts;
    for (std::uint32_t i = 0; i < sources.size() && any(chapter); ++i) {
        auto status = co_await gather(sources[i], i, chapter, stages.slice_bytes, parts);
        if (!status) co_return status;
    }
    std::ranges::sort(parts, {}, &Part::place);
    for (std::size_t begin = 0, end = 0; begin < parts.size(); begin = end) {
        std::uint64_t bytes = parts[begin].bytes();
        for (end = begin + 1; end < parts.size(); ++end) {
            if (bytes + parts[end].bytes() > stages.slice_bytes) break;
            bytes += parts[end].bytes();
        }
        const std::uint64_t most = limits_.slices * limits_.slice_bytes;
        while (stages.status && stages.in_memory > 0 && stages.in_memory + bytes > most)
            co_await stages.room.wait();
        if (!stages.status) co_return Status{};
        stages.in_memory += bytes;
        auto slice =
            co_await read_slice(sources, std::span(parts).subspan(begin, end - begin), save);
        if (!slice) co_return std::unexpected(slice.error());
        slice->bytes = bytes;
        stages.read.put(std::move(*slice));
    }
    co_return Status{};
}

Task<std::optional<Rewind::Slice>> Rewind::next(Stages& stages, Queue& queue) {
    while (queue.slices.empty() && !queue.last) co_await queue.changed.wait();
    if (!stages.status || queue.slices.empty()) co_return std::nullopt;
    Slice slice = std::move(queue.slices.front());
    queue.slices.pop_front();
    co_return slice;
}

Task<void> Rewind::make_stage(Stages& stages) {
    while (auto slice = co_await next(stages, stages.read)) {
        make_record(*slice);
        stages.made.put(std::move(*slice));
    }
    stages.made.end();
}

// What is overwritten is kept, durably, before any of it is: a slice goes to the next stage when
// its record is synced.
Task<void> Rewind::save_stage(Stages& stages) {
    while (auto slice = co_await next(stages, stages.made)) {
        auto status = co_await save(*slice);
        if (!status) stages.fail(status.error());
        if (!stages.status) break;
        stages.saved.put(std::move(*slice));
    }
    stages.saved.end();
}

Task<void> Rewind::write_stage(Stages& stages) {
    while (auto slice = co_await next(stages, stages.saved)) {
        auto status = co_await write(slice->writes);
        if (!status) stages.fail(status.error());
        stages.written += slice->bytes;
        stages.in_memory -= std::exchange(slice, std::nullopt)->bytes;
        stages.room.notify();
    }
}

std::vector<Ranges> Rewind::take_first(std::vector<Ranges>& wanted, std::uint64_t bytes) {
    std::vector<Ranges> taken(wanted.size());
    for (std::size_t disk = 0; disk < wanted.size(); ++disk) {
        while (bytes >= block_bytes && wanted[disk].bytes() != 0) {
            // The end of a disk may be less than a block; another disk may take whole ones alone.
            const Extent first = wanted[disk].front(bytes / block_bytes * block_bytes);
            taken[disk].add(first.offset, first.end());
            wanted[disk].remove(first.offset, first.end());
            bytes -= first.length;
        }
    }
    return taken;
}

// What a record has of `wanted` goes over to `parts`, in parts no longer than a slice.
Task<Status> Rewind::gather(Source& source, std::uint32_t index, std::vector<Ranges>& wanted,
                            std::uint64_t slice_bytes, std::vector<Part>& parts) {
    if (source.bounds && !source.bounds->touch(wanted)) co_return Status{};
    Table read;
    auto table = co_await table_of(source, read);
    if (!table) co_return std::unexpected(table.error());
    const std::uint64_t longest = std::max(slice_bytes / block_bytes * block_bytes, block_bytes);
    Bounds bounds(wanted.size());
    for (const format::UndoEntry& entry : **table) {
        if (entry.disk >= wanted.size())
            co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
        bounds.add(entry);
        for (const auto& [from, to] : wanted[entry.disk].common(entry.offset, entry.end())) {
            wanted[entry.disk].remove(from, to);
            for (std::uint64_t at = from; at < to; at += longest)
                parts.push_back({entry, index, 0, at, std::min(at + longest, to)});
        }
    }
    source.bounds = std::move(bounds);
    co_return Status{};
}

// `parts`: in the order of the disks, and in another one afterwards.
Task<Result<Rewind::Slice>> Rewind::read_slice(std::vector<Source>& sources, std::span<Part> parts,
                                               bool save) {
    Slice slice;
    slice.writes = writes_of(parts);
    if (save) slice.saved = not_saved(parts);
    auto old = read_old(slice.saved);
    auto wanted = read_new(sources, parts, slice.writes);
    old.start();
    wanted.start();
    // Both, also after an error of one: nothing is under way when we go back.
    auto status = co_await old.join();
    auto read = co_await wanted.join();
    if (status) status = std::move(read);
    if (!status) co_return std::unexpected(status.error());
    co_return slice;
}

// Together what lies together: epochs are small and scattered.
std::vector<Rewind::Write> Rewind::writes_of(std::span<Part> parts) {
    std::vector<Write> writes;
    bool zero = false;
    for (Part& part : parts) {
        const bool follows = !writes.empty() && writes.back().disk == part.entry.disk &&
                             writes.back().to == part.from && zero == is_zero(part.entry) &&
                             part.to - writes.back().from <= write_bytes_max;
        if (!follows) writes.push_back({part.entry.disk, part.from, part.to, nullptr});
        zero = is_zero(part.entry);
        writes.back().to = part.to;
        part.write = static_cast<std::uint32_t>(writes.size() - 1);
        if (!zero && !writes.back().content) writes.back().content = std::make_shared<Buffer>();
    }
    for (Write& write : writes) {
        if (write.content) *write.content = Buffer(write.to - write.from);
    }
    return writes;
}

Task<Status> Rewind::read_new(std::vector<Source>& sources, std::span<Part> parts,
                              std::vector<Write>& writes) {
    std::ranges::sort(parts, {}, [](const Part& part) {
        return std::tuple(part.source, part.entry.at, part.from);
    });
    std::vector<format::UndoEntry> entries;
    auto runs = runs_of(parts, entries);
    for (std::size_t begin = 0, end = 0; begin < runs.size(); begin = end) {
        std::uint64_t bytes = 0;
        Together reads(limits_.depth);
        for (; end < runs.size() && bytes < limits_.slice_bytes; ++end) {
            auto room = co_await reads.room();
            if (!room) break;
            Run& run = runs[end];
            run.stored = std::make_shared<UndoRun>(run.entries);
            bytes += run.stored->length();
            if (run.stored->length() == 0) continue;
            sources[run.parts.front().source].reader.read(run.stored, reads.callback());
        }
        auto status = co_await reads.finish();
        for (; status && begin < end; ++begin) {
            status = unpack(runs[begin], writes);
            runs[begin].stored.reset();
        }
        if (!status) co_return status;
    }
    co_return Status{};
}

// `parts`: by record, and by place in it. `entries`: of all of them.
std::vector<Rewind::Run> Rewind::runs_of(std::span<const Part> parts,
                                         std::vector<format::UndoEntry>& entries) const {
    std::vector<std::size_t> begins;  // of the parts of an entry
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const Part& part = parts[i];
        if (i > 0 && part.source == parts[i - 1].source && part.entry.disk == entries.back().disk &&
            part.entry.offset == entries.back().offset)
            continue;
        entries.push_back(part.entry);
        begins.push_back(i);
    }
    begins.push_back(parts.size());
    const auto source = [&](std::size_t entry) { return parts[begins[entry]].source; };
    std::vector<Run> runs;
    for (std::size_t begin = 0, end = 0; begin < entries.size(); begin = end) {
        while (end < entries.size() && source(end) == source(begin)) ++end;
        while (begin < end) {
            const auto rest =
                std::span<const format::UndoEntry>(entries).subspan(begin, end - begin);
            const auto first = rest.first(UndoReader::run_length(rest, volume_.request_cost()));
            const std::size_t next = begin + first.size();
            runs.push_back(
                {parts.subspan(begins[begin], begins[next] - begins[begin]), first, nullptr});
            begin = next;
        }
    }
    return runs;
}

Status Rewind::unpack(const Run& run, std::vector<Write>& writes) {
    std::vector<std::byte> whole;
    for (std::size_t i = 0; i < run.parts.size(); ++i) {
        const Part& part = run.parts[i];
        const format::UndoEntry& entry = part.entry;
        if (is_zero(entry)) continue;
        Write& write = writes[part.write];
        const auto into = write.content->span().subspan(part.from - write.from, part.bytes());
        if (part.bytes() == entry.length) {
            auto status = format::unpack(entry, run.stored->stored(entry), into);
            if (!status) return status;
            continue;
        }
        const bool again = i > 0 && run.parts[i - 1].entry.at == entry.at && !whole.empty();
        if (!again) {
            whole.resize(entry.length);
            auto status = format::unpack(entry, run.stored->stored(entry), whole);
            if (!status) return status;
        }
        std::ranges::copy(std::span(whole).subspan(part.from - entry.offset, part.bytes()),
                          into.begin());
    }
    return {};
}

// What is there and not saved yet, in the order of the disks.
std::vector<Rewind::Saving> Rewind::not_saved(std::span<const Part> parts) const {
    std::vector<Ranges> wanted(disks_.size());
    for (const Part& part : parts) wanted[part.entry.disk].add(part.from, part.to);
    std::vector<Saving> all;
    for (DiskIndex disk = 0; disk < wanted.size(); ++disk) {
        for (const Extent& range : wanted[disk].extents()) {
            for (const auto& [begin, end] : saved_[disk].missing(range.offset, range.end())) {
                for (std::uint64_t at = begin; at < end; at += read_bytes_max)
                    all.push_back({disk, at, std::min(read_bytes_max, end - at), nullptr, 0});
            }
        }
    }
    return all;
}

Task<Status> Rewind::read_old(std::vector<Saving>& saved) {
    auto status = co_await read_old(saved, true);
    // What nobody wants need not be readable.
    if (!status) status = co_await read_old(saved, false);
    co_return status;
}

// At most half of what is read is not wanted.
Task<Status> Rewind::read_old(std::vector<Saving>& saved, bool bridged) {
    Together reads(limits_.depth);
    for (std::size_t begin = 0, end = 0; begin < saved.size(); begin = end) {
        const Saving& first = saved[begin];
        std::uint64_t to = first.end();
        std::uint64_t wanted = first.length;
        const std::uint64_t gap = bridged ? disks_[first.disk]->request_cost() : 0;
        for (end = begin + 1; end < saved.size(); ++end) {
            const Saving& next = saved[end];
            const std::uint64_t bytes = next.end() - first.at;
            if (next.disk != first.disk || next.at - to > gap || bytes > read_bytes_max ||
                bytes > 2 * (wanted + next.length))
                break;
            wanted += next.length;
            to = next.end();
        }
        auto room = co_await reads.room();
        if (!room) break;
        auto buffer = std::make_shared<Buffer>(to - first.at);
        for (Saving& part : std::span(saved).subspan(begin, end - begin)) {
            part.content = buffer;
            part.content_at = part.at - first.at;
        }
        disks_[first.disk]->read(first.at, buffer->span(), reads.callback(buffer));
    }
    auto status = co_await reads.finish();
    co_return status;
}

void Rewind::make_record(Slice& slice) const {
    if (slice.saved.empty()) return;
    format::UndoWriter writer(limits_.compression);
    std::uint64_t bytes = 0;
    for (const Saving& part : slice.saved) bytes += part.length;
    writer.expect(slice.saved.size(), bytes);
    for (Saving& part : slice.saved) {
        writer.add(part.disk, part.at, part.content->span().subspan(part.content_at, part.length));
        part.content.reset();
    }
    slice.saved.clear();
    slice.record = writer.take(slice.entries);
}

Task<Status> Rewind::save(Slice& slice) {
    if (slice.record.empty()) co_return Status{};
    const std::uint64_t at = file_->bytes;
    auto header = co_await append_record(volume_, *file_, format::RecordType::undo,
                                         std::exchange(slice.record, {}), "rewind-undo");
    if (!header) co_return std::unexpected(header.error());
    undo_.push_back({at, *header});
    for (const format::UndoEntry& entry : slice.entries)
        saved_[entry.disk].add(entry.offset, entry.end());
    slice.entries.clear();
    co_return Status{};
}

Task<Status> Rewind::write(const std::vector<Write>& parts) {
    Together writes(limits_.depth);
    for (const Write& part : parts) {
        // What fails is known when all are finished.
        (void)co_await writes.room();
        if (part.content)
            disks_[part.disk]->write(part.from, part.content->span(),
                                     writes.callback(part.content));
        else
            disks_[part.disk]->write_zeroes(part.from, part.to - part.from, writes.callback());
    }
    auto status = co_await writes.finish();
    if (status) co_return status;
    // Of the disk, not of the volume.
    co_return fail(ErrorCode::io, "a target disk cannot be written: " + status.error().message);
}

}  // namespace ebb::core
