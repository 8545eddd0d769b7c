// SPDX-License-Identifier: Apache-2.0
#include "core/source.h"

#include <algorithm>

#include "core/source_impl.h"

namespace ebb::core {

using format::FrameType;

namespace {

constexpr Duration pace_tolerance = std::chrono::seconds(1);

}  // namespace

Source::Source(SourceConfig config, env::Tracker& tracker, env::Connector& connector,
               env::Clock& clock, env::Random& random, env::Cpus& cpus)
    : impl_(std::make_shared<Impl>(std::move(config), tracker, connector, clock, random, cpus)) {}
Source::~Source() = default;
void Source::start() {
    impl_->start();
}
void Source::checkpoint(CheckpointRequest request, env::Callback<CheckpointResult> done) {
    impl_->checkpoint(std::move(request), std::move(done));
}
void Source::set_interval(Duration interval) {
    impl_->set_interval(interval);
}
void Source::verify(VerifyRequest request, env::Callback<VerifyResult> done) {
    impl_->verify(request, std::move(done));
}
void Source::stop(env::StatusCallback done) {
    impl_->stop(std::move(done));
}
SourceStatus Source::status() const {
    return impl_->status();
}

Source::Impl::Impl(SourceConfig config, env::Tracker& tracker, env::Connector& connector,
                   env::Clock& clock, env::Random& random, env::Cpus& cpus)
    : config_(std::move(config)),
      tracker_(tracker),
      connector_(connector),
      clock_(clock),
      cpus_(cpus),
      random_(random),
      run_(random.uuid()),
      full_(config_.full),
      compare_(config_.disks.size()),
      discarded_(config_.disks.size()) {}

Source::Impl::~Impl() {
    if (connection_) connection_->close();
}

void Source::Impl::post(std::move_only_function<void()> action) {
    clock_.schedule(Duration{0}, std::move(action));
}

// The loop is never entered from inside a call of our user.
void Source::Impl::wake() {
    post([weak = weak_from_this()] {
        if (auto self = weak.lock()) self->wake_.notify();
    });
}

void Source::Impl::start() {
    status_.state = SourceState::connecting;
    tracker_.on_event([weak = weak_from_this()] {
        if (auto self = weak.lock()) self->wake();
    });
    post([weak = weak_from_this()] {
        if (auto self = weak.lock()) {
            self->tick();
            self->loop_ = self->loop();
            self->loop_.start();
        }
    });
}

// The owner's heartbeat to the tracker, and the link's.
void Source::Impl::tick() {
    if (status_.state == SourceState::stopped || status_.state == SourceState::fenced) return;
    clock_.schedule(config_.heartbeat, [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->tick();
    });
    const MonoTime now = clock_.now();
    if (connection_ && now - heard_ > config_.silence_limit) {
        drop_connection();
    } else if (connection_ && welcome_ && now - pinged_ > config_.silence_limit / 3) {
        pinged_ = now;
        send(format::encode_ping(FrameType::ping, sent_));
    }
    look_at_pass();
}

// Its statistics, and whether it is void.
void Source::Impl::look_at_pass() {
    if (!pass_ || !pass_->begun || pass_->ended || pass_->voided) return;
    auto weak = std::weak_ptr<Pass>(pass_);
    tracker_.get_pass(pass_->info.id, [self = weak_from_this(), weak](Result<env::PassInfo> info) {
        auto impl = self.lock();
        auto pass = weak.lock();
        if (!impl || !pass || !info) return;
        pass->info.held = info->held;
        pass->info.held_max = info->held_max;
        pass->info.preserved = info->preserved;
        if (info->state != env::PassState::voided) return;
        pass->voided = true;
        pass->void_reason = info->void_reason;
        impl->wake();
    });
}

void Source::Impl::checkpoint(CheckpointRequest request, env::Callback<CheckpointResult> done) {
    if (stopping_ || status_.state == SourceState::fenced) {
        post([done = std::move(done)]() mutable {
            done(fail(ErrorCode::cancelled, "replication is stopped"));
        });
        return;
    }
    requests_.push_back({std::move(request), std::move(done)});
    wake();
}

void Source::Impl::set_interval(Duration interval) {
    config_.interval = interval;
    if (interval.count() == 0) ahead_ = false;  // its cut would never be due
    next_cut_ = clock_.now() + interval;
    wake();
}

void Source::Impl::stop(env::StatusCallback done) {
    stopping_ = true;
    stopped_ = std::move(done);
    drop_connection();
    const bool running = !loop_.done();
    if (!running) {
        status_.state = SourceState::stopped;
        post([done = std::move(stopped_)]() mutable { done(Status{}); });
    }
    wake();
}

SourceStatus Source::Impl::status() const {
    SourceStatus status = status_;
    status.connected = connection_ != nullptr && welcome_.has_value();
    status.open_epoch = epoch_;
    status.pass_open = pass_ != nullptr;
    if (verification_) {
        status.verify.running = true;
        status.verify.bytes_total = verification_->total;
        status.verify.bytes_done = verification_->result.equal_bytes +
                                   verification_->result.discarded_bytes +
                                   verification_->result.different_bytes;
    }
    status.compare_left_bytes += bytes_of(compare_);
    if (pass_) {
        status.pass_kind = pass_->info.kind;
        status.pass_bytes_total = pass_->info.blocks * block_bytes;
        status.pass_bytes_done = pass_->bytes_done;
    }
    status.interval = config_.interval;
    status.effective_interval = between_cuts_;
    if (closed_cut_ && clock_.now() - *closed_cut_ > config_.interval)
        status.effective_interval = std::max(between_cuts_, clock_.now() - *closed_cut_);
    status.pace = pace(status.effective_interval);
    return status;
}

Pace Source::Impl::pace(Duration effective) const {
    if (config_.interval.count() == 0) return Pace::on_demand;
    // What a cut takes on a machine that is busy with something else is nobody's fault.
    if (effective <= config_.interval + std::max(config_.interval / 2, pace_tolerance))
        return Pace::kept;
    if (connection_ == nullptr || !welcome_) return Pace::disconnected;
    if (status_.notice) return Pace::target_waits;
    if (quiescing_) return Pace::quiescing;
    if (voids_between_ || voids_in_row_ > 0) return Pace::voids;
    return Pace::link;
}

void Source::Impl::note_begun() {
    epoch_begun_ = clock_.now();
    bytes_before_epoch_ = status_.bytes_acknowledged;
}

void Source::Impl::note_closed(const Pass& pass) {
    status_.epoch_time = clock_.now() - epoch_begun_;
    status_.epoch_bytes = status_.bytes_acknowledged - bytes_before_epoch_;
    if (closed_cut_) between_cuts_ = pass.begun_at - *closed_cut_;
    closed_cut_ = pass.begun_at;
    voids_between_ = voids_in_row_ > 0;
}

void Source::Impl::answer_all(const Error& error) {
    put_back_requests();
    for (Request& request : requests_) {
        post([done = std::move(request.done), error]() mutable { done(std::unexpected(error)); });
    }
    requests_.clear();
    if (!verification_) return;
    post(
        [done = std::move(verification_->done), error]() mutable { done(std::unexpected(error)); });
    verification_.reset();
}

Task<void> Source::Impl::wait_until(MonoTime when) {
    clock_.schedule(when - clock_.now(), [weak = weak_from_this()] {
        if (auto self = weak.lock()) self->wake_.notify();
    });
    co_await wake_.wait();
}

Task<void> Source::Impl::loop() {
    Duration backoff = config_.retry_min;
    while (!stopping_ && status_.state != SourceState::fenced) {
        auto status = co_await connect();
        if (status) {
            // What is damaged again and again is named until a cut has been closed.
            status_.has_error = status_.digest_mismatches >= mismatches_named;
            if (status_.has_error) status_.error = damaged_;
            if (!status_.has_error) backoff = config_.retry_min;
            status = co_await replicate();
            status_.notice.reset();
        }
        const bool link_lost = connection_ == nullptr;
        drop_connection();
        if (stopping_ || status_.state == SourceState::fenced) break;
        if (!status) {
            status_.error = status.error();
            status_.has_error = true;
            if (!link_lost && status.error().code != ErrorCode::digest) {
                // Not the link: what is known of the tracker is not to be relied on.
                fresh_ = true;
                status_.state = SourceState::error;
            }
        }
        ++status_.reconnects;
        const MonoTime until = clock_.now() + backoff;
        backoff = std::min(backoff * 2, config_.retry_max);
        while (!stopping_ && clock_.now() < until) co_await wait_until(until);
    }
    if (status_.state == SourceState::fenced) {
        answer_all({ErrorCode::fenced, "this machine was failed over from", {}, {}});
    }
    auto status = co_await shut_down();
    if (status_.state != SourceState::fenced) status_.state = SourceState::stopped;
    if (stopped_) post([done = std::move(stopped_), status]() mutable { done(std::move(status)); });
}

Task<Status> Source::Impl::shut_down() {
    answer_all({ErrorCode::cancelled, "replication was stopped", {}, {}});
    pass_.reset();
    Op<void> abandoned;
    tracker_.abandon(abandoned.callback());
    auto status = co_await abandoned;
    co_return status;
}

void Source::Impl::drop_connection() {
    ++link_;
    sent_ = expected_ = 0;
    comparisons_.clear();
    compare_id_ = 0;
    extents_.clear();
    inbox_.clear();
    welcome_.reset();
    if (auto connection = std::exchange(connection_, nullptr)) connection->close();
    wake();
}

void Source::Impl::send(env::Frame frame) {
    if (!connection_) return;
    ++sent_;
    status_.bytes_wire += frame.size();
    connection_->send(std::move(frame));
}

void Source::Impl::on_frame(std::uint64_t link, env::Frame frame) {
    if (link != link_ || !connection_) return;
    heard_ = clock_.now();
    auto header = format::frame_of(frame);
    if (!header || header->sequence != expected_) {
        drop_connection();
        return;
    }
    ++expected_;
    if (header->type == FrameType::ping) send(format::encode_ping(FrameType::pong, sent_));
    if (header->type == FrameType::ping || header->type == FrameType::pong) return;
    inbox_.push_back(std::move(frame));
    wake_.notify();
}

Task<Status> Source::Impl::look_at_tracker() {
    Op<Uuid> asked;
    tracker_.incarnation(asked.callback());
    auto incarnation = co_await asked;
    if (!incarnation) co_return std::unexpected(incarnation.error());
    Op<std::vector<env::TrackedDisk>> listed;
    tracker_.disks(listed.callback());
    auto disks = co_await listed;
    if (!disks) co_return std::unexpected(disks.error());
    if (disks->size() != config_.disks.size()) {
        co_return fail(ErrorCode::refused, "the tracker has another number of disks");
    }
    for (std::size_t i = 0; i < disks->size(); ++i) {
        const env::TrackedDisk& disk = (*disks)[i];
        if (disk.gone) co_return fail(ErrorCode::refused, "disk " + disk.stable_id + " is gone");
        if (disk.size != config_.disks[i].size || disk.stable_id != config_.disks[i].stable_id) {
            co_return fail(
                ErrorCode::refused,
                "disk " + disk.stable_id + " is not the disk, or not the size, protected",
                "disable the protection and protect the machine again");
        }
    }
    tracked_ = std::move(*disks);
    if (*incarnation != loaded_) {
        fresh_ = true;
        loaded_ = *incarnation;
        incarnation_ = lasting_incarnation(loaded_);
        take_note();
    }
    co_return Status{};
}

Task<Status> Source::Impl::connect() {
    auto looked = co_await look_at_tracker();
    if (!looked) {
        fresh_ = true;
        co_return looked;
    }
    Op<std::shared_ptr<env::Connection>> op;
    connector_.connect(op.callback());
    auto connection = co_await op;
    if (!connection) co_return std::unexpected(connection.error());
    if (stopping_) {
        (*connection)->close();
        co_return fail(ErrorCode::cancelled, "stopped");
    }
    drop_connection();
    connection_ = std::move(*connection);
    heard_ = pinged_ = clock_.now();
    const std::uint64_t link = link_;
    auto weak = weak_from_this();
    connection_->start(
        [weak, link](env::Frame frame) {
            if (auto self = weak.lock()) self->on_frame(link, std::move(frame));
        },
        [weak, link](const Error&) {
            auto self = weak.lock();
            if (self && self->link_ == link) self->drop_connection();
        });
    format::Hello hello;
    hello.protection = config_.protection;
    hello.session = config_.session;
    hello.version_max = config_.version;
    hello.run = run_;
    hello.incarnation = incarnation_;
    for (const SourceDisk& disk : config_.disks) hello.disks.push_back({disk.stable_id, disk.size});
    send(format::encode(hello, sent_));
    auto status = co_await receive_welcome();
    if (!status) co_return status;
    status = co_await reconcile();
    co_return status;
}

Task<Status> Source::Impl::receive_welcome() {
    while (!welcome_) {
        auto status = take_frames();
        if (!status) co_return status;
        if (welcome_) break;
        co_await wake_.wait();
    }
    if (welcome_->version < format::protocol_version_min || welcome_->version > config_.version) {
        co_return fail(ErrorCode::version, "the target chose a version that was not offered");
    }
    co_return Status{};
}

// E_CLOSED when there is no connection (any more).
Status Source::Impl::take_frames() {
    while (!inbox_.empty()) {
        env::Frame frame = std::move(inbox_.front());
        inbox_.pop_front();
        auto status = take_frame(frame, format::frame_of(frame)->type);
        if (!status) return status;
    }
    if (!connection_) return fail(ErrorCode::closed, "the connection to the target ended");
    return {};
}

Status Source::Impl::take_frame(const env::Frame& frame, FrameType type) {
    const bool early = type == FrameType::ack || type == FrameType::epoch_closed;
    if (!welcome_ && early) type = FrameType::hello;  // not allowed
    switch (type) {
        case FrameType::welcome: {
            auto message = format::decode_welcome(frame);
            if (!message || welcome_) break;
            welcome_ = *message;
            return {};
        }
        case FrameType::refused: {
            auto message = format::decode_refused(frame);
            if (!message) break;
            return on_refused(*message);
        }
        case FrameType::ack: {
            auto message = format::decode_ack(frame);
            if (!message) break;
            if (!pass_ || message->epoch != epoch_ || message->pass != pass_->number) return {};
            if (message->count > pass_->count()) break;
            fold(message->count);
            return {};
        }
        case FrameType::epoch_closed: {
            auto message = format::decode_epoch_closed(frame);
            if (!message || !pass_ || !pass_->closing || message->epoch != epoch_) break;
            closed_seen_ = message->epoch;
            return {};
        }
        case FrameType::compared: {
            auto message = format::decode_compared(frame);
            if (!message || !take_compared(std::move(*message))) break;
            return {};
        }
        case FrameType::notice: {
            auto message = format::decode_notice(frame);
            if (!message) break;
            status_.notice.reset();
            if (!message->clear)
                status_.notice =
                    Error{message->code, "the target waits: " + message->message, {}, {}};
            return {};
        }
        default: break;
    }
    drop_connection();
    return fail(ErrorCode::protocol, "the target sent what the protocol does not allow");
}

Status Source::Impl::on_refused(const format::Refused& refused) {
    Error error{refused.code, "the target refused: " + refused.message, {}, {}};
    if (refused.code == ErrorCode::fenced) status_.state = SourceState::fenced;
    if (refused.code == ErrorCode::digest && ++status_.digest_mismatches >= mismatches_named) {
        error.message = "content was not what it had been on its way to the target, " +
                        std::to_string(status_.digest_mismatches) +
                        " times since the last point: " + refused.message;
        error.remedy =
            "Look at memory and network of both machines; what is damaged is not taken, and sent "
            "again";
        damaged_ = error;
    }
    // Both ends differ about where they are: from the beginning of the epoch, then.
    if (refused.code == ErrorCode::protocol) fresh_ = true;
    drop_connection();
    return std::unexpected(std::move(error));
}

// Whether the target is where this run, and nobody else, has left it; the pass aside.
bool Source::Impl::in_step() const {
    const format::Welcome& there = *welcome_;
    if (fresh_) return false;
    if (there.closed_epoch != 0 && there.closed_incarnation != incarnation_) {
        // Only an epoch that was begun before ours may be of another.
        if (epoch_ == 0 || there.closed_epoch != confirmed_) return false;
    }
    if (epoch_ != 0 && there.closed_epoch == epoch_) {
        // Closed, and the word of it was lost.
        return there.open.epoch == 0 && pass_ && pass_->closing;
    }
    if (there.closed_epoch != confirmed_ || there.open.epoch != epoch_) return false;
    return epoch_ == 0 || there.open.incarnation == incarnation_;
}

// Whether the target still has what it acknowledged of the open epoch in passes that are over. A
// state to which it was put back, or that is all that its disks have kept, has not.
bool Source::Impl::has_brought() const {
    if (!brought_) return true;
    const format::OpenEpoch& open = welcome_->open;
    // A later pass of ours had begun there. Numbers are not used twice.
    const bool later = brought_->run != brought_->by || open.pass > brought_->pass;
    if (open.run == brought_->by && later) return true;
    if (open.run != brought_->run || open.pass != brought_->pass) return false;
    if (open.count == brought_->count) return open.chain == brought_->chain;
    return open.count > brought_->count && open.count <= brought_->sent;
}

Task<Status> Source::Impl::reconcile() {
    fresh_ = !in_step();
    const bool was_closed = !fresh_ && epoch_ != 0 && welcome_->closed_epoch == epoch_;
    status_.closed_epoch = welcome_->closed_epoch;
    has_point_ = welcome_->closed_epoch != 0;
    closed_seen_ = 0;
    Status status;
    if (was_closed) {
        status = co_await closed();
    } else if (fresh_) {
        status = co_await reconcile_fresh(has_brought());
    } else if (!has_brought()) {
        status = co_await start_epoch_over();
    } else if (pass_) {
        status = co_await reconcile_pass();
    }
    if (!status) co_return status;
    status_.state = has_point_ && status_.state != SourceState::initial_sync
                        ? SourceState::replicating
                        : SourceState::initial_sync;
    co_return Status{};
}

// Marks what cannot be trusted, before anything is sent. Empty `reason`: none beyond the disks'.
Task<Status> Source::Impl::mark_gaps(bool everything, std::string reason, bool compare) {
    std::vector<std::string> reasons;
    if (everything) reasons.push_back(std::move(reason));
    for (DiskIndex i = 0; i < tracked_.size(); ++i) {
        for (const auto& why : tracked_[i].resync_reasons) {
            reasons.push_back(tracked_[i].stable_id + ": " + why);
        }
        if (!everything && tracked_[i].resync_reasons.empty()) continue;
        Op<void> marked;
        tracker_.mark_all(i, compare, marked.callback());
        auto status = co_await marked;
        if (!status) co_return status;
        tracked_[i].resync_reasons.clear();
        marked_all_ = true;
        compare_[i].clear();
        if (compare) compare_all(i);
        if (!verification_) continue;
        look_again(verification_->seen, i);
        look_again(verification_->pending, i);
    }
    if (!reasons.empty()) {
        status_.resync_reasons = std::move(reasons);
        status_.compared_bytes = status_.same_bytes = 0;
        status_.state = SourceState::initial_sync;
    }
    co_return Status{};
}

// Whether nothing is under way, here or at the tracker: the answer to the command that began a pass
// may have been lost. What the tracker has of it comes back by abandoning alone.
Task<Result<bool>> Source::Impl::is_idle() {
    if (pass_) co_return false;
    Op<env::PassInfo> asked;
    tracker_.get_pass(0, asked.callback());
    const auto newest = co_await asked;
    if (!newest && newest.error().code != ErrorCode::not_found)
        co_return std::unexpected(newest.error());
    co_return !newest || newest->state == env::PassState::voided ||
        newest->state == env::PassState::ended;
}

Task<Status> Source::Impl::reconcile_fresh(bool may_resume) {
    const format::Welcome there = *welcome_;  // the connection may end meanwhile
    const format::OpenEpoch& open = there.open;
    const bool has_open = open.epoch != 0;
    const Uuid base = has_open ? open.incarnation : there.closed_incarnation;
    const bool nothing = !has_open && there.closed_epoch == 0;
    std::string reason;
    if (full_) reason = "asked for";
    if (nothing) reason = "the target has no recovery point";
    const bool lost = newest_confirmed() > there.closed_epoch;
    if (reason.empty() && lost) reason = "the target lost points";
    if (reason.empty() && base != incarnation_) reason = "tracking was interrupted";
    if (reason.empty()) reason = out_of_step();
    // Numbers of epochs are used again: what was closed under them before is not to be taken for
    // it.
    if (lost) incarnation_ = random_.uuid();
    const bool gap = !reason.empty();
    // What is sent for the first time, or because nothing is believed, need not be compared.
    const bool compare = full_ ? config_.compare : !nothing;
    if (!gap) find_stale_maps();
    bool resumes = has_open && open.resumable && may_resume && !gap && !starts_over_;
    if (resumes) {
        const auto idle = co_await is_idle();
        if (!idle) co_return std::unexpected(idle.error());
        resumes = *idle;
    }
    starts_over_ = !resumes;
    put_back_requests();
    pass_.reset();
    marked_all_ = false;
    for (Ranges& ranges : compare_) ranges.clear();
    look_again();
    if (!resumes) {
        Op<void> abandoned;
        tracker_.abandon(abandoned.callback());
        auto status = co_await abandoned;
        if (!status) co_return status;
    }
    auto status = co_await mark_gaps(gap, reason, compare);
    if (!status) co_return status;
    epoch_ = has_open ? open.epoch : 0;
    if (has_open) last_pass_ = std::max(last_pass_, open.pass);
    brought_.reset();
    if (resumes) brought_ = {open.run, open.pass, open.count, open.count, open.chain, run_};
    confirmed_ = there.closed_epoch;
    left_.reset();
    foreign_note_ = false;
    live_in_row_ = voids_in_row_ = 0;
    forget_ahead();
    next_cut_ = clock_.now();
    // Where there is a gap the epoch exists before any bit is taken, so that a restart finds what
    // it belongs to.
    if (gap && !has_open) epoch_ = there.closed_epoch + 1;
    if (epoch_ != 0 && !resumes) {
        status = co_await keep_cookie();
        if (!status) co_return status;
        send(format::encode(format::EpochBegin{epoch_, incarnation_, marked_all_}, sent_));
    }
    if (resumes) {
        status = co_await leave_note(cookie(confirmed_), brought_);
        if (!status) co_return status;
    }
    if (open.full && !gap) {
        status_.state = SourceState::initial_sync;
        marked_all_ = true;
        // An earlier run of ours did not come to its end with it.
        for (DiskIndex i = 0; has_point_ && i < tracked_.size(); ++i) compare_all(i);
    }
    note_begun();
    fresh_ = starts_over_ = false;
    full_ = false;
    co_return Status{};
}

Task<Status> Source::Impl::reconcile_pass() {
    const format::OpenEpoch& open = welcome_->open;
    const bool known = open.run == run_ && open.pass == pass_->number;
    last_pass_ = std::max(last_pass_, open.pass);
    if (known && open.count >= pass_->acknowledged && open.count <= pass_->count()) {
        fold(open.count);
        if (open.chain == pass_->chain.value) {
            // What was sent after that did not arrive: it is read again.
            pass_->unacknowledged.clear();
            pass_->unacknowledged_bytes = 0;
            pass_->announced = true;
            co_return Status{};
        }
    }
    if (!known && pass_->acknowledged == 0 && !pass_->closing) {
        pass_->unacknowledged.clear();
        pass_->unacknowledged_bytes = 0;
        pass_->announced = false;
        pass_->number = ++last_pass_;
        auto status = co_await keep_cookie();
        co_return status;
    }
    if (!pass_->frozen()) {
        auto status = co_await start_epoch_over();
        co_return status;
    }
    auto status = co_await give_up_pass();
    co_return status;
}

// Something is gone that was acknowledged, and nothing tells what else.
Task<Status> Source::Impl::start_epoch_over() {
    while (pass_ && pass_->releases > 0) co_await wake_.wait();
    if (!welcome_) co_return fail(ErrorCode::closed, "the connection to the target ended");
    // Where another run has left a pass of which nothing had come, its number alone may be gone.
    if (!brought_ || brought_->count > 0) ++status_.live_acks_lost;
    auto status = co_await reconcile_fresh(false);
    co_return status;
}

}  // namespace ebb::core
