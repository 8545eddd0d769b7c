// SPDX-License-Identifier: Apache-2.0
// Points that are read while replication goes on. Beside the loop: whoever looks at an old point
// does not wait for what is applied, and what is applied does not wait for him.
#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

void Target::Impl::follow_journal() {
    journal_.set_readers({[this](const EpochSpan& span, const UndoRecord& record,
                                 const std::vector<format::UndoEntry>& entries) {
                              for (const auto& reader : readers())
                                  reader->note_undo(span, record, entries);
                          },
                          [this](ClosedEpoch merged) -> Task<void> {
                              // They may be unserved meanwhile.
                              const auto all = readers();
                              for (const auto& reader : all) {
                                  auto followed = reader->follow(merged);
                                  co_await followed;
                              }
                          }});
}

std::vector<std::shared_ptr<PointReader>> Target::Impl::readers() const {
    std::vector<std::shared_ptr<PointReader>> all;
    for (const auto& [epoch, served] : served_) all.push_back(served.reader);
    if (certifying_) all.push_back(certifying_);
    return all;
}

std::set<std::uint64_t> Target::Impl::pinned_by_readers() const {
    std::set<std::uint64_t> epochs;
    if (!config_.reader_rules.pin) return epochs;
    for (const auto& [epoch, served] : served_) {
        if (!served.reader->given_up()) epochs.insert(epoch);
    }
    return epochs;
}

bool Target::Impl::give_up_served(const Error& why, bool all) {
    bool any = false;
    for (auto& [epoch, served] : served_) {
        if (served.reader->given_up() || (any && !all)) continue;
        served.reader->give_up(why);
        any = true;
    }
    if (all && certifying_) certifying_->give_up(why);
    return any;
}

Status Target::Impl::may_serve(std::uint64_t epoch) const {
    if (!ready_ || broken_) return std::unexpected(error_);
    if (journal_.session().failed_over) {
        return fail(ErrorCode::refused, "the machine is failed over: its points are not served",
                    "Go to another point: ebbctl change-point");
    }
    if (!journal_.has_point(epoch)) {
        return fail(ErrorCode::not_found, "there is no such recovery point",
                    "See which there are: ebbctl point list");
    }
    const auto open = std::ranges::count_if(
        served_, [&](const auto& one) { return !one.second.reader->given_up(); });
    if (static_cast<std::size_t>(open) >= config_.served_points && !served_.contains(epoch)) {
        return fail("E_POINTS_SERVED", ErrorCode::busy,
                    std::to_string(open) + " points of this machine are served already",
                    "End one: ebbctl point unserve");
    }
    return {};
}

Task<void> Target::Impl::serve(std::uint64_t epoch, std::shared_ptr<env::StatusCallback> ready) {
    // It may be about to give up the very point.
    if (upkeep_ == Upkeep::merge) co_await stop_upkeep();
    if (auto status = may_serve(epoch); !status) {
        post([ready, status]() mutable { (*ready)(std::move(status)); });
        co_return;
    }
    const auto found = served_.find(epoch);
    if (found != served_.end() && found->second.reader->given_up()) served_.erase(found);
    Served& served = served_[epoch];
    if (served.reader && served.reader->status().ready) {
        post([ready]() { (*ready)(Status{}); });
        co_return;
    }
    served.waiting.push_back(ready);
    if (served.reader) co_return;
    served.reader = std::make_shared<PointReader>(
        epoch, disks_, journal_.volume(), journal_,
        PointReader::Limits{config_.serve_index_bytes, config_.io_depth}, config_.reader_rules);
    served.number = ++servings_;
    begin_task(served, build_served(epoch, served.reader));
}

Task<void> Target::Impl::build_served(std::uint64_t epoch, std::shared_ptr<PointReader> reader) {
    auto building = reader->build();
    co_await building;
    const auto found = served_.find(epoch);
    if (found == served_.end() || found->second.reader != reader) co_return;
    Status status;
    if (reader->given_up()) status = std::unexpected(*reader->status().error);
    for (const auto& ready : std::exchange(found->second.waiting, {}))
        post([ready, status]() mutable { (*ready)(std::move(status)); });
}

// Those that have ended go now: none of them is who calls.
void Target::Impl::begin_task(Served& served, Task<void> task) {
    std::erase_if(served.tasks, [](const Task<void>& one) { return one.done(); });
    served.tasks.push_back(std::move(task));
    served.tasks.back().start();
}

void Target::Impl::read_served(std::uint64_t epoch, DiskIndex disk, std::uint64_t offset,
                               std::shared_ptr<Buffer> into,
                               std::shared_ptr<env::StatusCallback> done) {
    const auto found = served_.find(epoch);
    Status status;
    if (found == served_.end()) {
        status = fail("E_POINT_NOT_SERVED", ErrorCode::not_found,
                      "the point of epoch " + std::to_string(epoch) + " is not served");
    } else if (disk >= config_.disks.size() || offset % sector_bytes != 0 ||
               into->size() % sector_bytes != 0 || offset > config_.disks[disk].size ||
               into->size() > config_.disks[disk].size - offset) {
        status = fail(ErrorCode::invalid, "no whole sectors of a disk");
    }
    if (!status) {
        post([done, status]() mutable { (*done)(std::move(status)); });
        return;
    }
    begin_task(found->second,
               read_one(found->second.reader, disk, offset, std::move(into), std::move(done)));
}

Task<void> Target::Impl::read_one(std::shared_ptr<PointReader> reader, DiskIndex disk,
                                  std::uint64_t offset, std::shared_ptr<Buffer> into,
                                  std::shared_ptr<env::StatusCallback> done) {
    auto reading = reader->read(disk, offset, std::move(into));
    auto read = co_await reading;
    Status status;
    if (!read) status = std::unexpected(read.error());
    post([done, status]() mutable { (*done)(std::move(status)); });
}

Task<void> Target::Impl::unserve(std::uint64_t epoch, std::shared_ptr<env::StatusCallback> done) {
    const auto found = served_.find(epoch);
    if (found != served_.end()) {
        for (const auto& ready : found->second.waiting) {
            post([ready]() {
                (*ready)(fail(ErrorCode::cancelled, "the point is not to be served any more"));
            });
        }
        served_.erase(found);
    }
    post([done]() { (*done)(Status{}); });
    co_return;
}

}  // namespace ebb::core
