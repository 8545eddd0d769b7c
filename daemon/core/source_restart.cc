// SPDX-License-Identifier: Apache-2.0
// What the source knows after a restart of the machine from the cookies of maps that survived it.
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

// Before anything of the epoch, and of each pass, is sent. What is sent later than the state that a
// disk is put back to is then seen to be so.
Task<Status> Source::Impl::keep_cookie() {
    const bool lasting = std::ranges::any_of(
        tracked_, [](const env::TrackedDisk& disk) { return disk.cookie.has_value(); });
    if (!lasting) co_return Status{};
    Op<void> kept;
    tracker_.keep(cookie(confirmed_), kept.callback());
    auto status = co_await kept;
    if (!status) co_return fail(ErrorCode::io, "the map's cookie: " + status.error().message);
    co_return Status{};
}

}  // namespace ebb::core
