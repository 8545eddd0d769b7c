// SPDX-License-Identifier: Apache-2.0
#include "core/rewind.h"

#include <algorithm>

namespace ebb::core {

namespace {

// Of the volume, beside what is saved: tables and headers.
constexpr std::uint64_t overhead_divisor = 64;
constexpr std::uint64_t slice_bytes_min = 1ULL << 20;
constexpr std::uint64_t slices_of_move = 32;
constexpr std::size_t tables_at_once = 16;
constexpr std::size_t kept_entries = 600'000;  // of tables, some 30 MiB

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
    auto wanted = co_await between(move.from, move.to);
    if (!wanted) co_return std::unexpected(wanted.error());
    auto done = co_await carry_out(move, std::move(*wanted));
    // There was no room to go on: the disks are where they came from.
    if (!done && done.error().code == ErrorCode::no_space && !move_) co_return Status{};
    if (!done) co_return std::unexpected(done.error());
    co_return Status{};
}

Task<Result<std::vector<Ranges>>> Rewind::between(std::uint64_t a, std::uint64_t b) {
    std::vector<Ranges> all(disks_.size());
    std::vector<std::pair<TableKey, UndoReader>> records;
    for (const ClosedEpoch& closed : journal_.closed()) {
        if (closed.epoch <= std::min(a, b) || closed.epoch > std::max(a, b)) continue;
        for (const UndoRecord& record : closed.undo)
            records.emplace_back(TableKey{closed.span, record.at}, journal_.reader(closed, record));
    }
    forget_tables();
    for (std::size_t begin = 0; begin < records.size(); begin += tables_at_once) {
        const std::size_t count = std::min(tables_at_once, records.size() - begin);
        auto status = co_await add_tables(std::span(records).subspan(begin, count), all);
        if (!status) co_return std::unexpected(status.error());
    }
    co_return all;
}

Task<Status> Rewind::add_tables(std::span<const std::pair<TableKey, UndoReader>> records,
                                std::vector<Ranges>& all) {
    std::vector<UndoReader> readers;
    for (const auto& record : records) readers.push_back(record.second);
    std::vector<Task<Result<Table>>> reads;
    for (UndoReader& reader : readers) {
        reads.push_back(reader.table(true));
        reads.back().start();
    }
    // All of them, also after an error: nothing is under way when we go back.
    Status status;
    for (std::size_t i = 0; i < reads.size(); ++i) {
        auto table = co_await reads[i].join();
        if (!table && status) status = std::unexpected(table.error());
        if (!status) continue;
        for (const format::UndoEntry& entry : *table) {
            if (entry.disk >= disks_.size()) {
                status = fail(ErrorCode::corrupt, "undo of an unknown disk");
                break;
            }
            all[entry.disk].add(entry.offset, entry.end());
        }
        if (!status || table_entries_ + table->size() > kept_entries) continue;
        table_entries_ += table->size();
        tables_.emplace(records[i].first, std::move(*table));
    }
    co_return status;
}

Task<Result<const Rewind::Table*>> Rewind::table_of(Source& source, Table& read) {
    if (source.key) {
        const auto kept = tables_.find(*source.key);
        if (kept != tables_.end()) co_return &kept->second;
    }
    auto table = co_await source.reader.table();
    if (!table) co_return std::unexpected(table.error());
    read = std::move(*table);
    co_return &read;
}

void Rewind::forget_tables() {
    tables_.clear();
    table_entries_ = 0;
}

Task<Result<std::uint64_t>> Rewind::cost(std::uint64_t to) {
    if (!journal_.has_point(to))
        co_return fail(ErrorCode::not_found, "there is no such recovery point");
    auto wanted = co_await between(point(), to);
    if (!move_) forget_tables();
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
    auto status = co_await check_space(*wanted);
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
    auto done = co_await carry_out(move, std::move(*wanted));
    co_return done;
}

Task<Result<std::uint64_t>> Rewind::carry_out(format::MoveRecord move, std::vector<Ranges> wanted) {
    auto bytes = co_await put_point(move.to, wanted, move.to < move.from);
    forget_tables();
    if (!bytes && bytes.error().code == ErrorCode::no_space) {
        auto back = co_await take_back(move, std::move(wanted));
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

Task<Result<std::uint64_t>> Rewind::put_point(std::uint64_t to, std::vector<Ranges> wanted,
                                              bool save) {
    std::vector<Source> sources;  // the oldest first, which counts
    for (const ClosedEpoch& closed : journal_.closed()) {
        if (closed.epoch <= to) continue;
        for (const UndoRecord& record : closed.undo)
            sources.push_back(
                {journal_.reader(closed, record), TableKey{closed.span, record.at}, std::nullopt});
    }
    // Everything else is as at the newest point.
    for (const UndoRecord& record : undo_)
        sources.push_back({{volume_, file_name, record}, std::nullopt, std::nullopt});
    Stages stages;
    stages.slice_bytes = slice_length(bytes_of(wanted), limits_.slice_bytes);
    auto reading = ask_stage(stages, sources, std::move(wanted), save);
    auto making = make_stage(stages);
    auto saving = save_stage(stages);
    auto writing = write_stage(stages);
    reading.start();
    making.start();
    saving.start();
    writing.start();
    // All of them, also after an error: nothing is under way when we go back.
    co_await reading.join();
    co_await making.join();
    co_await saving.join();
    co_await writing.join();
    auto status = stages.status;
    if (status) status = co_await flush();
    if (!status) co_return std::unexpected(status.error());
    co_return stages.written;
}

std::uint64_t Rewind::slice_length(std::uint64_t bytes, std::uint64_t most) {
    return std::min(most, std::max(bytes / slices_of_move, slice_bytes_min));
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
