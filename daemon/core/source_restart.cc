// SPDX-License-Identifier: Apache-2.0
// What the source knows after a restart of the machine from the cookies of maps that survived it,
// and after one of the daemon alone from the note that the one before it left with the module.
#include <algorithm>
#include <optional>
#include <tuple>

#include "core/source_impl.h"

namespace ebb::core {

namespace {

bool is_empty(const env::Cookie& cookie) {
    return std::ranges::all_of(cookie, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

// The one under which the disks' maps have come down to us; without such maps that of the module's
// load. Disks without a map that lasts have a reason for a resync when the module was loaded anew.
Uuid Source::Impl::lasting_incarnation(const Uuid& loaded) const {
    std::optional<format::MapCookie> newest;
    for (const env::TrackedDisk& disk : tracked_) {
        if (!disk.cookie || !disk.resync_reasons.empty()) continue;
        const auto cookie = format::decode_map_cookie(*disk.cookie);
        if (!cookie || cookie->protection != config_.protection) continue;
        const auto age = [](const format::MapCookie& c) {
            return std::tuple(c.closed, c.begun, c.pass);
        };
        if (!newest || age(*newest) < age(*cookie)) newest = cookie;
    }
    return newest ? newest->incarnation : loaded;
}

// Whether the target has what a map takes it to have (docs/map-format.md).
bool Source::Impl::in_step(const format::MapCookie& cookie) const {
    const format::Welcome& there = *welcome_;
    if (cookie.incarnation != incarnation_) return false;
    const bool unheard = cookie.begun != 0 && cookie.closes && there.closed_epoch == cookie.begun;
    if (!unheard && there.closed_epoch != cookie.closed) return false;
    // An epoch that the map does not know has been begun after it: something of it may be there.
    if (there.open.epoch == 0) return true;
    return !unheard && there.open.epoch == cookie.begun && there.open.pass <= cookie.pass;
}

// A map that is older than the target, or newer, does not know what to send: its disk has a gap.
void Source::Impl::find_stale_maps() {
    for (env::TrackedDisk& disk : tracked_) {
        // One that is new, and never was relied on, has every block in it.
        if (!disk.cookie || is_empty(*disk.cookie)) continue;
        const auto cookie = format::decode_map_cookie(*disk.cookie);
        if (!cookie || cookie->protection != config_.protection) {
            disk.resync_reasons.emplace_back("map-of-another-protection");
        } else if (!in_step(*cookie)) {
            disk.resync_reasons.emplace_back("map-out-of-step");
        }
    }
}

env::Cookie Source::Impl::cookie(std::uint64_t closed) const {
    format::MapCookie cookie;
    cookie.protection = config_.protection;
    cookie.incarnation = incarnation_;
    cookie.closed = closed;
    if (closed != epoch_) {
        cookie.begun = epoch_;
        cookie.pass = pass_ ? pass_->number : last_pass_;
        cookie.closes = pass_ && pass_->frozen();
    }
    return format::encode(cookie);
}

// That the target has had, closed, as far as anything tells.
std::uint64_t Source::Impl::newest_confirmed() const {
    std::uint64_t newest = confirmed_;
    for (const env::TrackedDisk& disk : tracked_) {
        if (!disk.cookie) continue;
        const auto cookie = format::decode_map_cookie(*disk.cookie);
        if (cookie && cookie->protection == config_.protection)
            newest = std::max(newest, cookie->closed);
    }
    return newest;
}

// When the tracker is met for the first time: then maps in its memory are as a note says.
void Source::Impl::take_note() {
    left_.reset();
    foreign_note_ = false;
    if (tracked_.empty() || tracked_.front().note.empty()) return;
    const auto note = format::decode_source_note(tracked_.front().note);
    foreign_note_ = !note || note->cookie.protection != config_.protection;
    if (foreign_note_) return;
    left_ = note;
    incarnation_ = note->cookie.incarnation;
    confirmed_ = note->cookie.closed;
    brought_.reset();
    if (note->brought) {
        brought_ = {note->brought_run, note->pass, note->count, note->sent, note->chain, note->run};
    }
}

// Why the target is not where the daemon before this one had left it; empty: it is.
std::string Source::Impl::out_of_step() const {
    if (foreign_note_) return "what was tracked was for another protection, or version";
    if (left_ && !in_step(left_->cookie)) return "the target is not where it was left";
    return {};
}

// What the pass adds to what the target must still have, once it is over and let go of. Of one of
// which nothing was acknowledged the target may have no note.
std::optional<Source::Impl::Brought> Source::Impl::brought_by_pass() const {
    if (pass_->acknowledged == 0) return brought_;
    return Brought{run_,           pass_->number,      pass_->acknowledged,
                   pass_->count(), pass_->chain.value, run_};
}

// Before the tracker is told to rely on it.
Task<Status> Source::Impl::leave_note(env::Cookie cookie, std::optional<Brought> brought) {
    format::SourceNote note;
    note.cookie = *format::decode_map_cookie(cookie);
    note.run = run_;
    note.brought = brought.has_value();
    if (brought) {
        note.brought_run = brought->run;
        note.pass = brought->pass;
        note.count = brought->count;
        note.sent = brought->sent;
        note.chain = brought->chain;
    }
    Op<void> left;
    tracker_.leave_note(format::encode(note), left.callback());
    auto status = co_await left;
    if (!status) co_return fail(ErrorCode::io, "the tracker's note: " + status.error().message);
    co_return Status{};
}

Task<Status> Source::Impl::end_pass() {
    auto status = co_await leave_note(cookie(confirmed_), brought_by_pass());
    if (!status) co_return status;
    Op<void> ended;
    tracker_.end_pass(pass_->info.id, ended.callback());
    status = co_await ended;
    pass_->ended = status.has_value();
    co_return status;
}

// Before anything of the epoch, and of each pass, is sent. What is sent later than the state that a
// disk is put back to is then seen to be so.
Task<Status> Source::Impl::keep_cookie() {
    auto status = co_await leave_note(cookie(confirmed_), brought_);
    if (!status) co_return status;
    const bool lasting = std::ranges::any_of(
        tracked_, [](const env::TrackedDisk& disk) { return disk.cookie.has_value(); });
    if (!lasting) co_return Status{};
    Op<void> kept;
    tracker_.keep(cookie(confirmed_), kept.callback());
    status = co_await kept;
    if (!status) co_return fail(ErrorCode::io, "the map's cookie: " + status.error().message);
    co_return Status{};
}

}  // namespace ebb::core
