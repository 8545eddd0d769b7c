// SPDX-License-Identifier: Apache-2.0
// Reads back what a point was made of, beside replication: docs/decisions/0404.
#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

namespace {

using format::ExtentKind;
using format::ManifestEntry;

// So many are sorted, that neighbours become one read.
constexpr std::size_t sorted_extents = 16384;
constexpr std::uint64_t run_bytes = 1ULL << 20;

// How many of the first ones, which are sorted and do not overlap, are one read: at least one.
std::size_t run_length(std::span<const ManifestEntry> extents) {
    std::size_t count = 1;
    while (count < extents.size()) {
        const ManifestEntry& next = extents[count];
        const bool near = next.disk == extents[0].disk && next.offset == extents[count - 1].end() &&
                          next.end() - extents[0].offset <= run_bytes;
        if (!near) break;
        ++count;
    }
    return count;
}

Error too_large() {
    return {ErrorCode::no_memory,
            "what is to be certified has too many places",
            {},
            "E_POINT_TOO_LARGE"};
}

bool is_too_large(const Error& error) {
    return error.name() == "E_POINT_TOO_LARGE";
}

}  // namespace

struct Target::Impl::Certifying {
    struct Reading {
        std::uint64_t bytes = 0;
        Task<Status> task;
    };
    CertifiedPoint result;
    // The disks lie one after the other. Of the chapter are the extents that begin in it.
    std::vector<std::uint64_t> begins;  // by disk; and where the last one ends
    std::uint64_t from = 0, to = 0;
    std::uint64_t longest = 0;       // extent
    std::vector<Ranges> superseded;  // by disk: of extents that were looked at; newest come first
    std::vector<ManifestEntry> wanted;  // to be read back: the last word on what they are of
    std::deque<Reading> under_way;      // the one that was begun first in front
    std::uint64_t under_way_bytes = 0;

    [[nodiscard]] bool is_of_chapter(const ManifestEntry& extent) const {
        const std::uint64_t at = begins[extent.disk] + extent.offset;
        return at >= from && at < to;
    }
    // What the chapter has of the disk, and `beyond` its end.
    [[nodiscard]] Extent part_of(DiskIndex disk, std::uint64_t beyond) const {
        const std::uint64_t begin = std::clamp(from, begins[disk], begins[disk + 1]);
        const std::uint64_t end = std::clamp(to + beyond, begins[disk], begins[disk + 1]);
        return {begin - begins[disk], end - begin, false};
    }
    // An extent of the chapter may have something in common with it.
    [[nodiscard]] bool reaches(DiskIndex disk, std::uint64_t offset, std::uint64_t end) const {
        const Extent part = part_of(disk, longest);
        return offset < part.end() && end > part.offset;
    }
};

Task<void> Target::Impl::certify(std::uint64_t epoch, bool whole,
                                 std::shared_ptr<env::Callback<CertifiedPoint>> done) {
    Error error = error_;
    if (ready_ && !broken_) {
        if (upkeep_ == Upkeep::merge) co_await stop_upkeep();
        const bool newest = epoch == 0 && !journal_.closed().empty();
        if (journal_.session().failed_over) {
            error = {ErrorCode::refused,
                     "the machine is failed over: its disks are its own",
                     "Commit it, or go back to replication: ebbctl rollback",
                     {}};
        } else if (!newest && !journal_.has_point(epoch)) {
            error = {ErrorCode::not_found, "there is no such recovery point", {}, {}};
        } else if (upkeep_ != Upkeep::none) {
            error = {ErrorCode::busy, "the journal is being read already", {}, {}};
        } else {
            if (newest) epoch = journal_.closed().back().epoch;
            read_from_ = whole ? 0 : epoch;
            start_upkeep(Upkeep::verify,
                         [this, epoch, whole, done] { return certify_beside(epoch, whole, done); });
            co_return;
        }
    }
    post([done, error]() mutable { (*done)(std::unexpected(std::move(error))); });
}

Task<void> Target::Impl::certify_beside(std::uint64_t epoch, bool whole,
                                        std::shared_ptr<env::Callback<CertifiedPoint>> done) {
    auto it = std::make_shared<Certifying>();
    it->result.point = point_of(epoch);
    it->result.whole = whole;
    for (const TargetDisk& disk : config_.disks) {
        it->begins.push_back(it->result.disk_bytes);
        it->result.disk_bytes += disk.size;
    }
    it->begins.push_back(it->result.disk_bytes);
    auto status = co_await certify_point(*it);
    const auto reader = std::exchange(certifying_, nullptr);
    if (journal_.session().failed_over) {
        // What the disks have is not this point's any more.
        status = fail(ErrorCode::cancelled, "the machine was failed over meanwhile");
    } else if (reader && reader->given_up()) {
        status = std::unexpected(*reader->status().error);
    } else if (!status && status.error().code == ErrorCode::cancelled && upkeep_full_) {
        status = reading_given_up();
    }
    Result<CertifiedPoint> result = it->result;
    if (!status) result = std::unexpected(status.error());
    post([done, result]() mutable { (*done)(std::move(result)); });
    upkeep_done();
}

// Nothing is given up while this goes on.
Result<ClosedEpoch> Target::Impl::closed_epoch(std::uint64_t epoch) const {
    const auto& all = journal_.closed();
    const auto found = std::ranges::lower_bound(all, epoch, {}, &ClosedEpoch::epoch);
    if (found != all.end() && found->epoch == epoch) return *found;
    return fail(ErrorCode::cancelled, "the journal was read again meanwhile");
}

Task<Status> Target::Impl::certify_point(Certifying& it) {
    auto journal = co_await journal_.verify(&upkeep_stop_);
    if (!journal) co_return std::unexpected(journal.error());
    it.result.journal = *journal;
    auto wanted = closed_epoch(it.result.point.epoch);
    if (!wanted) co_return std::unexpected(wanted.error());
    it.result.chain = wanted->after;
    it.result.merged = wanted->span.first != wanted->span.last;
    auto status = co_await find_longest(it);
    if (status) status = co_await certify_chapters(it);
    co_return status;
}

// The last word on a block first.
std::vector<std::uint64_t> Target::Impl::certified_epochs(const CertifiedPoint& point) const {
    std::vector<std::uint64_t> epochs;
    for (const ClosedEpoch& closed : journal_.closed()) {
        const bool before = point.whole && closed.epoch < point.point.epoch;
        if (before || closed.epoch == point.point.epoch) epochs.push_back(closed.epoch);
    }
    std::ranges::reverse(epochs);
    return epochs;
}

Task<Status> Target::Impl::find_longest(Certifying& it) {
    for (const std::uint64_t epoch : certified_epochs(it.result)) {
        auto closed = closed_epoch(epoch);
        if (!closed) co_return std::unexpected(closed.error());
        for (const UndoRecord& at : closed->manifests) {
            if (upkeep_stop_) co_return fail(ErrorCode::cancelled, "certifying was given up");
            auto record = co_await journal_.read_manifest(closed->span, at);
            if (!record) co_return std::unexpected(record.error());
            for (const ManifestEntry& extent : record->extents)
                it.longest = std::max(it.longest, extent.length);
        }
    }
    co_return Status{};
}

// All at once, or as much as there is memory for: what turns out to be too much, be it of what is
// overwritten meanwhile, is begun anew with half of the disks.
Task<Status> Target::Impl::certify_chapters(Certifying& it) {
    const std::uint64_t end = it.result.disk_bytes;
    it.to = end;
    while (it.from < end) {
        const CertifiedPoint before = it.result;
        const std::uint64_t size = it.to - it.from;
        auto status = co_await certify_chapter(it);
        if (certifying_ && certifying_->given_up())
            status = std::unexpected(*certifying_->status().error);
        if (!status && (!is_too_large(status.error()) || size <= block_bytes)) co_return status;
        if (!status) {
            it.result = before;
            it.to = it.from + size / 2;
        } else {
            it.from = it.to;
            it.to = it.from + std::min(2 * size, end - it.from);
        }
    }
    co_return Status{};
}

Task<Status> Target::Impl::certify_chapter(Certifying& it) {
    it.wanted.clear();
    it.superseded.assign(disks_.size(), {});
    auto status = co_await index_certified(it);
    if (status) status = co_await certify_epochs(it);
    if (status) status = co_await begin_reads(it);
    // Also where it was given up, or one had an error: nothing of it goes on after its answer.
    auto ended = co_await end_reads(it);
    co_return status ? ended : status;
}

Status Target::Impl::check_places(const std::vector<Ranges>& places) const {
    std::size_t count = 0;
    for (const Ranges& disk : places) count += disk.count();
    if (count > config_.certify_ranges) return std::unexpected(too_large());
    return {};
}

Task<Status> Target::Impl::certify_epochs(Certifying& it) {
    Status status;
    for (const std::uint64_t epoch : certified_epochs(it.result)) {
        status = co_await certify_epoch(it, epoch);
        if (status && (it.result.whole || it.result.merged)) status = co_await add_undo(it, epoch);
        if (!status) break;
    }
    co_return status;
}

// Where something of the chapter will be read.
Task<Result<std::vector<Ranges>>> Target::Impl::places_certified(const Certifying& it) {
    std::vector<Ranges> places(disks_.size());
    if (it.result.whole) {
        for (DiskIndex disk = 0; disk < places.size(); ++disk) {
            const Extent part = it.part_of(disk, it.longest);
            places[disk].add(part.offset, part.end());
        }
        co_return places;
    }
    auto closed = closed_epoch(it.result.point.epoch);
    if (!closed) co_return std::unexpected(closed.error());
    for (const UndoRecord& at : closed->manifests) {
        auto record = co_await journal_.read_manifest(closed->span, at);
        if (!record) co_return std::unexpected(record.error());
        for (const ManifestEntry& extent : record->extents) {
            if (extent.disk < places.size() && it.is_of_chapter(extent))
                places[extent.disk].add(extent.offset, extent.end());
        }
        auto fits = check_places(places);
        if (!fits) co_return std::unexpected(fits.error());
    }
    co_return places;
}

// From here on the point can be read, whatever is overwritten.
Task<Status> Target::Impl::index_certified(Certifying& it) {
    certifying_.reset();
    auto only = co_await places_certified(it);
    if (!only) co_return std::unexpected(only.error());
    if (upkeep_stop_) co_return fail(ErrorCode::cancelled, "certifying was given up");
    // Failed over in between: the disks may be anywhere.
    if (journal_.session().failed_over)
        co_return fail(ErrorCode::cancelled, "the machine was failed over meanwhile");
    certifying_ = std::make_shared<PointReader>(
        it.result.point.epoch, disks_, journal_.volume(), journal_,
        PointReader::Limits{config_.certify_index_bytes, config_.io_depth}, config_.reader_rules,
        std::move(*only));
    const auto reader = certifying_;
    auto building = reader->build();
    co_await building;
    if (reader->given_up()) co_return std::unexpected(*reader->status().error);
    co_return Status{};
}

Task<Status> Target::Impl::certify_epoch(Certifying& it, std::uint64_t epoch) {
    auto closed = closed_epoch(epoch);
    if (!closed) co_return std::unexpected(closed.error());
    for (auto at = closed->manifests.rbegin(); at != closed->manifests.rend(); ++at) {
        auto record = co_await journal_.read_manifest(closed->span, *at);
        if (!record) co_return std::unexpected(record.error());
        std::ranges::reverse(record->extents);
        auto status = co_await certify_extents(it, record->extents);
        if (!status) co_return status;
    }
    co_return Status{};
}

// Of points that were merged not all extents are known any more.
Task<Status> Target::Impl::add_undo(Certifying& it, std::uint64_t epoch) {
    auto closed = closed_epoch(epoch);
    if (!closed) co_return std::unexpected(closed.error());
    for (const UndoRecord& record : closed->undo) {
        UndoReader reader = journal_.reader(*closed, record);
        auto table = co_await reader.table();
        if (!table) co_return std::unexpected(table.error());
        for (const format::UndoEntry& entry : *table) {
            if (entry.disk >= it.superseded.size())
                co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
            if (!it.reaches(entry.disk, entry.offset, entry.end())) continue;
            Ranges& superseded = it.superseded[entry.disk];
            const Extent part = it.part_of(entry.disk, 0);
            const std::uint64_t from = std::max(entry.offset, part.offset);
            for (const auto& [begin, end] :
                 superseded.missing(from, std::min(entry.end(), part.end())))
                it.result.undigested_bytes += end - begin;
            superseded.add(entry.offset, entry.end());
        }
        auto fits = check_places(it.superseded);
        if (!fits) co_return fits;
    }
    co_return Status{};
}

Task<Status> Target::Impl::certify_extents(Certifying& it,
                                           const std::vector<ManifestEntry>& extents) {
    for (const ManifestEntry& extent : extents) {
        if (upkeep_stop_) co_return fail(ErrorCode::cancelled, "certifying was given up");
        const std::uint64_t end = extent.offset + extent.length;
        if (extent.disk >= disks_.size() || end > config_.disks[extent.disk].size)
            co_return fail(ErrorCode::corrupt, "a manifest has an extent beyond its disk");
        if (!it.reaches(extent.disk, extent.offset, end)) continue;
        Ranges& superseded = it.superseded[extent.disk];
        const bool again = superseded.any_in(extent.offset, end);
        superseded.add(extent.offset, end);
        if (!it.is_of_chapter(extent)) continue;
        ++it.result.extents;
        it.result.bytes += extent.length;
        if (again) {
            it.result.superseded_bytes += extent.length;
        } else if (extent.kind == ExtentKind::discard) {
            it.result.discarded_bytes += extent.length;
        } else if (extent.kind == ExtentKind::unreadable) {
            it.result.unreadable_bytes += extent.length;
        } else {
            it.wanted.push_back(extent);
            if (it.wanted.size() < sorted_extents) continue;
            auto status = co_await begin_reads(it);
            if (!status) co_return status;
        }
    }
    co_return check_places(it.superseded);
}

// In the order of the disks. What comes of them is sums, so it does not matter which ends first.
Task<Status> Target::Impl::begin_reads(Certifying& it) {
    const auto reader = certifying_;
    auto sorted = std::exchange(it.wanted, {});
    std::ranges::sort(sorted, {}, [](const ManifestEntry& extent) {
        return std::pair(extent.disk, extent.offset);
    });
    auto rest = std::span<const ManifestEntry>(sorted);
    while (!rest.empty()) {
        const auto run = rest.first(run_length(rest));
        rest = rest.subspan(run.size());
        const std::uint64_t bytes = run.back().end() - run.front().offset;
        auto status = co_await room_for_read(it, bytes);
        if (!status) co_return status;
        if (upkeep_stop_) co_return fail(ErrorCode::cancelled, "certifying was given up");
        it.under_way_bytes += bytes;
        it.under_way.push_back({bytes, read_back(it, reader, {run.begin(), run.end()})});
        it.under_way.back().task.start();
    }
    co_return Status{};
}

Task<Status> Target::Impl::room_for_read(Certifying& it, std::uint64_t bytes) {
    while (!it.under_way.empty() && (it.under_way.size() >= config_.certify_reads ||
                                     it.under_way_bytes + bytes > config_.certify_bytes)) {
        auto status = co_await end_read(it);
        if (!status) co_return status;
    }
    co_return Status{};
}

Task<Status> Target::Impl::end_read(Certifying& it) {
    auto status = co_await it.under_way.front().task.join();
    it.under_way_bytes -= it.under_way.front().bytes;
    it.under_way.pop_front();
    co_return status;
}

Task<Status> Target::Impl::end_reads(Certifying& it) {
    Status first;
    while (!it.under_way.empty()) {
        auto status = co_await end_read(it);
        if (first) first = status;
    }
    co_return first;
}

// `it` is there until none is under way. `run`: neighbours.
Task<Status> Target::Impl::read_back(Certifying& it, std::shared_ptr<PointReader> reader,
                                     std::vector<ManifestEntry> run) {
    const std::uint64_t from = run.front().offset;
    auto content = std::make_shared<Buffer>(run.back().end() - from);
    auto reading = reader->read(run.front().disk, from, content);
    auto undone = co_await reading;
    if (!undone) co_return std::unexpected(undone.error());
    for (const ManifestEntry& extent : run) {
        const auto bytes = content->span().subspan(extent.offset - from, extent.length);
        const bool equal = extent.kind == ExtentKind::zero
                               ? format::all_zero(bytes)
                               : format::xxh3_128(bytes) == extent.digest;
        (equal ? it.result.equal_bytes : it.result.different_bytes) += extent.length;
        if (!equal) continue;
        for (const auto& [begin, end] : undone->common(extent.offset, extent.end()))
            it.result.journal_bytes += end - begin;
    }
    co_return Status{};
}

}  // namespace ebb::core
