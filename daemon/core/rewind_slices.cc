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

// Neighbours of one disk; what is given is in the order of the disks.
template <class T, class Disk>
std::vector<std::span<T>> by_disk(std::span<T> all, Disk disk) {
    std::vector<std::span<T>> parts;
    for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
        while (end < all.size() && disk(all[end]) == disk(all[begin])) ++end;
        parts.push_back(all.subspan(begin, end - begin));
    }
    return parts;
}

}  // namespace

// A slice has something of each disk, in proportion to what the chapter has of it: they work side
// by side, and come to their end together.
class Rewind::Deal {
public:
    explicit Deal(std::vector<Part> parts) : parts_(std::move(parts)) {
        std::ranges::sort(parts_, {}, &Part::place);
        const auto of = [](const Part& part) { return part.entry.disk; };
        for (const std::span<const Part> own : by_disk(std::span<const Part>(parts_), of)) {
            std::uint64_t bytes = 0;
            for (const Part& part : own) bytes += part.bytes();
            disks_.push_back({own, 0, bytes});
        }
    }
    // At most so many bytes, and one part at least; in the order of the disks. None: that was all.
    std::vector<Part> next(std::uint64_t most) {
        std::vector<Part> dealt;
        std::uint64_t bytes = 0;
        for (auto disk = first(); disk != disks_.end(); disk = first()) {
            const Part& part = disk->left.front();
            if (!dealt.empty() && bytes + part.bytes() > most) break;
            dealt.push_back(part);
            bytes += part.bytes();
            disk->done += part.bytes();
            disk->left = disk->left.subspan(1);
        }
        if (disks_.size() > 1) std::ranges::sort(dealt, {}, &Part::place);
        return dealt;
    }

private:
    struct Disk {
        std::span<const Part> left;
        std::uint64_t done = 0;
        std::uint64_t bytes = 0;
        [[nodiscard]] double share() const {
            return left.empty() ? 2 : static_cast<double>(done) / static_cast<double>(bytes);
        }
    };
    // Of the disks that have any left, the one that is behind.
    std::vector<Disk>::iterator first() {
        const auto least = std::ranges::min_element(disks_, {}, &Disk::share);
        return least != disks_.end() && least->left.empty() ? disks_.end() : least;
    }
    std::vector<Part> parts_;
    std::vector<Disk> disks_;
};

// In chapters, since what is to be read for one has to be known before, by all tables.
Task<void> Rewind::ask_stage(Stages& stages, std::vector<Source>& sources,
                             std::vector<Ranges> wanted, bool save) {
    while (stages.status && any(wanted)) {
        auto chapter = take_first(wanted, limits_.chapter_bytes);
        auto status = co_await read_chapter(stages, sources, std::move(chapter), save);
        if (!status) stages.fail(status.error());
    }
    stages.asked.end();
}

// A slice is asked for when all of the one before is under way, and need not have come: no disk
// waits for the other, nor for what is computed.
Task<Status> Rewind::read_chapter(Stages& stages, std::vector<Source>& sources,
                                  std::vector<Ranges> chapter, bool save) {
    std::vector<Part> parts;
    for (std::uint32_t i = 0; i < sources.size() && any(chapter); ++i) {
        auto status = co_await gather(sources[i], i, chapter, stages.slice_bytes, parts);
        if (!status) co_return status;
    }
    Deal deal(std::move(parts));
    for (auto own = deal.next(stages.slice_bytes); !own.empty();
         own = deal.next(stages.slice_bytes)) {
        std::uint64_t bytes = 0;
        for (const Part& part : own) bytes += part.bytes();
        const std::uint64_t most = limits_.slices * limits_.slice_bytes;
        while (stages.status && stages.in_memory > 0 && stages.in_memory + bytes > most)
            co_await stages.room.wait();
        if (!stages.status) co_return Status{};
        stages.in_memory += bytes;
        auto slice = std::make_shared<Slice>(disks_.size(), limits_.depth);
        slice->bytes = bytes;
        slice->parts = std::move(own);
        co_await ask(sources, slice, save);
        stages.asked.put(std::move(slice));
    }
    co_return Status{};
}

Task<Rewind::SlicePtr> Rewind::next(Queue& queue) {
    while (queue.slices.empty() && !queue.last) co_await queue.changed.wait();
    if (queue.slices.empty()) co_return nullptr;
    auto slice = std::move(queue.slices.front());
    queue.slices.pop_front();
    co_return slice;
}

// Also after an error all that was asked for comes: nothing is under way when the move is over.
Task<void> Rewind::make_stage(Stages& stages) {
    while (auto slice = co_await next(stages.asked)) {
        auto status = co_await finish_reads(slice);
        if (status && stages.status) status = co_await compute(slice);
        if (!status) stages.fail(status.error());
        if (stages.status) stages.made.put(std::move(slice));
    }
    stages.made.end();
}

// What is overwritten is kept, durably, before any of it is: a slice goes to the next stage when
// its record is synced. A sync may take longer than what it is for: short ones that wait by then
// have one together.
Task<void> Rewind::save_stage(Stages& stages) {
    while (auto slice = co_await next(stages.made)) {
        if (!stages.status) break;
        std::vector<SlicePtr> together{std::move(slice)};
        auto& waiting = stages.made.slices;
        for (std::uint64_t bytes = together.front()->bytes;
             !waiting.empty() && bytes + waiting.front()->bytes <= limits_.save_bytes;) {
            bytes += waiting.front()->bytes;
            together.push_back(std::move(waiting.front()));
            waiting.pop_front();
        }
        auto status = co_await save(together);
        if (!status) stages.fail(status.error());
        if (!stages.status) break;
        for (SlicePtr& saved : together) stages.saved.put(std::move(saved));
    }
    stages.saved.end();
}

Task<void> Rewind::write_stage(Stages& stages) {
    while (auto slice = co_await next(stages.saved)) {
        if (!stages.status) break;
        auto status = co_await write(slice);
        if (!status) stages.fail(status.error());
        stages.written += slice->bytes;
        stages.in_memory -= slice->bytes;
        slice.reset();
        stages.room.notify();
    }
}

std::vector<Ranges> Rewind::take_first(std::vector<Ranges>& wanted, std::uint64_t bytes) {
    const double share = static_cast<double>(bytes) / static_cast<double>(bytes_of(wanted));
    std::vector<Ranges> taken(wanted.size());
    for (std::size_t disk = 0; disk < wanted.size(); ++disk) {
        const auto own = static_cast<double>(wanted[disk].bytes());
        // Whole blocks, but for the end of a disk, and one at least.
        auto blocks = static_cast<std::uint64_t>(std::min(share, 1.0) * own / block_bytes) + 1;
        while (blocks > 0 && wanted[disk].bytes() != 0) {
            const Extent first = wanted[disk].front(blocks * block_bytes);
            taken[disk].add(first.offset, first.end());
            wanted[disk].remove(first.offset, first.end());
            blocks -= std::min(blocks, std::max(first.length / block_bytes, std::uint64_t{1}));
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

Task<void> Rewind::ask(std::vector<Source>& sources, SlicePtr slice, bool save) {
    slice->writes = writes_of(slice->parts);
    if (save) slice->saved = not_saved(slice->parts);
    auto old = ask_old(slice->saved, slice->read_old, true);
    auto wanted = ask_new(sources, slice);
    old.start();
    wanted.start();
    co_await old.join();
    co_await wanted.join();
}

// Together what lies together: epochs are small and scattered.
std::vector<Rewind::Write> Rewind::writes_of(std::span<Part> parts) {
    std::vector<Write> writes;
    for (Part& part : parts) {
        const bool zero = is_zero(part.entry);
        const bool follows = !writes.empty() && writes.back().disk == part.entry.disk &&
                             writes.back().to == part.from && zero == writes.back().zero &&
                             part.to - writes.back().from <= write_bytes_max;
        if (!follows) writes.push_back({part.entry.disk, part.from, part.to, zero, {}});
        writes.back().to = part.to;
        part.write = static_cast<std::uint32_t>(writes.size() - 1);
    }
    return writes;
}

Task<void> Rewind::ask_new(std::vector<Source>& sources, SlicePtr slice) {
    std::ranges::sort(slice->parts, {}, [](const Part& part) {
        return std::tuple(part.source, part.entry.at, part.from);
    });
    slice->runs = runs_of(slice->parts);
    for (const Run& run : slice->runs) {
        if (run.stored->length() == 0) continue;
        auto room = co_await slice->read_new.room();
        if (!room) break;
        sources[run.parts.front().source].reader.read(run.stored, slice->read_new.callback());
    }
}

// `parts`: by record, and by place in it.
std::vector<Rewind::Run> Rewind::runs_of(std::span<const Part> parts) const {
    std::vector<format::UndoEntry> entries;
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
            runs.push_back({parts.subspan(begins[begin], begins[next] - begins[begin]),
                            std::make_shared<UndoRun>(first)});
            begin = next;
        }
    }
    return runs;
}

Task<Status> Rewind::finish_reads(SlicePtr slice) {
    const auto finish = [](std::deque<Together>& reads) -> Task<Status> {
        Status all;
        for (Together& disk : reads) {
            auto status = co_await disk.finish();
            if (!status && all) all = std::move(status);
        }
        co_return all;
    };
    auto old = co_await finish(slice->read_old);
    auto wanted = co_await slice->read_new.finish();
    if (!old && wanted) {
        // What nobody wants need not be readable.
        Slice again(disks_.size(), limits_.depth);
        co_await ask_old(slice->saved, again.read_old, false);
        old = co_await finish(again.read_old);
    }
    co_return wanted ? old : wanted;
}

// Both at once, beside the executor, which asks for the next slices meanwhile.
Task<Status> Rewind::compute(SlicePtr slice) {
    Together both(2);
    auto unpacked = std::make_shared<Status>();
    cpus_.compute([slice, unpacked] { *unpacked = unpack(*slice); }, both.callback());
    if (!slice->saved.empty())
        cpus_.compute([slice, level = limits_.compression] { make_record(*slice, level); },
                      both.callback());
    (void)co_await both.finish();
    co_return std::move(*unpacked);
}

Status Rewind::unpack(Slice& slice) {
    for (Write& write : slice.writes) {
        if (!write.zero) write.content = Buffer(write.to - write.from);
    }
    for (Run& run : slice.runs) {
        auto status = unpack(run, slice.writes);
        if (!status) return status;
        run.stored.reset();
    }
    slice.runs.clear();
    return {};
}

Status Rewind::unpack(const Run& run, std::vector<Write>& writes) {
    std::vector<std::byte> whole;
    for (std::size_t i = 0; i < run.parts.size(); ++i) {
        const Part& part = run.parts[i];
        const format::UndoEntry& entry = part.entry;
        if (is_zero(entry)) continue;
        Write& write = writes[part.write];
        const auto into = write.content.span().subspan(part.from - write.from, part.bytes());
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

Task<void> Rewind::ask_old(std::span<Saving> saved, std::deque<Together>& reads, bool bridged) {
    std::vector<Task<void>> disks;
    for (const std::span<Saving> own :
         by_disk(saved, [](const Saving& part) { return part.disk; })) {
        disks.push_back(ask_disk(own, reads[own.front().disk], bridged));
        disks.back().start();
    }
    for (auto& disk : disks) co_await disk.join();
}

// At most half of what is read is not wanted.
Task<void> Rewind::ask_disk(std::span<Saving> saved, Together& reads, bool bridged) {
    for (std::size_t begin = 0, end = 0; begin < saved.size(); begin = end) {
        const Saving& first = saved[begin];
        std::uint64_t to = first.end();
        std::uint64_t wanted = first.length;
        const std::uint64_t gap = bridged ? disks_[first.disk]->request_cost() : 0;
        for (end = begin + 1; end < saved.size(); ++end) {
            const Saving& next = saved[end];
            const std::uint64_t bytes = next.end() - first.at;
            if (next.at - to > gap || bytes > read_bytes_max || bytes > 2 * (wanted + next.length))
                break;
            wanted += next.length;
            to = next.end();
        }
        auto room = co_await reads.room();
        if (!room) break;
        auto buffer = std::make_shared<Buffer>(to - first.at);
        for (Saving& part : saved.subspan(begin, end - begin)) {
            part.content = buffer;
            part.content_at = part.at - first.at;
        }
        disks_[first.disk]->read(first.at, buffer->span(), reads.callback(buffer));
    }
}

void Rewind::make_record(Slice& slice, int compression) {
    format::UndoWriter writer(compression);
    std::uint64_t bytes = 0;
    for (const Saving& part : slice.saved) bytes += part.length;
    writer.expect(slice.saved.size(), bytes);
    for (Saving& part : slice.saved) {
        writer.add(part.disk, part.at, part.content->span().subspan(part.content_at, part.length));
        part.content.reset();
    }
    slice.saved.clear();
    slice.record = writer.take(slice.entries);
    slice.payload = format::payload_digest(slice.record);
}

Task<Status> Rewind::save(std::span<const SlicePtr> slices) {
    const auto recorded = [](const SlicePtr& slice) { return !slice->record.empty(); };
    auto left = std::ranges::count_if(slices, recorded);
    std::vector<UndoRecord> records;
    for (const SlicePtr& slice : slices) {
        if (!recorded(slice)) continue;
        const std::uint64_t at = file_->bytes;
        const std::string_view site = --left == 0 ? "rewind-undo" : "";
        auto header =
            co_await append_record(volume_, *file_, format::RecordType::undo,
                                   std::exchange(slice->record, {}), slice->payload, site);
        if (!header) co_return std::unexpected(header.error());
        records.push_back({at, *header});
    }
    undo_.insert(undo_.end(), records.begin(), records.end());
    for (const SlicePtr& slice : slices) {
        for (const format::UndoEntry& entry : std::exchange(slice->entries, {}))
            saved_[entry.disk].add(entry.offset, entry.end());
    }
    co_return Status{};
}

Task<Status> Rewind::write(SlicePtr slice) {
    std::vector<Task<Status>> disks;
    const auto all = std::span<const Write>(slice->writes);
    for (const auto own : by_disk(all, [](const Write& part) { return part.disk; })) {
        disks.push_back(write_disk(slice, own));
        disks.back().start();
    }
    Status all_written;
    for (auto& disk : disks) {
        auto status = co_await disk.join();
        if (!status && all_written) all_written = std::move(status);
    }
    if (all_written) co_return all_written;
    // Of the disk, not of the volume.
    co_return fail(ErrorCode::io,
                   "a target disk cannot be written: " + all_written.error().message);
}

Task<Status> Rewind::write_disk(SlicePtr slice, std::span<const Write> writes) {
    Together under_way(limits_.depth);
    for (const Write& part : writes) {
        // What fails is known when all are finished.
        (void)co_await under_way.room();
        if (part.zero)
            disks_[part.disk]->write_zeroes(part.from, part.to - part.from, under_way.callback());
        else
            disks_[part.disk]->write(part.from, part.content.span(), under_way.callback(slice));
    }
    co_return co_await under_way.finish();
}

}  // namespace ebb::core
