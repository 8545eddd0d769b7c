// SPDX-License-Identifier: Apache-2.0
#include "core/rendezvous.h"

#include <utility>

namespace ebb::core {

namespace {

MeetingPoint point_of(CutStage stage) {
    switch (stage) {
        case CutStage::ready: return MeetingPoint::ready;
        case CutStage::closed: return MeetingPoint::closed;
        case CutStage::taken: return MeetingPoint::taken;
    }
    return MeetingPoint::none;
}

MeetingPoint before(MeetingPoint point) {
    return static_cast<MeetingPoint>(static_cast<int>(point) - 1);
}

}  // namespace

Rendezvous::Rendezvous(env::Clock& clock, Terms terms, std::move_only_function<void(bool)> hold)
    : clock_(clock), terms_(terms), hold_(std::move(hold)) {}

Rendezvous::~Rendezvous() {
    if (held_) hold_(false);
}

CheckpointRequest::Common Rendezvous::request() {
    auto self = shared_from_this();
    return {terms_.gate,
            [self](CutStage stage, env::StatusCallback go) {
                self->at(point_of(stage), std::move(go));
            },
            [self](Status opened) { self->over(std::move(opened)); }};
}

void Rendezvous::prepared(env::StatusCallback go) {
    at(MeetingPoint::prepared, std::move(go));
}

void Rendezvous::at(MeetingPoint point, env::StatusCallback go) {
    if (left_) return go(std::unexpected(*left_));
    reached_ = point;
    go_ = std::move(go);
    watch();
    if (wanted_ <= reached_ && awaited_) std::exchange(awaited_, nullptr)(Status{});
    // From inside of that answer it may have been told to go on, or to leave.
    if (wanted_ > reached_) go_on();
}

void Rendezvous::over(Status opened) {
    if (std::exchange(held_, false)) hold_(false);
    if (left_) return;
    if (!opened) return leave(opened.error());
    reached_ = MeetingPoint::opened;
    if (awaited_) std::exchange(awaited_, nullptr)(Status{});
}

void Rendezvous::go_on() {
    if (!go_) return;
    if (reached_ == MeetingPoint::ready && !held_) {
        held_ = true;
        hold_(true);
    }
    std::exchange(go_, nullptr)(Status{});
}

void Rendezvous::step(MeetingPoint point, env::StatusCallback done) {
    if (left_) return done(std::unexpected(*left_));
    if (reached_ >= point) return done(Status{});
    // What a coordinator says twice reaches a daemon that was started anew, and has held nothing
    // until now: its cut would be of another moment than those of the others.
    if (point > MeetingPoint::ready && reached_ != before(point)) {
        leave({ErrorCode::stale, "this machine has begun the common cut anew", {}, {}});
        return done(std::unexpected(*left_));
    }
    if (awaited_) {
        return done(fail(ErrorCode::busy, "another step of this common cut is awaited",
                         "The cut is made again by itself"));
    }
    wanted_ = std::max(wanted_, point);
    awaited_ = std::move(done);
    go_on();
}

void Rendezvous::leave(const Error& why) {
    if (left_ || reached_ == MeetingPoint::opened) return;
    left_ = why;
    if (awaited_) std::exchange(awaited_, nullptr)(std::unexpected(why));
    if (go_) std::exchange(go_, nullptr)(std::unexpected(why));
}

// A coordinator that is gone keeps nobody.
void Rendezvous::watch() {
    const bool held = reached_ == MeetingPoint::closed || reached_ == MeetingPoint::taken;
    clock_.schedule(
        held ? terms_.gate : terms_.patience, [weak = weak_from_this(), wait = ++wait_] {
            auto self = weak.lock();
            if (!self || self->wait_ != wait || !self->go_) return;
            self->leave(
                {ErrorCode::timeout, "nothing was heard of the other machines in time", {}, {}});
        });
}

}  // namespace ebb::core
