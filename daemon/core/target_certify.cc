// SPDX-License-Identifier: Apache-2.0
// Reads back what a point was made of, beside replication: docs/decisions/0404.
#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

struct Target::Impl::Certifying {
    CertifiedPoint result;
    std::vector<Ranges> superseded;  // by disk: of extents that were looked at; newest come first
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
    it->superseded.resize(disks_.size());
    for (const TargetDisk& disk : config_.disks) it->result.disk_bytes += disk.size;
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
    // The last word on a block first.
    std::vector<std::uint64_t> epochs;
    for (const ClosedEpoch& closed : journal_.closed()) {
        const bool before = it.result.whole && closed.epoch < wanted->epoch;
        if (before || closed.epoch == wanted->epoch) epochs.push_back(closed.epoch);
    }
    auto status = co_await index_certified(it);
    for (auto at = epochs.rbegin(); at != epochs.rend() && status; ++at) {
        status = co_await certify_epoch(it, *at);
        if (status && (it.result.whole || it.result.merged)) status = co_await add_undo(it, *at);
    }
    co_return status;
}

// From here on the point can be read, whatever is overwritten.
Task<Status> Target::Impl::index_certified(Certifying& it) {
    const std::uint64_t epoch = it.result.point.epoch;
    auto closed = closed_epoch(epoch);
    if (!closed) co_return std::unexpected(closed.error());
    std::vector<Ranges> only;
    if (!it.result.whole) only.resize(disks_.size());
    for (const UndoRecord& at : closed->manifests) {
        if (it.result.whole) break;
        auto record = co_await journal_.read_manifest(closed->span, at);
        if (!record) co_return std::unexpected(record.error());
        for (const format::ManifestEntry& extent : record->extents) {
            if (extent.disk < only.size())
                only[extent.disk].add(extent.offset, extent.offset + extent.length);
        }
    }
    // Failed over in between: the disks may be anywhere.
    if (journal_.session().failed_over)
        co_return fail(ErrorCode::cancelled, "the machine was failed over meanwhile");
    certifying_ = std::make_shared<PointReader>(
        epoch, disks_, journal_.volume(), journal_,
        PointReader::Limits{config_.serve_index_bytes, config_.io_depth}, config_.reader_rules,
        std::move(only));
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
            Ranges& superseded = it.superseded[entry.disk];
            for (const auto& [from, to] : superseded.missing(entry.offset, entry.end()))
                it.result.undigested_bytes += to - from;
            superseded.add(entry.offset, entry.end());
        }
    }
    co_return Status{};
}

Task<Status> Target::Impl::certify_extents(Certifying& it,
                                           const std::vector<format::ManifestEntry>& extents) {
    using format::ExtentKind;
    for (const format::ManifestEntry& extent : extents) {
        if (upkeep_stop_) co_return fail(ErrorCode::cancelled, "certifying was given up");
        const std::uint64_t end = extent.offset + extent.length;
        if (extent.disk >= disks_.size() || end > config_.disks[extent.disk].size)
            co_return fail(ErrorCode::corrupt, "a manifest has an extent beyond its disk");
        ++it.result.extents;
        it.result.bytes += extent.length;
        Ranges& superseded = it.superseded[extent.disk];
        const bool again = !superseded.common(extent.offset, end).empty();
        superseded.add(extent.offset, end);
        if (again) {
            it.result.superseded_bytes += extent.length;
        } else if (extent.kind == ExtentKind::discard) {
            it.result.discarded_bytes += extent.length;
        } else if (extent.kind == ExtentKind::unreadable) {
            it.result.unreadable_bytes += extent.length;
        } else {
            auto status = co_await certify_extent(it, extent);
            if (!status) co_return status;
        }
    }
    co_return Status{};
}

Task<Status> Target::Impl::certify_extent(Certifying& it, const format::ManifestEntry& extent) {
    const auto reader = certifying_;
    auto content = std::make_shared<Buffer>(extent.length);
    const std::uint64_t before = reader->status().undo_bytes;
    auto reading = reader->read(extent.disk, extent.offset, content);
    auto status = co_await reading;
    if (!status) co_return status;
    const bool zero = extent.kind == format::ExtentKind::zero;
    const bool equal = zero ? format::all_zero(content->span())
                            : format::xxh3_128(content->span()) == extent.digest;
    (equal ? it.result.equal_bytes : it.result.different_bytes) += extent.length;
    if (equal) it.result.journal_bytes += reader->status().undo_bytes - before;
    co_return Status{};
}

}  // namespace ebb::core
