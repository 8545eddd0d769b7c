// SPDX-License-Identifier: Apache-2.0
// What the target does with its points: gives them up, goes from one to another, proves them.
#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

std::optional<RetentionStep> Target::Impl::next_step() const {
    const auto served = pinned_by_readers();
    const auto common = [this](std::uint64_t epoch) { return journal_.common_of(epoch); };
    if (auto step = next_by_age(journal_.closed(), config_.retention, served, common)) return step;
    const std::uint64_t limit = config_.retention.bytes;
    if (limit != 0 && journal_.bytes() > limit) return next_for_space(journal_.closed(), served);
    return std::nullopt;
}

Task<Status> Target::Impl::trim() {
    while (upkeep_ == Upkeep::none && !journal_.session().failed_over) {
        const auto step = next_step();
        if (!step) break;
        if (step->kind == RetentionStep::Kind::merge) {
            if (!may_merge()) break;
            giving_up_ = {journal_.closed()[step->begin].epoch,
                          journal_.closed()[step->end - 1].epoch};
            start_upkeep(Upkeep::merge, [this, step = *step] { return merge_beside(step); });
            break;
        }
        auto status = co_await journal_.remove_oldest();
        if (!status) co_return status;
    }
    co_return Status{};
}

bool Target::Impl::may_remove_oldest() const {
    const auto step = next_for_space(journal_.closed(), pinned_by_readers());
    return step && step->kind == RetentionStep::Kind::remove_oldest &&
           journal_.closed().front().epoch < read_from_;
}

bool Target::Impl::end_reading() {
    if (upkeep_ != Upkeep::verify || may_remove_oldest()) return false;
    const auto step = next_for_space(journal_.closed());
    // Nothing is won where all points have names, or what is to be merged cannot be read.
    if (!step || (step->kind == RetentionStep::Kind::merge && !may_merge())) return false;
    upkeep_stop_ = upkeep_full_ = true;
    return true;
}

Task<Result<bool>> Target::Impl::give_up_oldest() {
    // A merged file that is being made takes room itself.
    if (upkeep_ == Upkeep::merge) {
        co_await stop_upkeep();
        co_return true;
    }
    if (end_reading()) {
        co_await stop_upkeep();
        co_return true;
    }
    if (upkeep_ != Upkeep::none && !may_remove_oldest()) co_return false;
    // Replication goes before whoever looks at an old point.
    const Error full{ErrorCode::no_space,
                     "the point was given up: the retention volume is full, and replication needs "
                     "the room",
                     "Enlarge the volume, or serve a later point", "E_POINT_GIVEN_UP"};
    const auto step = next_for_space(journal_.closed(), pinned_by_readers());
    if (!step) co_return give_up_served(full, false);
    Status status;
    if (step->kind == RetentionStep::Kind::remove_oldest) {
        status = co_await journal_.remove_oldest();
        if (!status) co_return std::unexpected(status.error());
        co_return true;
    }
    if (!may_merge()) co_return give_up_served(full, false);
    const bool never = false;
    status = co_await journal_.merge(step->begin, step->end, merge_limits(), &never);
    if (status) {
        merge_error_.reset();
        co_return true;
    }
    status = after_merge(status.error());
    if (!status) co_return std::unexpected(status.error());
    co_return give_up_served(full, false);
}

Task<Status> Target::Impl::write_session(format::SessionFile session) {
    while (true) {
        auto status = co_await journal_.write_session(session);
        if (status || status.error().code != ErrorCode::no_space) co_return status;
        // What was rewound may need all of them.
        if (rewind_.begun()) co_return status;
        auto given = co_await give_up_oldest();
        if (!given) co_return std::unexpected(given.error());
        if (!*given) co_return status;
    }
}

Task<void> Target::Impl::trim_now(std::shared_ptr<env::StatusCallback> done) {
    Status status;
    if (broken_) {
        status = std::unexpected(error_);
    } else {
        status = co_await trim();
        if (!status) fail_with(status.error());
    }
    post([done, status]() mutable { (*done)(std::move(status)); });
}

namespace {

std::unexpected<Error> no_point() {
    return fail("E_NO_POINT", ErrorCode::not_found, "there is no such recovery point",
                "See which there are: ebbctl point list");
}

}  // namespace

Task<void> Target::Impl::mark_common(std::uint64_t epoch, format::CommonCut common,
                                     std::shared_ptr<env::Callback<Point>> done) {
    Status status;
    if (!ready_ || broken_) status = std::unexpected(error_);
    // Other merges go on: they may take longer than it is from one common cut to the next.
    const bool in_the_way = upkeep_ == Upkeep::merge && giving_up_.contains({epoch, epoch});
    if (status && in_the_way) co_await stop_upkeep();
    if (status && !journal_.has_point(epoch)) status = no_point();
    if (status) {
        status = co_await journal_.mark_common(epoch, common);
        if (!status && status.error().code != ErrorCode::no_space) fail_with(status.error());
    }
    Result<Point> result;
    if (status)
        result = point_of(epoch);
    else
        result = std::unexpected(status.error());
    post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
    if (in_the_way && !broken_) {
        status = co_await trim();
        if (!status) fail_with(status.error());
    }
}

Task<void> Target::Impl::name_point(std::uint64_t epoch, std::string name,
                                    std::shared_ptr<env::Callback<Point>> done) {
    Status status;
    if (!ready_ || broken_) status = std::unexpected(error_);
    // It may be about to give up the very point, and writes the names of those that stay.
    if (status && upkeep_ == Upkeep::merge) co_await stop_upkeep();
    if (status && !journal_.has_point(epoch)) status = no_point();
    if (status) {
        status = co_await journal_.rename_point(epoch, name);
        if (!status && status.error().code != ErrorCode::no_space) fail_with(status.error());
    }
    Result<Point> result;
    if (status)
        result = point_of(epoch);
    else
        result = std::unexpected(status.error());
    post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
    // It may be old enough to go; and a merge that stood in the way goes on.
    if (!status) co_return;
    status = co_await trim();
    if (!status) fail_with(status.error());
}

void Target::Impl::start_upkeep(Upkeep what, std::function<Task<void>()> work) {
    upkeep_ = what;
    upkeep_stop_ = upkeep_full_ = false;
    upkeep_task_ = work();
    upkeep_task_.start();
}

// Not from inside the task itself, whose frame goes with the next one.
void Target::Impl::upkeep_done() {
    post([weak = weak_from_this()] {
        auto self = weak.lock();
        if (!self) return;
        self->upkeep_ = Upkeep::none;
        self->upkeep_end_.notify();
        if (self->upkeep_full_) self->wake_.notify();
    });
}

Task<void> Target::Impl::stop_upkeep() {
    upkeep_stop_ = true;
    while (upkeep_ != Upkeep::none) co_await upkeep_end_.wait();
}

Task<void> Target::Impl::merge_beside(RetentionStep step) {
    auto status = co_await journal_.merge(step.begin, step.end, merge_limits(), &upkeep_stop_);
    if (status) {
        merge_error_.reset();
        enqueue([](Impl& impl) -> Task<void> {
            if (impl.broken_) co_return;
            auto trimmed = co_await impl.trim();
            if (!trimmed) impl.fail_with(trimmed.error());
        });
    } else if (auto bad = after_merge(status.error()); !bad) {
        enqueue([error = bad.error()](Impl& impl) -> Task<void> {
            impl.fail_with(error);
            co_return;
        });
    }
    upkeep_done();
}

// Old undo that cannot be read, or a volume that is full, is no reason to end replication.
Status Target::Impl::after_merge(const Error& error) {
    if (journal_.half_merged()) return std::unexpected(error);
    if (error.code == ErrorCode::no_space || error.code == ErrorCode::cancelled) return {};
    merge_failed(error);
    return {};
}

void Target::Impl::merge_failed(const Error& error) {
    merge_pause_ =
        merge_error_ ? std::min(merge_pause_ * 2, config_.merge_retry_max) : config_.merge_retry;
    merge_again_ = clock_.now() + merge_pause_;
    merge_error_ = error;
    merge_error_->message = "older points cannot be merged: " + error.message;
    merge_error_->remedy =
        "It is tried again later. ebbctl retention verify says what is damaged. Newer points are "
        "made all the same";
}

Task<void> Target::Impl::verify(std::shared_ptr<env::Callback<VerifiedJournal>> done) {
    Error error = error_;
    if (ready_ && !broken_) {
        if (upkeep_ == Upkeep::merge) co_await stop_upkeep();
        if (upkeep_ == Upkeep::none) {
            read_from_ = UINT64_MAX;
            start_upkeep(Upkeep::verify, [this, done] { return verify_beside(done); });
            co_return;
        }
        error = {ErrorCode::busy, "the journal is being verified already", {}, {}};
    }
    post([done, error]() mutable { (*done)(std::unexpected(std::move(error))); });
}

Task<void> Target::Impl::verify_beside(std::shared_ptr<env::Callback<VerifiedJournal>> done) {
    auto result = co_await journal_.verify(&upkeep_stop_);
    if (!result && result.error().code == ErrorCode::cancelled && upkeep_full_)
        result = reading_given_up();
    post([done, result]() mutable { (*done)(std::move(result)); });
    upkeep_done();
}

std::unexpected<Error> Target::Impl::reading_given_up() {
    return fail(ErrorCode::no_space,
                "the retention volume is full: the journal was not read to its end, since old "
                "points had to make room for replication",
                "Make room on the volume, and try again");
}

Point Target::Impl::point_of(std::uint64_t epoch) const {
    for (const Point& point : points()) {
        if (point.epoch == epoch) return point;
    }
    return {};
}

Status Target::Impl::may_move() const {
    if (!ready_ || broken_) return std::unexpected(error_);
    if (journal_.session().failed_over && !journal_.open_epoch()) return {};
    return fail(ErrorCode::refused, "the machine is not failed over",
                "Fail over first: ebbctl failover");
}

Task<void> Target::Impl::change_point(std::uint64_t epoch,
                                      std::shared_ptr<env::Callback<FailoverResult>> done) {
    Result<FailoverResult> result;
    if (auto status = may_move(); !status) result = std::unexpected(status.error());
    if (result) {
        auto bytes = co_await rewind_.move(epoch);
        if (bytes) {
            result->rewound_bytes = *bytes;
            result->point = point_of(epoch);
        } else {
            result = std::unexpected(bytes.error());
            const ErrorCode code = bytes.error().code;
            if (code != ErrorCode::not_found && code != ErrorCode::no_space)
                fail_with(bytes.error());
        }
    }
    post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
}

Task<void> Target::Impl::point_cost(std::uint64_t epoch,
                                    std::shared_ptr<env::Callback<std::uint64_t>> done) {
    Result<std::uint64_t> result;
    if (auto status = may_move(); !status) result = std::unexpected(status.error());
    if (result) result = co_await rewind_.cost(epoch);
    post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
}

// To the newest point, which must be there. May be repeated.
Task<Result<std::uint64_t>> Target::Impl::take_back() {
    auto bytes = co_await applier_.roll_back();
    if (!bytes) co_return bytes;
    if (journal_.open_epoch()) {
        auto status = co_await journal_.drop_open();
        if (!status) co_return std::unexpected(status.error());
    }
    restore_pass();
    co_return bytes;
}

Task<Status> Target::Impl::return_to_newest() {
    if (!rewind_.begun()) co_return Status{};
    auto bytes = co_await rewind_.move(journal_.closed().back().epoch);
    if (!bytes) co_return std::unexpected(bytes.error());
    auto status = co_await rewind_.end();
    co_return status;
}

Task<void> Target::Impl::resume(std::shared_ptr<env::StatusCallback> done) {
    Status status;
    if (broken_) {
        status = std::unexpected(error_);
    } else if (journal_.session().failed_over) {
        // A failover that did not come to its end may have taken back a part of the open epoch.
        auto bytes = co_await take_back();
        if (!bytes) status = std::unexpected(bytes.error());
        if (status) status = co_await return_to_newest();
        if (status) {
            status = co_await write_session({journal_.session().session, false});
        }
        if (!status) fail_with(status.error());
    }
    post([done, status]() mutable { (*done)(std::move(status)); });
}

}  // namespace ebb::core
