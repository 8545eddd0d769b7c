// SPDX-License-Identifier: Apache-2.0
// Reads back what a point was made of, beside replication: docs/decisions/0404.
#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

// What has been overwritten since the point is known from the undo of later epochs, which is noted
// before a block is written to: what is read and is not in it afterwards was as it is at the point.
struct Target::Impl::Certifying {
    CertifiedPoint result;
    std::vector<Ranges> later;       // by disk: has undo in epochs after the point
    std::uint64_t learned = 0;       // up to this epoch
    std::vector<Ranges> superseded;  // by disk: of extents that were looked at; newest come first
};

Task<void> Target::Impl::certify(std::uint64_t epoch,
                                 std::shared_ptr<env::Callback<CertifiedPoint>> done) {
    Error error = error_;
    if (ready_ && !broken_) {
        if (upkeep_ == Upkeep::merge) co_await stop_upkeep();
        const bool newest = epoch == 0 && !journal_.closed().empty();
        if (journal_.session().failed_over) {
            error = {ErrorCode::refused,
                     "the machine is failed over: its disks are its own",
                     "Commit it, or go back to replication",
                     {}};
        } else if (!newest && !journal_.has_point(epoch)) {
            error = {ErrorCode::not_found, "there is no such recovery point", {}, {}};
        } else if (upkeep_ != Upkeep::none) {
            error = {ErrorCode::busy, "the journal is being read already", {}, {}};
        } else {
            if (newest) epoch = journal_.closed().back().epoch;
            start_upkeep(Upkeep::verify,
                         [this, epoch, done] { return certify_beside(epoch, done); });
            co_return;
        }
    }
    post([done, error]() mutable { (*done)(std::unexpected(std::move(error))); });
}

Task<void> Target::Impl::certify_beside(std::uint64_t epoch,
                                        std::shared_ptr<env::Callback<CertifiedPoint>> done) {
    auto it = std::make_shared<Certifying>();
    it->result.point = point_of(epoch);
    it->later.resize(disks_.size());
    it->superseded.resize(disks_.size());
    it->learned = epoch;
    auto status = co_await certify_point(*it);
    // What the disks have is not this point's any more.
    if (status && journal_.session().failed_over)
        status = fail(ErrorCode::cancelled, "the machine was failed over meanwhile");
    Result<CertifiedPoint> result = it->result;
    if (!status) result = std::unexpected(status.error());
    post([done, result]() mutable { (*done)(std::move(result)); });
    upkeep_done();
}

Task<Status> Target::Impl::certify_point(Certifying& it) {
    auto journal = co_await journal_.verify(&upkeep_stop_);
    if (!journal) co_return std::unexpected(journal.error());
    it.result.journal = *journal;
    const std::uint64_t wanted = it.result.point.epoch;
    std::vector<UndoRecord> manifests;
    EpochSpan span;
    for (const ClosedEpoch& closed : journal_.closed()) {
        if (closed.epoch != wanted) continue;
        it.result.chain = closed.after;
        it.result.merged = closed.span.first != closed.span.last;
        manifests = closed.manifests;
        span = closed.span;
    }
    // The last word on a block first.
    for (auto at = manifests.rbegin(); at != manifests.rend(); ++at) {
        auto record = co_await journal_.read_manifest(span, *at);
        if (!record) co_return std::unexpected(record.error());
        std::ranges::reverse(record->extents);
        auto status = co_await certify_extents(it, record->extents);
        if (!status) co_return status;
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
    auto content = std::make_shared<Buffer>(extent.length);
    Op<void> read;
    disks_[extent.disk]->read(extent.offset, content->span(), read.callback(content));
    auto status = co_await read;
    if (!status) co_return status;
    const std::uint64_t end = extent.offset + extent.length;
    bool overwritten = false;
    if (const auto& open = journal_.open_epoch())
        overwritten = !open->undone[extent.disk].common(extent.offset, end).empty();
    auto learned = co_await learn_later(it);
    if (!learned) co_return learned;
    overwritten = overwritten || !it.later[extent.disk].common(extent.offset, end).empty();
    if (overwritten) {
        it.result.overwritten_bytes += extent.length;
        co_return Status{};
    }
    const bool zero = extent.kind == format::ExtentKind::zero;
    const bool equal = zero ? format::all_zero(content->span())
                            : format::xxh3_128(content->span()) == extent.digest;
    (equal ? it.result.equal_bytes : it.result.different_bytes) += extent.length;
    co_return Status{};
}

// Of epochs that are closed by now: nothing is given up while this goes on.
Task<Status> Target::Impl::learn_later(Certifying& it) {
    while (!journal_.closed().empty() && journal_.closed().back().epoch > it.learned) {
        const auto next = std::ranges::find_if(journal_.closed(), [&](const ClosedEpoch& closed) {
            return closed.epoch > it.learned;
        });
        const ClosedEpoch& epoch = *next;
        for (const UndoRecord& record : epoch.undo) {
            UndoReader reader = journal_.reader(epoch, record);
            auto table = co_await reader.table();
            if (!table) co_return std::unexpected(table.error());
            for (const format::UndoEntry& entry : *table) {
                if (entry.disk >= it.later.size())
                    co_return fail(ErrorCode::corrupt, "undo of an unknown disk");
                it.later[entry.disk].add(entry.offset, entry.end());
            }
        }
        it.learned = epoch.epoch;
    }
    co_return Status{};
}

}  // namespace ebb::core
