// SPDX-License-Identifier: Apache-2.0
#include "core/rewind.h"

#include <algorithm>
#include <tuple>

namespace ebb::core {

namespace {

constexpr std::uint64_t read_bytes_max = 1ULL << 20;
// Of the volume, beside what is saved: tables and headers.
constexpr std::uint64_t overhead_divisor = 64;

bool any(const std::vector<Ranges>& ranges) {
    return std::ranges::any_of(ranges, [](const Ranges& disk) { return !disk.empty(); });
}

}  // namespace

Task<Status> Rewind::open() {
    file_.reset();
    point_.reset();
    move_.reset();
    undo_.clear();
    saved_.assign(disks_.size(), {});
    Op<std::vector<env::VolumeFile>> listed;
    volume_.list(listed.callback());
    auto files = co_await listed;
    if (!files) co_return std::unexpected(files.error());
    const auto found = std::ranges::find(*files, std::string(file_name), &env::VolumeFile::name);
    if (found == files->end()) co_return Status{};
    if (!journal_.session().failed_over || journal_.closed().empty() || journal_.open_epoch()) {
        co_return fail(ErrorCode::corrupt,
                       std::string(file_name) + ": the machine is not failed over",
                       "the disks are perhaps not at the newest point: disable the protection, "
                       "and protect the machine again");
    }
    RecordScan scan(volume_,
                    {file_name, found->size, newest(), journal_.closed().back().after, true, true});
    while (true) {
        auto more = co_await scan.next();
        if (!more) co_return std::unexpected(more.error());
        if (!*more) break;
        const auto& payload = scan.payload();
        const format::RecordType type = scan.header().type;
        Status taken;
        if (type == format::RecordType::undo) {
            auto entries = format::decode_undo_table(payload, payload.size());
            if (!entries) co_return std::unexpected(entries.error());
            for (const format::UndoEntry& entry : *entries) {
                if (entry.disk >= disks_.size())
                    co_return fail(ErrorCode::corrupt, "rewind.ebb: an unknown disk");
                saved_[entry.disk].add(entry.offset, entry.end());
            }
            undo_.push_back({scan.record_at(), scan.header()});
        } else if (type == format::RecordType::move) {
            auto record = format::decode_move_record(payload);
            if (!record) co_return std::unexpected(record.error());
            if (!journal_.has_point(record->from) || !journal_.has_point(record->to))
                co_return fail(ErrorCode::corrupt, "rewind.ebb: a point that is not there");
            move_ = *record;
            point_ = record->from;
            before_ = {{file_name, newest(), scan.record_at(), scan.record_at(), scan.records() - 1,
                        scan.header().previous},
                       saved_,
                       undo_};
        } else if (type == format::RecordType::arrived) {
            auto record = format::decode_arrived_record(payload);
            if (!record) co_return std::unexpected(record.error());
            if (!journal_.has_point(record->point))
                co_return fail(ErrorCode::corrupt, "rewind.ebb: a point that is not there");
            move_.reset();
            point_ = record->point;
        } else {
            co_return fail(ErrorCode::corrupt, "rewind.ebb: a record that is not of a move");
        }
    }
    auto status = co_await scan.repair();
    if (status && scan.at() != 0) file_ = scan.end();
    co_return status;
}

Task<Status> Rewind::finish_move() {
    if (!move_) co_return Status{};
    const format::MoveRecord move = *move_;
    auto done = co_await carry_out(move);
    // There was no room to go on: the disks are where they came from.
    if (!done && done.error().code == ErrorCode::no_space && !move_) co_return Status{};
    if (!done) co_return std::unexpected(done.error());
    co_return Status{};
}

Task<Result<std::vector<Ranges>>> Rewind::between(std::uint64_t a, std::uint64_t b) {
    std::vector<Ranges> all(disks_.size());
    for (std::size_t i = 0; i < journal_.closed().size(); ++i) {
        const ClosedEpoch& closed = journal_.closed()[i];
        if (closed.epoch <= std::min(a, b) || closed.epoch > std::max(a, b)) continue;
        for (const UndoRecord& record : closed.undo) {
            UndoReader reader = journal_.reader(closed, record);
            auto table = co_await reader.table();
            if (!table) co_return std::unexpected(table.error());
            for (const format::UndoEntry& entry : *table) {
                if (entry.disk >= disks_.size())
                    co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
                all[entry.disk].add(entry.offset, entry.end());
            }
        }
    }
    co_return all;
}

Task<Result<std::uint64_t>> Rewind::cost(std::uint64_t to) {
    if (!journal_.has_point(to))
        co_return fail(ErrorCode::not_found, "there is no such recovery point");
    auto wanted = co_await between(point(), to);
    if (!wanted) co_return std::unexpected(wanted.error());
    co_return bytes_of(*wanted);
}

Task<Status> Rewind::check_space(std::vector<Ranges> wanted) {
    for (std::size_t disk = 0; disk < wanted.size(); ++disk) {
        for (const Extent& extent : saved_[disk].extents())
            wanted[disk].remove(extent.offset, extent.end());
    }
    const std::uint64_t bytes = bytes_of(wanted);
    Op<env::VolumeSpace> asked;
    volume_.space(asked.callback());
    auto space = co_await asked;
    if (!space) co_return std::unexpected(space.error());
    // What is reserved may be used for this: nothing else is written while it is failed over.
    if (bytes + bytes / overhead_divisor + block_bytes <= space->available) co_return Status{};
    co_return fail(ErrorCode::no_space,
                   "the retention volume has no room to keep what the newest point has: " +
                       std::to_string(bytes) + " bytes",
                   "Enlarge the volume, or choose a later point");
}

Task<Status> Rewind::note(format::RecordType type, format::Payload payload, std::string_view site) {
    auto done = co_await append_record(volume_, *file_, type, record_of(payload), site);
    if (!done) co_return std::unexpected(done.error());
    co_return Status{};
}

Task<Status> Rewind::start_file() {
    Op<void> created;
    volume_.create(file_name, created.callback());
    auto status = co_await created;
    if (!status) co_return status;
    file_ = RecordFile{file_name, newest(), 0, 0, 0, journal_.closed().back().after};
    co_return Status{};
}

Task<Result<std::uint64_t>> Rewind::move(std::uint64_t to) {
    if (!journal_.has_point(to)) {
        co_return fail(ErrorCode::not_found, "there is no such recovery point",
                       "See which there are: ebbctl point list");
    }
    if (move_) {
        auto status = co_await finish_move();
        if (!status) co_return std::unexpected(status.error());
    }
    if (point() == to) co_return std::uint64_t{0};
    const format::MoveRecord move{point(), to};
    auto wanted = co_await between(move.from, move.to);
    if (!wanted) co_return std::unexpected(wanted.error());
    auto status = co_await check_space(std::move(*wanted));
    if (status && !file_) status = co_await start_file();
    if (status) before_ = {*file_, saved_, undo_};
    if (status) status = co_await note(format::RecordType::move, format::encode(move), "move");
    if (status && file_->records == 1) {
        Op<void> named;
        volume_.sync_directory("rewind-name", named.callback());
        status = co_await named;
    }
    if (!status) co_return std::unexpected(status.error());
    point_ = move.from;
    move_ = move;
    auto done = co_await carry_out(move);
    co_return done;
}

Task<Result<std::uint64_t>> Rewind::carry_out(format::MoveRecord move) {
    auto wanted = co_await between(move.from, move.to);
    if (!wanted) co_return std::unexpected(wanted.error());
    auto bytes = co_await put_point(move.to, *wanted, move.to < move.from);
    if (!bytes && bytes.error().code == ErrorCode::no_space) {
        auto back = co_await take_back(move, std::move(*wanted));
        if (!back) co_return std::unexpected(back.error());
        co_return bytes;
    }
    if (!bytes) co_return bytes;
    auto status = co_await note(format::RecordType::arrived,
                                format::encode(format::ArrivedRecord{move.to}), "arrived");
    // Without it the move is done once more after the next start: that does no harm.
    if (!status && status.error().code != ErrorCode::no_space)
        co_return std::unexpected(status.error());
    point_ = move.to;
    move_.reset();
    co_return bytes;
}

Task<Status> Rewind::take_back(format::MoveRecord move, std::vector<Ranges> wanted) {
    // What was not saved was not overwritten.
    auto back = co_await put_point(move.from, std::move(wanted), false);
    if (!back) co_return std::unexpected(back.error());
    Op<void> cut;
    volume_.truncate(file_name, before_.file.bytes, cut.callback());
    auto status = co_await cut;
    if (!status) co_return status;
    Op<void> synced;
    volume_.sync(file_name, "move-undone", synced.callback());
    status = co_await synced;
    if (!status)
        co_return fail(ErrorCode::io, "sync of the journal failed: " + status.error().message);
    file_ = before_.file;
    saved_ = before_.saved;
    undo_ = before_.undo;
    move_.reset();
    co_return Status{};
}

// In chapters of the disks' order, since what is to be read for one has to be known before, by all
// tables.
Task<Result<std::uint64_t>> Rewind::put_point(std::uint64_t to, std::vector<Ranges> wanted,
                                              bool save) {
    std::uint64_t put = 0;
    std::vector<Source> sources;  // the oldest first, which counts
    for (const ClosedEpoch& closed : journal_.closed()) {
        if (closed.epoch <= to) continue;
        for (const UndoRecord& record : closed.undo)
            sources.push_back({journal_.reader(closed, record), std::nullopt});
    }
    // Everything else is as at the newest point.
    for (const UndoRecord& record : undo_)
        sources.push_back({{volume_, file_name, record}, std::nullopt});
    while (any(wanted)) {
        std::vector<Ranges> chapter = take_first(wanted, limits_.chapter_bytes);
        std::vector<Part> parts;
        for (std::uint32_t i = 0; i < sources.size() && any(chapter); ++i) {
            auto status = co_await gather(sources[i], i, chapter, parts);
            if (!status) co_return std::unexpected(status.error());
        }
        std::ranges::sort(parts, {}, &Part::place);
        for (std::size_t begin = 0, end = 0; begin < parts.size(); begin = end) {
            std::uint64_t bytes = 0;
            for (; end < parts.size() && bytes < limits_.slice_bytes; ++end)
                bytes += parts[end].to - parts[end].from;
            put += bytes;
            auto status =
                co_await this->put(sources, std::span(parts).subspan(begin, end - begin), save);
            if (!status) co_return std::unexpected(status.error());
        }
    }
    auto status = co_await flush();
    if (!status) co_return std::unexpected(status.error());
    co_return put;
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

// What a record has of `wanted` goes over to `parts`.
Task<Status> Rewind::gather(Source& source, std::uint32_t index, std::vector<Ranges>& wanted,
                            std::vector<Part>& parts) {
    if (source.bounds && !source.bounds->touch(wanted)) co_return Status{};
    auto table = co_await source.reader.table();
    if (!table) co_return std::unexpected(table.error());
    Bounds bounds(wanted.size());
    for (const format::UndoEntry& entry : *table) {
        if (entry.disk >= wanted.size())
            co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
        bounds.add(entry);
        for (const auto& [from, to] : wanted[entry.disk].common(entry.offset, entry.end())) {
            wanted[entry.disk].remove(from, to);
            parts.push_back({entry, index, from, to});
        }
    }
    source.bounds = std::move(bounds);
    co_return Status{};
}

// What is overwritten is kept, durably, before any of it is.
Task<Status> Rewind::put(std::vector<Source>& sources, std::span<Part> slice, bool save) {
    if (save) {
        auto status = co_await this->save(slice);
        if (!status) co_return status;
    }
    std::ranges::sort(slice, {}, [](const Part& part) {
        return std::tuple(part.source, part.entry.at, part.from);
    });
    std::vector<Putting> content;
    for (std::size_t begin = 0, end = 0; begin < slice.size(); begin = end) {
        while (end < slice.size() && slice[end].source == slice[begin].source) ++end;
        auto status = co_await read_parts(sources[slice[begin].source].reader,
                                          slice.subspan(begin, end - begin), content);
        if (!status) co_return status;
    }
    auto status = co_await write(std::move(content));
    co_return status;
}

Task<Status> Rewind::read_parts(UndoReader& reader, std::span<const Part> parts,
                                std::vector<Putting>& content) {
    std::vector<format::UndoEntry> entries;
    for (const Part& part : parts) {
        if (entries.empty() || entries.back().offset != part.entry.offset ||
            entries.back().disk != part.entry.disk)
            entries.push_back(part.entry);
    }
    auto part = parts.begin();
    for (std::size_t begin = 0; begin < entries.size();) {
        const std::size_t size = UndoReader::run_length(std::span(entries).subspan(begin));
        const auto first = entries.begin() + static_cast<std::ptrdiff_t>(begin);
        auto run = co_await reader.read({first, first + static_cast<std::ptrdiff_t>(size)});
        if (!run) co_return std::unexpected(run.error());
        for (const format::UndoEntry& entry : std::span(entries).subspan(begin, size)) {
            std::vector<std::byte> unpacked;
            if (entry.kind != format::UndoKind::zero) {
                unpacked.resize(entry.length);
                auto whole = format::unpack(entry, run->stored(entry), unpacked);
                if (!whole) co_return std::unexpected(whole.error());
            }
            for (; part != parts.end() && part->entry.disk == entry.disk &&
                   part->entry.offset == entry.offset;
                 ++part)
                content.push_back({entry.disk, part->from, part->to, part->of(unpacked)});
        }
        begin += size;
    }
    co_return Status{};
}

// In the order of the disks, and together what lies together: epochs are small and scattered.
Task<Status> Rewind::write(std::vector<Putting> parts) {
    std::ranges::sort(parts, {},
                      [](const Putting& part) { return std::pair(part.disk, part.from); });
    Together writes(limits_.depth);
    for (std::size_t begin = 0, end = 0; begin < parts.size(); begin = end) {
        const Putting& first = parts[begin];
        std::uint64_t to = first.to;
        for (end = begin + 1; end < parts.size() && parts[end].follows(first, to); ++end)
            to = parts[end].to;
        // What fails is known when all are finished.
        (void)co_await writes.room();
        if (first.content.empty()) {
            disks_[first.disk]->write_zeroes(first.from, to - first.from, writes.callback());
            continue;
        }
        auto buffer = std::make_shared<Buffer>(to - first.from);
        for (const Putting& part : std::span(parts).subspan(begin, end - begin))
            std::ranges::copy(part.content, buffer->data() + (part.from - first.from));
        disks_[first.disk]->write(first.from, buffer->span(), writes.callback(buffer));
    }
    auto status = co_await writes.finish();
    if (status) co_return status;
    // Of the disk, not of the volume.
    co_return fail(ErrorCode::io, "a target disk cannot be written: " + status.error().message);
}

// What is there and not saved yet.
Task<Status> Rewind::save(std::span<const Part> slice) {
    std::vector<Saving> parts;
    format::UndoWriter writer(limits_.compression);
    Together reads(limits_.depth);
    std::uint64_t sum = 0;
    const auto take = [&] {
        for (const Saving& part : parts) writer.add(part.disk, part.at, part.content->span());
        parts.clear();
        sum = 0;
    };
    for (Saving& part : not_saved(slice)) {
        auto room = co_await reads.room();
        if (!room) co_return room;
        part.content = std::make_shared<Buffer>(part.length);
        disks_[part.disk]->read(part.at, part.content->span(), reads.callback(part.content));
        sum += part.length;
        parts.push_back(std::move(part));
        if (sum < limits_.slice_bytes) continue;
        auto status = co_await reads.finish();
        if (!status) co_return status;
        take();
        status = co_await append_saved(writer);
        if (!status) co_return status;
    }
    auto status = co_await reads.finish();
    if (!status) co_return status;
    take();
    if (writer.empty()) co_return Status{};
    status = co_await append_saved(writer);
    co_return status;
}

// In the order of the disks, as what is overwritten is.
std::vector<Rewind::Saving> Rewind::not_saved(std::span<const Part> slice) const {
    std::vector<Ranges> wanted(disks_.size());
    for (const Part& part : slice) wanted[part.entry.disk].add(part.from, part.to);
    std::vector<Saving> all;
    for (DiskIndex disk = 0; disk < wanted.size(); ++disk) {
        for (const Extent& range : wanted[disk].extents()) {
            for (const auto& [begin, end] : saved_[disk].missing(range.offset, range.end())) {
                for (std::uint64_t at = begin; at < end; at += read_bytes_max)
                    all.push_back({disk, at, std::min(read_bytes_max, end - at), nullptr});
            }
        }
    }
    return all;
}

Task<Status> Rewind::append_saved(format::UndoWriter& writer) {
    std::vector<format::UndoEntry> entries;
    auto record = writer.take(entries);
    const std::uint64_t at = file_->bytes;
    auto header = co_await append_record(volume_, *file_, format::RecordType::undo,
                                         std::move(record), "rewind-undo");
    if (!header) co_return std::unexpected(header.error());
    undo_.push_back({at, *header});
    for (const format::UndoEntry& entry : entries)
        saved_[entry.disk].add(entry.offset, entry.end());
    co_return Status{};
}

Task<Status> Rewind::flush() {
    Together flushes(limits_.depth);
    for (env::Disk* disk : disks_) disk->flush("rewound", flushes.callback());
    auto status = co_await flushes.finish();
    co_return status;
}

Task<Status> Rewind::end() {
    if (!file_) co_return Status{};
    Op<void> removed;
    volume_.remove(file_name, removed.callback());
    auto status = co_await removed;
    if (!status) co_return status;
    Op<void> named;
    volume_.sync_directory("rewind-gone", named.callback());
    status = co_await named;
    if (!status) co_return status;
    file_.reset();
    point_.reset();
    move_.reset();
    undo_.clear();
    saved_.assign(disks_.size(), {});
    co_return Status{};
}

}  // namespace ebb::core
