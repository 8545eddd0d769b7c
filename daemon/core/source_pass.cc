// SPDX-License-Identifier: Apache-2.0
// How the source brings one pass after the other to the target.
#include <algorithm>

#include "core/source_impl.h"

namespace ebb::core {

namespace {

constexpr Duration drain_poll = std::chrono::milliseconds(20);
constexpr unsigned read_tries = 3;
constexpr std::size_t chunks_listed = 256;
// Of a frame of several extents, which shares its head and the work that each frame is.
constexpr std::size_t extents_bytes = 128 << 10;

std::unexpected<Error> void_pass(const std::string& reason) {
    return fail(ErrorCode::stale, "the pass is void: " + reason);
}

}  // namespace

bool Source::Impl::cut_due() const {
    if (!has_point_ || !requests_.empty()) return true;
    // A verification needs a point, and no epoch that is open.
    if (epoch_ != 0 && (!ahead_ || verification_)) return true;
    if (verification_needs_cut()) return true;
    return config_.interval.count() > 0 && clock_.now() >= next_cut_;
}

bool Source::Impl::wants_live(std::uint64_t dirty_bytes) const {
    if (live_in_row_ >= config_.live_passes_max) return false;
    if (dirty_bytes > config_.frozen_limit_bytes) return true;
    // Cuts that had to be given up: fewer blocks to freeze next time.
    return voids_in_row_ >= 2 && live_in_row_ < voids_in_row_ && dirty_bytes > 0;
}

Task<Status> Source::Impl::replicate() {
    while (!stopping_) {
        auto status = take_frames();
        if (!status) co_return status;
        if (!pass_) {
            if (verification_ && epoch_ == 0 && has_point_) {
                status = co_await verify_slice();
                if (!status) co_return status;
            }
            if (!cut_due()) {
                auto ahead = co_await wait_for_cut();
                if (!ahead) co_return std::unexpected(ahead.error());
                if (!*ahead) continue;
            }
            status = co_await begin_pass();
            if (!status) co_return status;
        }
        status = co_await run_pass();
        if (status) continue;
        if (status.error().code != ErrorCode::stale) co_return status;
        if (pass_) status = co_await give_up_pass();
        if (!status) co_return status;
    }
    co_return fail(ErrorCode::cancelled, "stopped");
}

// A whole pass serves one request that wants the image; a point bears one name, and applications
// are brought to rest, or other machines met, for one request.
void Source::Impl::take_requests(Pass& pass, bool whole_chosen) {
    bool named = false;
    bool still = false;
    std::deque<Request> rest;
    for (Request& request : requests_) {
        const bool fits = (request.what.name.empty() || !named) &&
                          (!request.what.whole || whole_chosen) &&
                          (!request.stands_still() || !still);
        if (fits) {
            still = still || request.stands_still();
            named = named || !request.what.name.empty();
            whole_chosen = whole_chosen && !request.what.whole;
            pass.requests.push_back(std::move(request));
        } else {
            rest.push_back(std::move(request));
        }
    }
    requests_ = std::move(rest);
}

void Source::Impl::put_back_requests() {
    if (!pass_) return;
    for (auto at = pass_->requests.rbegin(); at != pass_->requests.rend(); ++at) {
        requests_.push_front(std::move(*at));
    }
    pass_->requests.clear();
}

Task<Status> Source::Impl::begin_pass() {
    auto status = co_await look_at_tracker();
    if (!status) co_return status;
    if (fresh_) co_return fail(ErrorCode::resync_required, "the tracking module was loaded anew");
    status = co_await mark_gaps(false, {}, has_point_);
    if (!status) co_return status;
    // Without an interval, which may have ended just now, its cut would never be due.
    ahead_ = config_.interval.count() > 0 && !cut_due();
    const bool live = ahead_ || wants_live(dirty_bytes());
    const bool whole =
        !live && std::any_of(requests_.begin(), requests_.end(),
                             [](const Request& request) { return request.what.whole; });
    const bool begins = epoch_ == 0;
    if (begins) {
        epoch_ = confirmed_ + 1;
        note_begun();
    }
    auto pass = std::make_shared<Pass>();
    if (verification_) verification_->expected.clear();
    pass->ahead = ahead_;
    if (!live) take_requests(*pass, whole);
    pass_ = pass;
    const auto found = std::ranges::find_if(pass->requests, &Request::stands_still);
    Request* still = found == pass->requests.end() ? nullptr : &*found;
    auto info = co_await take_cut(live ? env::PassKind::live : env::PassKind::frozen, whole, still);
    if (!info) {
        put_back_requests();
        pass_.reset();
        if (begins) epoch_ = 0;
        if (stopping_) co_return fail(ErrorCode::cancelled, "stopped");
        // Not E_STALE, which would be about a pass that is there.
        co_return fail(ErrorCode::io, "no pass could begin: " + info.error().message);
    }
    pass->info = *info;
    pass->begun = true;
    pass->begun_at = dirty_since_ = clock_.now();
    if (pass->ahead) ++status_.passes_ahead;
    if (still != nullptr && still->what.quiesce && !still->degraded)
        pass->point = format::PointKind::application;
    pass->number = ++last_pass_;
    pass->to_release.resize(tracked_.size());
    pass->released.resize(tracked_.size());
    if (!live) {
        ++status_.cuts_begun;
        next_cut_ = clock_.now() + config_.interval;
    }
    status = co_await keep_cookie();
    if (status && begins)
        send(format::encode(format::EpochBegin{epoch_, incarnation_, marked_all_}, sent_));
    co_return status;
}

void Source::Impl::announce_pass() {
    if (pass_->announced) return;
    pass_->announced = true;
    format::PassBegin begin;
    begin.epoch = epoch_;
    begin.pass = pass_->number;
    begin.kind = pass_->frozen() ? format::PassKind::frozen : format::PassKind::live;
    begin.cut_time = pass_->info.cut_time;
    begin.bytes = pass_->info.blocks * block_bytes;
    send(format::encode(begin, sent_));
}

Task<Status> Source::Impl::run_pass() {
    Status status;
    if (!pass_->ended) {
        announce_pass();
        status = co_await wait_ready();
        if (!status) co_return status;
        status = co_await list_for_verification();
        if (!status) co_return status;
        status = co_await pump();
        if (!status) co_return status;
    }
    if (pass_->frozen()) {
        if (!pass_->closing) status = co_await finish_frozen();
        if (!status) co_return status;
        send_pass_end();
        status = co_await await_closed();
        co_return status;
    }
    if (!pass_->ended) {
        status = co_await end_pass();
        if (!status) co_return status;
    }
    send_pass_end();
    brought_ = brought_by_pass();
    if (pass_->ahead) {
        ahead_ended();
    } else {
        ++live_in_row_;
    }
    pass_.reset();
    co_return Status{};
}

void Source::Impl::send_pass_end() {
    format::PassEnd end;
    end.epoch = epoch_;
    end.pass = pass_->number;
    end.kind = pass_->frozen() ? format::PassKind::frozen : format::PassKind::live;
    end.count = pass_->acknowledged;
    end.chain = pass_->chain.value;
    end.cut_time = pass_->info.cut_time;
    end.point = pass_->point;
    for (const Request& request : pass_->requests) {
        if (!request.what.name.empty()) end.name = request.what.name;
    }
    send(format::encode(end, sent_));
}

Task<Status> Source::Impl::wait_ready() {
    while (pass_->info.state != env::PassState::ready) {
        Op<env::PassInfo> asked;
        tracker_.get_pass(pass_->info.id, asked.callback());
        auto info = co_await asked;
        if (!info) co_return std::unexpected(info.error());
        pass_->info = *info;
        if (info->state == env::PassState::voided) co_return void_pass(info->void_reason);
        if (info->state == env::PassState::ready) break;
        auto status = take_frames();
        if (!status) co_return status;
        co_await wait_until(clock_.now() + drain_poll);
    }
    co_return Status{};
}

// Reads, sends and lets go until all of the pass is acknowledged.
Task<Status> Source::Impl::pump() {
    auto cursor = std::make_shared<Cursor>();
    const auto pass = pass_;
    // Ranges that are being let go of would be listed, and sent, once more.
    start_releases();
    while (pass->releases > 0) co_await wake_.wait();
    while (true) {
        auto status = take_frames();
        if (!status) co_return status;
        if (stopping_) co_return fail(ErrorCode::cancelled, "stopped");
        if (!pass->tracker_error) co_return pass->tracker_error;
        if (pass->voided) co_return void_pass(pass->void_reason);
        start_releases();
        if (!cursor->listed && cursor->chunks.size() < chunks_listed) {
            status = co_await list_more(cursor);
            if (!status) co_return status;
        }
        ask_for_chunks(cursor);
        status = co_await send_ready(cursor);
        if (!status) co_return status;
        start_reads(cursor);
        // What is still being read will bring more.
        if (cursor->reading == 0) flush_extents();
        const bool all = cursor->listed && cursor->chunks.empty() && pass->unacknowledged.empty();
        if (all) {
            start_releases();
            if (pass->releases == 0) {
                if (!pass->tracker_error) co_return pass->tracker_error;
                co_return Status{};
            }
        }
        const bool more = !cursor->listed && cursor->chunks.empty();
        const bool ready = !cursor->chunks.empty() && may_go(*cursor->chunks.front());
        if (!more && !ready) co_await wake_.wait();
    }
}

Task<Status> Source::Impl::list_more(std::shared_ptr<Cursor> cursor) {
    Op<env::PassMap> asked;
    tracker_.pass_map(pass_->info.id, cursor->disk, cursor->offset, asked.callback());
    auto map = co_await asked;
    if (!map) co_return std::unexpected(map.error());
    const std::uint64_t limit =
        std::min(config_.extent_bytes, welcome_ ? welcome_->extent_bytes : config_.extent_bytes);
    for (const Extent& extent : map->extents) {
        for (std::uint64_t at = extent.offset; at < extent.end();) {
            const std::uint64_t size =
                std::min(extent.end() - at, extent.discarded ? format::extent_bytes_max : limit);
            auto chunk = std::make_shared<Chunk>();
            chunk->disk = cursor->disk;
            chunk->range = {at, size, extent.discarded};
            chunk->compare = !extent.discarded && wants_compare(chunk->disk, at, at + size);
            if (extent.discarded) {
                chunk->kind = format::ExtentKind::discard;
                chunk->started = chunk->done = true;
            }
            cursor->chunks.push_back(std::move(chunk));
            at += size;
        }
    }
    if (map->more) {
        cursor->offset = map->next_offset;
    } else {
        cursor->offset = 0;
        ++cursor->disk;
        cursor->listed = cursor->disk >= tracked_.size();
    }
    co_return Status{};
}

void Source::Impl::start_reads(const std::shared_ptr<Cursor>& cursor) {
    const std::uint64_t window =
        std::min(config_.window_bytes, welcome_ ? welcome_->window_bytes : config_.window_bytes);
    for (const auto& chunk : cursor->chunks) {
        if (cursor->reading >= config_.reads_in_flight) return;
        if (chunk->started) continue;
        const std::uint64_t held = pass_->unacknowledged_bytes + cursor->bytes;
        if (held != 0 && held + chunk->range.length > window) return;
        chunk->started = true;
        cursor->bytes += chunk->range.length;
        start_read(cursor, chunk);
    }
}

void Source::Impl::start_read(const std::shared_ptr<Cursor>& cursor,
                              const std::shared_ptr<Chunk>& chunk) {
    ++cursor->reading;
    ++chunk->tries;
    chunk->content = std::make_shared<Buffer>(chunk->range.length);
    tracker_.read(
        pass_->info.id, chunk->disk, chunk->range.offset, chunk->content->span(),
        [weak = weak_from_this(), cursor, chunk, content = chunk->content](Status status) {
            --cursor->reading;
            chunk->done = true;
            chunk->status = std::move(status);
            if (auto self = weak.lock()) self->wake_.notify();
        });
}

Task<Status> Source::Impl::send_ready(std::shared_ptr<Cursor> cursor) {
    while (!cursor->chunks.empty() && may_go(*cursor->chunks.front())) {
        const auto chunk = cursor->chunks.front();
        if (!chunk->status) {
            auto status = co_await read_failed(cursor);
            if (!status) co_return status;
            continue;
        }
        if (!connection_) co_return fail(ErrorCode::closed, "the connection to the target ended");
        cursor->chunks.pop_front();
        if (chunk->content) cursor->bytes -= chunk->range.length;
        if (chunk->comparison) {
            send_compared(*chunk);
        } else {
            send_chunk(*chunk);
        }
    }
    co_return Status{};
}

// Read, and the target has said what it has there, where it was asked.
bool Source::Impl::may_go(const Chunk& chunk) {
    if (!chunk.done) return false;
    if (!chunk.status || !chunk.compare) return true;
    return chunk.comparison && chunk.comparison->answered;
}

void Source::Impl::send_chunk(const Chunk& chunk) {
    send_extent(chunk, chunk.range, chunk.kind);
}

// A part of the chunk, or all of it.
void Source::Impl::send_extent(const Chunk& chunk, const Extent& range, format::ExtentKind kind) {
    format::ExtentHead head;
    head.pass = pass_->number;
    head.index = pass_->count();
    head.disk = chunk.disk;
    head.offset = range.offset;
    head.length = static_cast<std::uint32_t>(range.length);
    head.kind = kind;
    std::span<const std::byte> content;
    if (kind == format::ExtentKind::data || kind == format::ExtentKind::same) {
        content = chunk.content->span().subspan(range.offset - chunk.range.offset, range.length);
        if (kind == format::ExtentKind::data && format::all_zero(content)) {
            head.kind = format::ExtentKind::zero;
        } else {
            head.digest = format::xxh3_128(content);
        }
        expect(chunk, range, content);
    }
    if (head.kind != format::ExtentKind::data) content = {};
    pass_->unacknowledged.push_back(
        {chunk.disk, range, head.kind, head.digest, chunk.comparison != nullptr});
    pass_->unacknowledged_bytes += range.length;
    if (welcome_->version < format::version_with_extents)
        return send(format::encode(head, content, config_.compression, sent_));
    if (extents_.bytes() + content.size() > extents_bytes) flush_extents();
    extents_.add(head, content, config_.compression);
}

void Source::Impl::flush_extents() {
    if (!extents_.empty()) send(extents_.take(sent_));
}

// Again, then in single blocks, then as unreadable: marked, so that the next pass tries again.
Task<Status> Source::Impl::read_failed(std::shared_ptr<Cursor> cursor) {
    const auto chunk = cursor->chunks.front();
    Op<env::PassInfo> asked;
    tracker_.get_pass(pass_->info.id, asked.callback());
    auto info = co_await asked;
    if (!info) co_return std::unexpected(info.error());
    if (info->state == env::PassState::voided) co_return void_pass(info->void_reason);
    chunk->done = false;
    if (chunk->tries < read_tries) {
        start_read(cursor, chunk);
        co_return Status{};
    }
    cursor->bytes -= chunk->range.length;
    if (chunk->range.length > block_bytes) {
        cursor->chunks.pop_front();
        std::uint64_t end = chunk->range.end();
        while (end > chunk->range.offset) {
            const std::uint64_t size = (end - chunk->range.offset) % block_bytes != 0
                                           ? (end - chunk->range.offset) % block_bytes
                                           : block_bytes;
            auto part = std::make_shared<Chunk>();
            part->disk = chunk->disk;
            part->range = {end - size, size, false};
            cursor->chunks.push_front(std::move(part));
            end -= size;
        }
        co_return Status{};
    }
    const Extent range = chunk->range;
    Op<void> marked;
    tracker_.mark(chunk->disk, std::span(&range, 1), marked.callback());
    auto status = co_await marked;
    if (!status) co_return status;
    chunk->kind = format::ExtentKind::unreadable;
    chunk->compare = false;
    chunk->status = {};
    chunk->content.reset();
    chunk->done = true;
    co_return Status{};
}

// The first `count` extents of the pass are at the target.
void Source::Impl::fold(std::uint64_t count) {
    while (pass_->acknowledged < count) {
        const Sent& sent = pass_->unacknowledged.front();
        pass_->chain.add(sent.disk, sent.range.offset, sent.range.length, sent.kind, sent.digest);
        pass_->to_release[sent.disk].add(sent.range.offset, sent.range.end());
        pass_->unacknowledged_bytes -= sent.range.length;
        if (sent.kind == format::ExtentKind::unreadable) {
            pass_->unreadable_bytes += sent.range.length;
        }
        compare_[sent.disk].remove(sent.range.offset, sent.range.end());
        verify_acknowledged(sent);
        if (pass_->ahead) sample_ahead(sent);
        if (sent.compared) status_.compared_bytes += sent.range.length;
        if (sent.kind == format::ExtentKind::same) status_.same_bytes += sent.range.length;
        pass_->bytes_done += sent.range.length;
        status_.bytes_acknowledged += sent.range.length;
        pass_->unacknowledged.pop_front();
        ++pass_->acknowledged;
    }
}

// Only now: what the target has, and what was read before. Until then a frozen block stays
// preserved and can be read again after a break of the connection.
void Source::Impl::start_releases() {
    const auto pass = pass_;
    for (DiskIndex disk = 0; disk < pass->to_release.size(); ++disk) {
        if (pass->to_release[disk].empty()) continue;
        auto extents = std::make_shared<std::vector<Extent>>(pass->to_release[disk].extents());
        pass->to_release[disk].clear();
        ++pass->releases;
        tracker_.release(pass->info.id, disk, *extents,
                         [weak = weak_from_this(), pass, disk, extents](Status status) {
                             --pass->releases;
                             if (status) {
                                 for (const Extent& extent : *extents) {
                                     if (!pass->frozen()) break;
                                     pass->released[disk].add(extent.offset, extent.end());
                                 }
                             } else if (status.error().code == ErrorCode::stale) {
                                 pass->voided = true;
                                 pass->void_reason = status.error().message;
                             } else {
                                 pass->tracker_error = std::move(status);
                             }
                             if (auto self = weak.lock()) self->wake_.notify();
                         });
    }
}

Task<Status> Source::Impl::export_image() {
    for (Request& request : pass_->requests) {
        if (!request.what.whole || !request.what.on_image) continue;
        Op<void> exported;
        request.what.on_image({pass_->info.id, epoch_, pass_->info.cut_time}, exported.callback());
        auto status = co_await exported;
        if (!status) {
            request.what.whole = false;
            post([done = std::move(request.done), status]() mutable {
                done(std::unexpected(status.error()));
            });
            request.done = [](Result<CheckpointResult>) {};
            co_return void_pass("its image could not be exported");
        }
    }
    co_return Status{};
}

// All was read, let go of and acknowledged. What appears wrong now keeps the epoch open.
Task<Status> Source::Impl::finish_frozen() {
    auto status = co_await export_image();
    if (!status) co_return status;
    if (!pass_->ended) {
        look_at_pass();  // most passes end before the next heartbeat, and their account with them
        status = co_await end_pass();
        if (!status) co_return status;
    }
    status = co_await look_at_tracker();
    if (!status) co_return status;
    if (fresh_) co_return fail(ErrorCode::resync_required, "the tracking module was loaded anew");
    for (const auto& disk : tracked_) {
        if (!disk.resync_reasons.empty()) co_return void_pass("writes were missed");
    }
    pass_->closing = true;
    co_return Status{};
}

Task<Status> Source::Impl::await_closed() {
    const std::uint64_t epoch = epoch_;
    while (closed_seen_ != epoch) {
        auto status = take_frames();
        if (!status) co_return status;
        if (stopping_) co_return fail(ErrorCode::cancelled, "stopped");
        if (closed_seen_ != epoch) co_await wake_.wait();
    }
    auto status = co_await closed();
    co_return status;
}

Task<Status> Source::Impl::closed() {
    auto status = co_await leave_note(cookie(epoch_), {});
    if (!status) co_return status;
    Op<void> confirmed;
    tracker_.confirm(cookie(epoch_), confirmed.callback());
    status = co_await confirmed;
    if (!status) co_return status;
    ++status_.cuts_closed;
    if (status_.digest_mismatches >= mismatches_named) status_.has_error = false;
    status_.digest_mismatches = 0;
    status_.closed_epoch = confirmed_ = epoch_;
    status_.last_cut = pass_->info.cut_time;
    status_.held = pass_->info.held;
    status_.held_max = pass_->info.held_max;
    status_.preserved = pass_->info.preserved;
    status_.unreadable_bytes = pass_->unreadable_bytes;
    status_.state = SourceState::replicating;
    note_closed(*pass_);
    for (Request& request : pass_->requests) {
        CheckpointResult result{epoch_,           pass_->info.cut_time, pass_->point,
                                request.degraded, request.alone,        request.gate};
        post([done = std::move(request.done), result = std::move(result)]() mutable {
            done(std::move(result));
        });
    }
    pass_.reset();
    has_point_ = true;
    epoch_ = 0;
    brought_.reset();
    marked_all_ = false;
    for (Ranges& ranges : compare_) ranges.clear();
    live_in_row_ = voids_in_row_ = 0;
    forget_ahead();
    status = co_await verification_closed();
    co_return status;
}

// The target may have lost, or drops, what it acknowledged of a frozen pass: it is sent again.
Task<Status> Source::Impl::mark_released() {
    for (DiskIndex disk = 0; disk < pass_->released.size(); ++disk) {
        if (pass_->released[disk].empty()) continue;
        if (pass_->compared) {
            for (const Extent& range : pass_->released[disk].extents())
                compare_[disk].add(range.offset, range.end());
        }
        auto extents = std::make_shared<std::vector<Extent>>(pass_->released[disk].extents());
        Op<void> marked;
        tracker_.mark(disk, *extents, marked.callback(extents));
        auto status = co_await marked;
        if (!status) co_return status;
    }
    co_return Status{};
}

// Marks what is left before letting go of it, so that the pass can end and no bit is lost
// whatever happens in between.
Task<Status> Source::Impl::return_rest() {
    for (DiskIndex disk = 0; disk < tracked_.size(); ++disk) {
        bool more = true;
        while (more) {
            Op<env::PassMap> asked;
            tracker_.pass_map(pass_->info.id, disk, 0, asked.callback());
            auto map = co_await asked;
            if (!map) co_return std::unexpected(map.error());
            more = map->more;
            if (map->extents.empty()) continue;
            auto extents = std::make_shared<std::vector<Extent>>(std::move(map->extents));
            Op<void> marked;
            tracker_.mark(disk, *extents, marked.callback(extents));
            auto status = co_await marked;
            if (!status) co_return status;
            Op<void> released;
            tracker_.release(pass_->info.id, disk, *extents, released.callback(extents));
            status = co_await released;
            if (!status) co_return status;
        }
    }
    auto status = co_await end_pass();
    co_return status;
}

Task<Status> Source::Impl::give_up_pass() {
    extents_.clear();
    while (pass_->releases > 0) co_await wake_.wait();
    Status status;
    if (pass_->frozen()) status = co_await mark_released();
    if (!status) co_return status;
    if (!pass_->ended && !pass_->voided) {
        auto rest = co_await wait_ready();
        if (rest) rest = co_await return_rest();
        // Void meanwhile: the tracker has put the rest back itself.
        if (!rest && rest.error().code != ErrorCode::stale) co_return rest;
    }
    if (pass_->frozen()) {
        ++status_.cuts_void;
        ++voids_in_row_;
    } else {
        brought_ = brought_by_pass();
    }
    put_back_requests();
    pass_.reset();
    co_return Status{};
}

}  // namespace ebb::core
