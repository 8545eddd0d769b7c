// SPDX-License-Identifier: Apache-2.0
// What the target does with each frame of the source.
#include <algorithm>

#include "core/target_impl.h"

namespace ebb::core {

using format::ExtentKind;
using format::FrameType;

namespace {

// Memory of an extent that waits, beside its content.
constexpr std::uint64_t extent_cost = 256;

}  // namespace

void Target::Impl::accept(std::shared_ptr<env::Connection> connection, env::Frame first) {
    drop_connection();
    const std::uint64_t link = link_;
    connection_ = std::move(connection);
    heard_ = clock_.now();
    auto weak = weak_from_this();
    if (!first.empty()) on_frame(link, std::move(first));
    // It may have been refused by that already.
    if (link != link_ || !connection_) return;
    connection_->start(
        [weak, link](env::Frame frame) {
            if (auto self = weak.lock()) self->on_frame(link, std::move(frame));
        },
        [weak, link](const Error&) {
            if (auto self = weak.lock()) self->on_closed(link);
        });
    watch_silence(link);
}

void Target::Impl::watch_silence(std::uint64_t link) {
    clock_.schedule(config_.silence_limit, [weak = weak_from_this(), link] {
        auto self = weak.lock();
        if (!self || self->link_ != link || !self->connection_) return;
        if (self->clock_.now() - self->heard_ >= self->config_.silence_limit) {
            self->drop_connection();
        } else {
            self->watch_silence(link);
        }
    });
}

void Target::Impl::on_closed(std::uint64_t link) {
    if (link == link_) drop_connection();
}

void Target::Impl::drop_connection() {
    ++link_;
    sent_ = expected_ = 0;
    greeted_ = welcomed_ = false;
    compare_id_ = 0;
    forget_compared();
    inbox_.clear();
    inbox_bytes_ = 0;
    paused_ = false;
    if (auto connection = std::exchange(connection_, nullptr)) connection->close();
    wake_later(Duration{0});
}

void Target::Impl::send_refusal(const Error& error) {
    if (!connection_) return;
    connection_->send(format::encode(format::Refused{error.code, error.message}, sent_++));
}

void Target::Impl::refuse(const Error& error) {
    send_refusal(error);
    drop_connection();
}

// Frames wait here for the loop; only pings are answered at once, since the loop may be busy.
void Target::Impl::on_frame(std::uint64_t link, env::Frame frame) {
    if (link != link_ || !connection_) return;
    heard_ = clock_.now();
    auto header = format::frame_of(frame);
    if (!header || header->sequence != expected_) {
        refuse(header ? Error{ErrorCode::protocol, "a frame is missing", {}, {}} : header.error());
        return;
    }
    ++expected_;
    if (header->type == FrameType::ping) {
        connection_->send(format::encode_ping(FrameType::pong, sent_++));
        return;
    }
    if (header->type == FrameType::pong) return;
    inbox_bytes_ += frame.size();
    inbox_.push_back(std::move(frame));
    if (!paused_ && inbox_bytes_ > 2 * config_.window_bytes) {
        paused_ = true;
        connection_->pause();
    }
    wake_.notify();
}

Task<void> Target::Impl::handle(env::Frame frame) {
    const std::uint64_t link = link_;
    const FrameType type = format::frame_of(frame)->type;
    Status status;
    if (type == FrameType::hello && !welcomed_) {
        status = co_await on_hello(frame);
    } else if (!welcomed_) {
        status = fail(ErrorCode::protocol, "the first frame is not HELLO");
    } else if (type == FrameType::extent) {
        status = co_await on_extent(frame);
    } else if (type == FrameType::extents) {
        status = co_await on_extents(frame);
    } else if (type == FrameType::compare) {
        status = co_await on_compare(frame);
    } else if (type == FrameType::pass_begin) {
        status = co_await on_pass_begin(frame);
    } else if (type == FrameType::pass_end) {
        status = co_await on_pass_end(frame);
    } else if (type == FrameType::epoch_begin) {
        status = co_await on_epoch_begin(frame);
    } else {
        status = fail(ErrorCode::protocol, "a frame that a source does not send");
    }
    if (status) co_return;
    switch (status.error().code) {
        case ErrorCode::io:
        case ErrorCode::corrupt:
        case ErrorCode::internal:
        case ErrorCode::no_space:
        case ErrorCode::exists:
        case ErrorCode::not_found:
        case ErrorCode::no_memory: fail_with(status.error()); break;
        default:
            // The peer's fault, or nobody's: what is here stays good.
            if (link == link_) refuse(status.error());
    }
}

// What is in memory is not to be relied on any more: the journal is read again.
void Target::Impl::fail_with(const Error& error) {
    has_error_ = broken_ = true;
    error_ = error;
    (void)give_up_served({ErrorCode::stale, "the point is not served any more: " + error.message,
                          "Serve it again", "E_POINT_GIVEN_UP"},
                         true);
    const bool full = error.code == ErrorCode::no_space;
    refuse({full ? ErrorCode::no_space : ErrorCode::busy,
            "the target has failed: " + error.message,
            {},
            {}});
    forget_waiting();
    pass_.reset();
}

bool Target::Impl::take_budget(std::uint64_t bytes) {
    const bool taken = config_.closing_budget->take(bytes);
    if (taken) budgeted_ += bytes;
    return taken;
}

void Target::Impl::give_budget_back() {
    config_.closing_budget->give_back(std::exchange(budgeted_, 0));
}

void Target::Impl::forget_waiting() {
    give_budget_back();
    waiting_.clear();
    waiting_bytes_ = 0;
    for (Ranges& ranges : waiting_ranges_) ranges.clear();
}

Status Target::Impl::check_hello(const format::Hello& hello) const {
    const format::SessionFile& session = journal_.session();
    if (hello.version_min > config_.version || hello.version_max < format::protocol_version_min) {
        return fail(ErrorCode::version, "no protocol version in common");
    }
    if (hello.protection != config_.protection) {
        return fail(ErrorCode::not_found, "this protection is not here");
    }
    if (hello.session < session.session) {
        return fail(ErrorCode::fenced, "this source was failed over from");
    }
    if (session.failed_over) {
        return fail(ErrorCode::busy, "the machine is failed over; nothing is received");
    }
    if (hello.disks.size() != config_.disks.size()) {
        return fail(ErrorCode::refused, "another number of disks than was prepared");
    }
    for (std::size_t i = 0; i < hello.disks.size(); ++i) {
        const TargetDisk& disk = config_.disks[i];
        if (hello.disks[i].stable_id != disk.source_id || hello.disks[i].size != disk.size) {
            return fail(ErrorCode::refused, "disk " + hello.disks[i].stable_id +
                                                " is not the disk, or not the size, prepared");
        }
    }
    return {};
}

format::Welcome Target::Impl::welcome() const {
    format::Welcome message;
    message.version = version_;
    if (!journal_.closed().empty()) {
        message.closed_epoch = journal_.closed().back().epoch;
        message.closed_incarnation = journal_.closed().back().record.incarnation;
    }
    message.window_bytes = config_.window_bytes;
    message.extent_bytes = format::extent_bytes_max;
    if (const auto& open = journal_.open_epoch()) {
        message.open.epoch = open->epoch;
        message.open.incarnation = open->begin.incarnation;
        message.open.full = open->begin.full;
        message.open.resumable = !lost_acks_;
        // Of passes before the epoch was begun again something is on the disks, too.
        message.open.pass = open->last_pass;
        if (pass_) {
            message.open.pass = pass_->number;
            message.open.run = pass_->run;
            message.open.kind = pass_->kind;
            message.open.count = pass_->count;
            message.open.chain = pass_->chain.value;
        }
    }
    return message;
}

Task<Status> Target::Impl::on_hello(const env::Frame& frame) {
    const std::uint64_t link = link_;
    auto hello = format::decode_hello(frame);
    if (!hello) co_return std::unexpected(hello.error());
    auto status = check_hello(*hello);
    if (!status) {
        refuse(status.error());
        co_return Status{};
    }
    greeted_ = true;
    if (hello->session > journal_.session().session) {
        status = co_await write_session({hello->session, false});
        if (!status) co_return status;
    }
    // What was received of a pass that goes on is counted; what another run of the source left in
    // memory is put on the disks, as that run may have let go of it.
    const bool other_run = pass_ && pass_->run != hello->run;
    if (pass_ && !waiting_.empty() && (other_run || !pass_->in_memory)) {
        status = co_await settle();
        if (!status) co_return status;
    }
    if (link != link_) co_return Status{};
    run_ = hello->run;
    version_ = std::min(hello->version_max, config_.version);
    welcomed_ = true;
    if (pass_) pass_->acknowledged = pass_->count;
    connection_->send(format::encode(welcome(), sent_++));
    co_return Status{};
}

Task<Status> Target::Impl::on_epoch_begin(const env::Frame& frame) {
    auto message = format::decode_epoch_begin(frame);
    if (!message) co_return std::unexpected(message.error());
    const std::uint64_t newest = journal_.closed().empty() ? 0 : journal_.closed().back().epoch;
    if (message->epoch != newest + 1) {
        co_return fail(ErrorCode::protocol, "the epoch is not the next one");
    }
    const bool fresh = !journal_.open_epoch();
    forget_waiting();
    forget_compared();
    pass_.reset();
    if (fresh) epoch_bytes_ = 0;
    format::BeginRecord record{message->incarnation, message->full, newest == 0};
    if (!fresh && record.incarnation == journal_.open_epoch()->begin.incarnation) {
        record.full = record.full || journal_.open_epoch()->begin.full;
    }
    const std::uint64_t epoch = message->epoch;
    auto status = co_await with_space([&] { return journal_.begin(epoch, record); });
    if (!status) co_return status;
    lost_acks_ = false;
    frozen_began_ = false;
    co_return Status{};
}

Task<Status> Target::Impl::on_pass_begin(const env::Frame& frame) {
    auto message = format::decode_pass_begin(frame);
    if (!message) co_return std::unexpected(message.error());
    const auto& open = journal_.open_epoch();
    if (!open || open->epoch != message->epoch || (pass_ && message->pass <= pass_->number)) {
        co_return fail(ErrorCode::protocol, "a pass begins out of order");
    }
    if (pass_ && !pass_->in_memory && !waiting_.empty()) {
        auto status = co_await settle();
        if (!status) co_return status;
    }
    forget_waiting();
    forget_compared();
    unreadable_.clear();
    unreadable_bytes_ = 0;
    const auto before = std::exchange(pass_, ReceivedPass{});
    pass_->number = message->pass;
    pass_->run = run_;
    pass_->kind = message->kind;
    pass_->in_memory = message->kind == format::PassKind::frozen &&
                       message->bytes <= config_.closing_budget->left();
    // From a frozen pass on a restart of ours may lose what was acknowledged: whoever relies on
    // what is durable in this epoch must be able to know.
    if (message->kind != format::PassKind::frozen || frozen_began_) co_return Status{};
    frozen_began_ = true;
    if (!open->position) co_return Status{};
    auto status =
        co_await with_space([&] { return journal_.append_position(position(), "frozen-began"); });
    if (!status) {
        // The pass has not begun; that before it was a live one, and the source relies on it.
        frozen_began_ = false;
        pass_ = before;
    }
    co_return status;
}

Status Target::Impl::check_extent(const format::ExtentHead& head) const {
    if (!pass_ || !journal_.open_epoch() || head.pass != pass_->number ||
        head.index != pass_->count) {
        return fail(ErrorCode::protocol, "an extent out of order");
    }
    if (head.disk >= config_.disks.size() ||
        head.offset + head.length > config_.disks[head.disk].size) {
        return fail(ErrorCode::protocol, "an extent beyond its disk");
    }
    return {};
}

Task<Status> Target::Impl::on_extent(const env::Frame& frame) {
    auto extent = format::decode_extent(frame);
    if (!extent) co_return std::unexpected(extent.error());
    auto status = co_await receive(*extent);
    co_return status;
}

Task<Status> Target::Impl::on_extents(const env::Frame& frame) {
    if (version_ < format::version_with_extents)
        co_return fail(ErrorCode::protocol, "several extents in a frame before version 3");
    auto extents = format::decode_extents(frame);
    if (!extents) co_return std::unexpected(extents.error());
    for (const format::ExtentView& extent : *extents) {
        auto status = co_await receive(extent);
        if (!status) co_return status;
    }
    co_return Status{};
}

Task<Status> Target::Impl::receive(format::ExtentView extent) {
    const format::ExtentHead head = extent.head;
    auto status = check_extent(head);
    if (status) status = check_compared(head);
    if (!status) co_return status;
    const std::uint64_t end = head.offset + head.length;
    const auto free_parts = waiting_ranges_[head.disk].missing(head.offset, end);
    const bool overlaps = free_parts.size() != 1 || free_parts[0] != std::pair(head.offset, end);
    const std::uint64_t cost = extent_cost + (head.kind == ExtentKind::data ? head.length : 0);
    if (overlaps || (pass_->in_memory && !take_budget(cost))) {
        // Too large to wait, or written twice: from here on as it comes.
        pass_->in_memory = false;
        status = co_await settle();
        if (!status) co_return status;
        if (!pass_) co_return fail(ErrorCode::cancelled, "the pass was given up");
    }
    Received received{head, nullptr};
    if (head.kind == ExtentKind::data) {
        received.content = std::make_shared<Buffer>(head.length);
        status = format::unpack(extent, received.content->span());
        if (!status) co_return status;
    }
    waiting_bytes_ += cost;
    waiting_ranges_[head.disk].add(head.offset, end);
    waiting_.push_back(std::move(received));
    pass_->chain.add(head.disk, head.offset, head.length, head.kind, head.digest);
    ++pass_->count;
    if (head.kind != ExtentKind::same) {
        received_bytes_ += head.length;
        epoch_bytes_ += head.length;
    }
    if (head.kind == ExtentKind::unreadable) {
        unreadable_bytes_ += head.length;
        if (unreadable_.size() < format::unreadable_max) {
            unreadable_.push_back({head.disk, head.offset, head.length});
        }
    }
    if (!pass_->in_memory && waiting_bytes_ >= config_.batch_bytes) status = co_await settle();
    co_return status;
}

format::PositionRecord Target::Impl::position() const {
    return {pass_->number, pass_->run,    pass_->kind,       pass_->count, pass_->chain.value,
            epoch_bytes_,  frozen_began_, unreadable_bytes_, unreadable_};
}

void Target::Impl::acknowledge() {
    if (!pass_ || !welcomed_ || !connection_ || !journal_.open_epoch()) return;
    if (!pass_->in_memory && !waiting_.empty()) return;
    if (pass_->acknowledged == pass_->count) return;
    pass_->acknowledged = pass_->count;
    connection_->send(format::encode(
        format::Ack{journal_.open_epoch()->epoch, pass_->number, pass_->count}, sent_++));
}

Task<Status> Target::Impl::note_manifest() {
    if (waiting_.empty()) co_return Status{};
    auto record = std::make_shared<format::ManifestRecord>();
    for (const Received& received : waiting_) {
        const format::ExtentHead& head = received.head;
        record->extents.push_back({head.disk, head.offset, head.length, head.kind, head.digest});
    }
    auto status = co_await with_space([&] { return journal_.append_manifest(*record); });
    co_return status;
}

Task<Status> Target::Impl::settle() {
    if (!waiting_.empty()) {
        auto status = co_await with_space([&] { return applier_.apply(waiting_); });
        if (!status) co_return status;
        // What is only the same may be there in a disk's cache alone, from before a restart of
        // ours.
        const bool written = std::ranges::any_of(waiting_, [](const Received& received) {
            return received.head.kind != ExtentKind::same;
        });
        status = co_await applier_.flush(written ? "batch" : "same");
        if (status) status = co_await note_manifest();
        if (!status) co_return status;
        status =
            co_await with_space([&] { return journal_.append_position(position(), "position"); });
        if (!status) co_return status;
        forget_waiting();
    }
    pass_->in_memory = false;
    acknowledge();
    co_return Status{};
}

Task<Status> Target::Impl::on_pass_end(const env::Frame& frame) {
    auto message = format::decode_pass_end(frame);
    if (!message) co_return std::unexpected(message.error());
    const auto& open = journal_.open_epoch();
    if (!open || open->epoch != message->epoch || !pass_ || pass_->number != message->pass ||
        pass_->kind != message->kind) {
        co_return fail(ErrorCode::protocol, "a pass ends that did not begin");
    }
    if (message->count != pass_->count || message->chain != pass_->chain.value) {
        co_return fail(ErrorCode::digest, "the pass does not match its manifest");
    }
    Status status;
    if (message->kind == format::PassKind::live) {
        status = co_await settle();
    } else {
        status = co_await close_epoch(*message);
    }
    co_return status;
}

Task<Status> Target::Impl::close_epoch(const format::PassEnd& end) {
    const std::uint64_t link = link_;
    auto status = co_await with_space([&] { return applier_.apply(waiting_); });
    if (!status) co_return status;
    status = co_await applier_.flush("close");
    if (status) status = co_await note_manifest();
    if (!status) co_return status;
    format::ClosedRecord record;
    record.incarnation = journal_.open_epoch()->begin.incarnation;
    record.cut_time = end.cut_time;
    record.closed_time = clock_.wall();
    record.name = end.name;
    record.point = end.point;
    record.bytes = epoch_bytes_;
    record.unreadable = unreadable_;
    record.unreadable_bytes = unreadable_bytes_;
    status = co_await with_space([&] { return journal_.append_closed(record); });
    if (!status) co_return status;
    forget_waiting();
    pass_.reset();
    epoch_bytes_ = 0;
    if (link == link_ && connection_) {
        connection_->send(format::encode(format::EpochClosed{end.epoch}, sent_++));
    }
    status = co_await trim();
    co_return status;
}

}  // namespace ebb::core
