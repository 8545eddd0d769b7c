// SPDX-License-Identifier: Apache-2.0
#include "core/target.h"

#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

namespace {

Point to_point(const Journal& journal, const ClosedEpoch& closed) {
    const format::ClosedRecord& record = closed.record;
    Point point{closed.epoch, record.name,       record.cut_time,         record.closed_time,
                record.bytes, record.undo_bytes, record.unreadable_bytes, record.point};
    if (const auto* common = journal.common_of(closed.epoch)) point.common = *common;
    return point;
}

Task<Result<Ownership>> read_ownership_task(env::Volume& volume) {
    Op<std::vector<env::VolumeFile>> listed;
    volume.list(listed.callback());
    auto files = co_await listed;
    if (!files) co_return std::unexpected(files.error());
    for (const env::VolumeFile& file : *files) {
        if (file.name != Journal::meta_name) continue;
        auto content = std::make_shared<std::vector<std::byte>>(file.size);
        Op<void> read;
        volume.read(file.name, 0, *content, read.callback(content));
        auto status = co_await read;
        if (!status) co_return std::unexpected(status.error());
        auto meta = format::decode_meta_file(*content);
        if (!meta) co_return std::unexpected(meta.error());
        Ownership owner{meta->protection, {}};
        for (auto& disk : meta->disks) {
            owner.disks.push_back({disk.source_id, disk.target_id, disk.size});
        }
        co_return owner;
    }
    co_return fail(ErrorCode::not_found, "no journal of Ebb is there");
}

Task<Status> sync_names(env::Volume& volume) {
    Op<void> named;
    volume.sync_directory("erase", named.callback());
    auto status = co_await named;
    co_return status;
}

// Points go before the mark that they are ours.
Task<Status> erase_task(env::Volume& volume) {
    Op<std::vector<env::VolumeFile>> listed;
    volume.list(listed.callback());
    auto files = co_await listed;
    if (!files) co_return std::unexpected(files.error());
    std::sort(files->begin(), files->end(), [](const auto& a, const auto& b) {
        return std::pair(a.name == Journal::meta_name, a.name) <
               std::pair(b.name == Journal::meta_name, b.name);
    });
    for (const env::VolumeFile& file : *files) {
        const bool ours = Journal::span_of(file.name) || file.name.ends_with(".new") ||
                          file.name == Rewind::file_name || file.name.starts_with("meta") ||
                          file.name.starts_with("session") || file.name == Journal::names_name ||
                          file.name == Journal::common_name;
        if (!ours) continue;
        Op<void> removed;
        volume.remove(file.name, removed.callback());
        auto status = co_await removed;
        if (!status) co_return status;
        status = co_await sync_names(volume);
        if (!status) co_return status;
    }
    // Where all was removed before, the daemon may have died before that was durable.
    auto status = co_await sync_names(volume);
    co_return status;
}

// A coroutine that nobody waits for: its frame goes when it is done.
struct Forgotten {
    struct promise_type {
        Forgotten get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

template <class T>
Forgotten detach(Task<Result<T>> inner, env::Callback<T> done) {
    auto result = co_await inner;
    done(std::move(result));
}

}  // namespace

Target::Target(TargetConfig config, std::vector<env::Disk*> disks, env::Volume& volume,
               env::Clock& clock, env::Cpus& cpus)
    : impl_(std::make_shared<Impl>(std::move(config), std::move(disks), volume, clock, cpus)) {}
Target::~Target() = default;

void Target::open(env::StatusCallback done) {
    impl_->open(std::move(done));
}

void Target::accept(std::shared_ptr<env::Connection> connection, env::Frame first) {
    impl_->accept(std::move(connection), std::move(first));
}

void Target::failover(std::uint64_t session, env::Callback<FailoverResult> done) {
    auto shared = std::make_shared<env::Callback<FailoverResult>>(std::move(done));
    impl_->enqueue([session, shared](Impl& impl) { return impl.failover(session, shared); });
}

void Target::change_point(std::uint64_t epoch, env::Callback<FailoverResult> done) {
    auto shared = std::make_shared<env::Callback<FailoverResult>>(std::move(done));
    impl_->enqueue([epoch, shared](Impl& impl) { return impl.change_point(epoch, shared); });
}

void Target::point_cost(std::uint64_t epoch, env::Callback<std::uint64_t> done) {
    auto shared = std::make_shared<env::Callback<std::uint64_t>>(std::move(done));
    impl_->enqueue([epoch, shared](Impl& impl) { return impl.point_cost(epoch, shared); });
}

void Target::verify(env::Callback<VerifiedJournal> done) {
    auto shared = std::make_shared<env::Callback<VerifiedJournal>>(std::move(done));
    impl_->enqueue([shared](Impl& impl) { return impl.verify(shared); });
}

void Target::certify(std::uint64_t epoch, bool whole, env::Callback<CertifiedPoint> done) {
    auto shared = std::make_shared<env::Callback<CertifiedPoint>>(std::move(done));
    impl_->enqueue(
        [epoch, whole, shared](Impl& impl) { return impl.certify(epoch, whole, shared); });
}

void Target::resume(env::StatusCallback done) {
    auto shared = std::make_shared<env::StatusCallback>(std::move(done));
    impl_->enqueue([shared](Impl& impl) { return impl.resume(shared); });
}

void Target::trim(env::StatusCallback done) {
    auto shared = std::make_shared<env::StatusCallback>(std::move(done));
    impl_->enqueue([shared](Impl& impl) { return impl.trim_now(shared); });
}

void Target::serve(std::uint64_t epoch, env::StatusCallback ready) {
    auto shared = std::make_shared<env::StatusCallback>(std::move(ready));
    impl_->enqueue([epoch, shared](Impl& impl) { return impl.serve(epoch, shared); });
}

void Target::unserve(std::uint64_t epoch, env::StatusCallback done) {
    auto shared = std::make_shared<env::StatusCallback>(std::move(done));
    impl_->enqueue([epoch, shared](Impl& impl) { return impl.unserve(epoch, shared); });
}

void Target::read_served(std::uint64_t epoch, DiskIndex disk, std::uint64_t offset,
                         std::shared_ptr<Buffer> into, env::StatusCallback done) {
    impl_->read_served(epoch, disk, offset, std::move(into),
                       std::make_shared<env::StatusCallback>(std::move(done)));
}

void Target::name_point(std::uint64_t epoch, std::string name, env::Callback<Point> done) {
    auto shared = std::make_shared<env::Callback<Point>>(std::move(done));
    impl_->enqueue([epoch, name = std::move(name), shared](Impl& impl) {
        return impl.name_point(epoch, name, shared);
    });
}

void Target::mark_common(std::uint64_t epoch, format::CommonCut common, env::Callback<Point> done) {
    auto shared = std::make_shared<env::Callback<Point>>(std::move(done));
    impl_->enqueue(
        [epoch, common, shared](Impl& impl) { return impl.mark_common(epoch, common, shared); });
}

void Target::close(env::StatusCallback done) {
    auto shared = std::make_shared<env::StatusCallback>(std::move(done));
    impl_->enqueue([shared](Impl& impl) { return impl.close(shared); });
}

std::vector<Point> Target::points() const {
    return impl_->points();
}
TargetStatus Target::status() const {
    return impl_->status();
}

Target::Impl::Impl(TargetConfig config, std::vector<env::Disk*> disks, env::Volume& volume,
                   env::Clock& clock, env::Cpus& cpus)
    : config_(std::move(config)),
      disks_(std::move(disks)),
      clock_(clock),
      cpus_(cpus),
      journal_(volume),
      applier_(
          disks_, volume, journal_,
          {config_.batch_bytes, config_.io_depth, config_.reserve_bytes, config_.undo_compression}),
      rewind_(disks_, volume, cpus, journal_,
              {config_.rewind_bytes, config_.rewind_save_bytes, config_.rewind_slices,
               config_.rewind_chapter_bytes, config_.io_depth, config_.undo_compression}),
      waiting_ranges_(disks_.size()),
      comparing_(disks_.size()),
      compared_(disks_.size()) {
    follow_journal();
}

Target::Impl::~Impl() {
    give_budget_back();
    if (connection_) connection_->close();
}

void Target::Impl::post(std::move_only_function<void()> action) {
    clock_.schedule(Duration{0}, std::move(action));
}

void Target::Impl::wake_later(Duration delay) {
    clock_.schedule(delay, [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->wake_.notify();
    });
}

void Target::Impl::open(env::StatusCallback done) {
    opened_ = std::move(done);
    post([weak = weak_from_this()] {
        if (auto self = weak.lock()) {
            self->loop_ = self->loop();
            self->loop_.start();
        }
    });
}

void Target::Impl::enqueue(std::function<Task<void>(Impl&)> work) {
    work_.push_back(std::move(work));
    wake_later(Duration{0});
}

std::vector<Point> Target::Impl::points() const {
    std::vector<Point> points;
    for (const ClosedEpoch& closed : journal_.closed())
        points.push_back(to_point(journal_, closed));
    return points;
}

TargetStatus Target::Impl::status() const {
    TargetStatus status;
    status.session = journal_.session().session;
    status.points = journal_.closed().size();
    status.has_point = !journal_.closed().empty();
    if (status.has_point) status.newest = to_point(journal_, journal_.closed().back());
    if (const auto& open = journal_.open_epoch()) {
        status.open_epoch = open->epoch;
        for (const Ranges& disk : open->undone) status.rollback_bytes += disk.bytes();
    }
    if (ready_ && !broken_ && status.has_point && journal_.session().failed_over)
        status.point = rewind_.point();
    for (const auto& [epoch, served] : served_) {
        status.served.push_back(served.reader->status());
        status.served.back().serving = served.number;
    }
    status.merging = upkeep_ == Upkeep::merge;
    status.retention_bytes = journal_.bytes();
    status.bytes_received = received_bytes_;
    status.has_error = has_error_ || merge_error_.has_value();
    status.error = has_error_ ? error_ : merge_error_.value_or(Error{});
    if (!ready_) {
        status.state = has_error_ ? TargetState::error : TargetState::closed;
    } else if (broken_) {
        status.state = TargetState::error;
    } else if (journal_.session().failed_over) {
        status.state = TargetState::failed_over;
    } else if (full_) {
        status.state = TargetState::no_space;
    } else {
        status.state = welcomed_ ? TargetState::receiving : TargetState::waiting;
    }
    return status;
}

Task<Status> Target::Impl::recover() {
    co_await stop_upkeep();
    // What their indexes say may not be in the journal any more.
    (void)give_up_served({ErrorCode::stale,
                          "the point is not served any more: the target's journal had to be read "
                          "again",
                          "Serve it again", "E_POINT_GIVEN_UP"},
                         true);
    merge_error_.reset();
    forget_waiting();
    pass_.reset();
    format::MetaFile meta{config_.protection, {}};
    for (const TargetDisk& disk : config_.disks) {
        meta.disks.push_back({disk.source_id, disk.target_id, disk.size});
    }
    if (meta.disks.size() != disks_.size()) {
        co_return fail(ErrorCode::invalid, "the number of disks is not that of the protection");
    }
    for (std::size_t i = 0; i < disks_.size(); ++i) {
        if (disks_[i]->size() < meta.disks[i].size) {
            co_return fail(ErrorCode::refused, "target disk " + meta.disks[i].target_id +
                                                   " is smaller than its source disk");
        }
    }
    auto status = co_await journal_.open(meta, config_.session, !config_.must_exist && !ready_);
    if (!status) co_return status;
    restore_pass();
    status = co_await rewind_.open();
    if (status) status = co_await rewind_.finish_move();
    co_return status;
}

void Target::Impl::restore_pass() {
    lost_acks_ = false;
    frozen_began_ = false;
    epoch_bytes_ = 0;
    unreadable_.clear();
    unreadable_bytes_ = 0;
    pass_.reset();
    const auto& open = journal_.open_epoch();
    if (!open) return;
    if (!open->position) {
        lost_acks_ = true;
        return;
    }
    const format::PositionRecord& at = *open->position;
    frozen_began_ = at.frozen_began;
    lost_acks_ = at.frozen_began;
    epoch_bytes_ = at.bytes;
    unreadable_ = at.unreadable;
    unreadable_bytes_ = at.unreadable_bytes;
    pass_.emplace();
    pass_->number = at.pass;
    pass_->run = at.run;
    pass_->kind = at.kind;
    pass_->count = pass_->acknowledged = at.count;
    pass_->chain.value = at.chain;
}

Task<void> Target::Impl::loop() {
    auto status = co_await recover();
    ready_ = status.has_value();
    if (!status) {
        has_error_ = broken_ = true;
        error_ = status.error();
    }
    post([done = std::move(opened_), status]() mutable { done(std::move(status)); });
    while (!ready_ && !closing_) {
        // Nothing but an answer to what is asked.
        co_await run_work();
        if (!closing_) co_await wake_.wait();
    }
    while (!closing_) {
        if (!work_.empty()) {
            co_await run_work();
        } else if (broken_) {
            status = co_await recover();
            if (status) {
                broken_ = false;
            } else {
                error_ = status.error();
                wake_later(config_.space_retry);
                co_await wake_.wait();
            }
        } else if (!inbox_.empty()) {
            env::Frame frame = std::move(inbox_.front());
            inbox_.pop_front();
            inbox_bytes_ -= frame.size();
            if (paused_ && connection_ && inbox_bytes_ < config_.window_bytes) {
                paused_ = false;
                connection_->resume();
            }
            co_await handle(std::move(frame));
        } else if (welcomed_ && pass_ && !pass_->in_memory && !waiting_.empty()) {
            status = co_await settle();
            // Given up for a newer connection: that one finds it where it is.
            if (!status && status.error().code != ErrorCode::cancelled) fail_with(status.error());
        } else {
            acknowledge();
            co_await wake_.wait();
        }
    }
}

Task<void> Target::Impl::run_work() {
    while (!work_.empty()) {
        auto work = std::move(work_.front());
        work_.pop_front();
        auto task = work(*this);
        co_await task;
    }
}

Task<Status> Target::Impl::with_space(std::function<Task<Status>()> step) {
    const std::uint64_t link = link_;
    const auto heard = [&] { return link == link_ && connection_ && greeted_; };
    while (true) {
        auto task = step();
        auto status = co_await task;
        if (status || status.error().code != ErrorCode::no_space) {
            if (full_ && heard()) {
                connection_->send(format::encode(format::Notice{}, sent_++));
            }
            full_ = false;
            if (status) has_error_ = false;
            co_return status;
        }
        // Who reads may take a while to end, and a failover does not wait for it.
        if (!end_reading()) {
            auto given = co_await give_up_oldest();
            if (!given) co_return std::unexpected(given.error());
            if (*given) continue;
        }
        if (!full_ && heard()) {
            connection_->send(
                format::encode({false, ErrorCode::no_space, status.error().message}, sent_++));
        }
        full_ = true;
        const MonoTime until = clock_.now() + config_.space_retry;
        wake_later(config_.space_retry);
        while (clock_.now() < until) {
            co_await wake_.wait();
            co_await run_work();
            // A failover, which ends the epoch, has ended the connection before.
            if (closing_ || link != link_ || !connection_) {
                full_ = false;
                co_return fail(ErrorCode::cancelled, "given up while the volume was full");
            }
            if (upkeep_full_ && upkeep_ == Upkeep::none) {
                upkeep_full_ = false;
                break;
            }
        }
    }
}

Task<void> Target::Impl::failover(std::uint64_t session,
                                  std::shared_ptr<env::Callback<FailoverResult>> done) {
    Result<FailoverResult> result;
    if (!ready_) {
        result = std::unexpected(error_);
    } else if (broken_) {
        auto again = co_await recover();
        broken_ = has_error_ = !again.has_value();
        if (!again) result = std::unexpected(error_ = again.error());
    }
    if (result && session < journal_.session().session) {
        result = fail(ErrorCode::fenced, "a later session is in force");
    }
    if (result && journal_.closed().empty()) {
        result = fail(ErrorCode::not_found, "there is no recovery point",
                      "wait until the initial synchronisation has closed its first one");
    }
    if (result) {
        if (upkeep_ == Upkeep::merge) co_await stop_upkeep();
        (void)give_up_served({ErrorCode::stale,
                              "the point is not served any more: the machine is failed over",
                              {},
                              "E_POINT_GIVEN_UP"},
                             true);
        refuse({ErrorCode::fenced, "this machine was failed over", {}, {}});
        forget_waiting();
        pass_.reset();
        // The fence is durable before anything is taken back.
        auto status = co_await write_session({session, true});
        if (status) {
            auto bytes = co_await take_back();
            if (bytes) {
                result->rolled_back_bytes = *bytes;
            } else {
                status = std::unexpected(bytes.error());
            }
        }
        if (status) {
            result->point = point_of(rewind_.point());
        } else {
            result = std::unexpected(status.error());
            fail_with(status.error());
        }
    }
    post([done, result = std::move(result)]() mutable { (*done)(std::move(result)); });
}

Task<void> Target::Impl::close(std::shared_ptr<env::StatusCallback> done) {
    closing_ = true;
    drop_connection();
    post([done]() { (*done)(Status{}); });
    co_return;
}

void Target::read_ownership(env::Volume& volume, env::Callback<Ownership> done) {
    detach(read_ownership_task(volume), std::move(done));
}

void Target::erase(env::Volume& volume, env::StatusCallback done) {
    detach(erase_task(volume), std::move(done));
}

}  // namespace ebb::core
