// SPDX-License-Identifier: Apache-2.0
#include "network.h"

#include <algorithm>
#include <utility>

#include "format/message.h"

namespace ebb::sim {

void End::send(env::Frame frame) {
    if (!open_ || silent_) return;
    if (corrupt_per_thousand != 0 && executor_.rng.below(1000) < corrupt_per_thousand)
        damage_content(frame);
    if (frame.size() > 5 &&
        frame[5] == std::byte{static_cast<std::uint8_t>(format::FrameType::compared)}) {
        look_at_answer(frame);
    }
    switch (std::exchange(next_frame, Disorder::none)) {
        case Disorder::twice:
            ++faults_.hits["frame-twice"];
            transmit(frame);
            return transmit(std::move(frame));
        case Disorder::swapped: overtaken_ = std::move(frame); return;
        default: break;
    }
    transmit(std::move(frame));
    if (!overtaken_) return;
    ++faults_.hits["frames-swapped"];
    transmit(*std::exchange(overtaken_, std::nullopt));
}

void End::transmit(env::Frame frame) {
    arrives_ = std::max(arrives_, executor_.now()) + 10'000 +
               static_cast<std::int64_t>(executor_.rng.below(500'000));
    executor_.at(arrives_ - executor_.now(), [other = other_, data = std::move(frame)]() mutable {
        if (auto end = other.lock()) end->deliver(std::move(data));
    });
}

// Content alone: the rest is what TLS is for.
void End::damage_content(env::Frame& frame) {
    std::vector<std::span<const std::byte>> contents;
    const auto header = format::frame_of(frame);
    if (header && header->type == format::FrameType::extent) {
        if (const auto extent = format::decode_extent(frame)) contents.push_back(extent->stored);
    } else if (header && header->type == format::FrameType::extents) {
        if (const auto extents = format::decode_extents(frame)) {
            for (const auto& extent : *extents) contents.push_back(extent.stored);
        }
    }
    std::erase_if(contents, [](const auto& content) { return content.empty(); });
    if (contents.empty()) return;
    ++faults_.hits["damaged-content"];
    const auto content = contents[executor_.rng.below(contents.size())];
    const auto at = content.data() - frame.data() +
                    static_cast<std::ptrdiff_t>(executor_.rng.below(content.size()));
    frame[static_cast<std::size_t>(at)] ^= std::byte{1};
}

void End::look_at_answer(env::Frame& frame) {
    const auto answer = format::decode_compared(frame);
    if (!answer) return;
    const bool same = answer->verdict == format::Verdict::same;
    ++faults_.hits[same ? "compared-same" : "compared-differs"];
    if (!faults_.always_same) return;
    frame = format::encode(format::Compared{answer->id, format::Verdict::same, {}},
                           format::frame_of(frame)->sequence);
}

void End::deliver(env::Frame frame) {
    if (executor_.now() < held_until_) {
        executor_.at(held_until_ - executor_.now(),
                     [self = shared_from_this(), late = std::move(frame)]() mutable {
                         self->deliver(std::move(late));
                     });
        return;
    }
    if (superseded_ && on_frame_) {
        // It was on its way up when the connection was given up: whoever has another one is told.
        ++faults_.hits["late-frame"];
        on_frame_(std::move(frame));
        return;
    }
    if (!open_ || silent_) return;
    if (paused_ || !on_frame_) {
        waiting_.push_back(std::move(frame));
    } else {
        on_frame_(std::move(frame));
    }
}

void End::start(std::move_only_function<void(env::Frame)> frame,
                std::move_only_function<void(Error)> closed) {
    on_frame_ = std::move(frame);
    on_closed_ = std::move(closed);
    resume();
}

void End::resume() {
    paused_ = false;
    executor_.at(0, [weak = weak_from_this()] {
        auto self = weak.lock();
        while (self && self->open_ && !self->paused_ && self->on_frame_ &&
               !self->waiting_.empty()) {
            env::Frame frame = std::move(self->waiting_.front());
            self->waiting_.pop_front();
            self->on_frame_(std::move(frame));
        }
    });
}

void End::ended() {
    if (!open_) return;
    open_ = false;
    executor_.at(100'000, [weak = weak_from_this()] {
        auto self = weak.lock();
        if (!self || !self->on_closed_) return;
        auto closed = std::move(self->on_closed_);
        self->on_closed_ = {};
        closed(Error{ErrorCode::closed, "simulated break", {}, {}});
    });
}

void End::close() {
    if (!open_) return;
    if (overtaken_) transmit(*std::exchange(overtaken_, std::nullopt));
    std::int64_t last = std::max(arrives_, executor_.now()) + 1000;
    // Behind what arrives late.
    if (auto other = other_.lock()) last = std::max(last, other->held_until_ + 1000);
    ended();
    if (silent_) return;
    executor_.at(last - executor_.now(), [other = other_] {
        if (auto end = other.lock()) end->ended();
    });
}

void End::break_now() {
    auto other = other_.lock();
    ended();
    if (other && !silent_) other->ended();
}

void End::fall_silent() {
    silent_ = true;
    if (auto other = other_.lock()) other->silent_ = true;
}

void End::die() {
    on_frame_ = {};
    on_closed_ = {};
    break_now();
}

std::shared_ptr<End> Network::connect() {
    if (!up || !listener) return nullptr;
    auto a = std::make_shared<End>(executor_, faults_);
    auto b = std::make_shared<End>(executor_, faults_);
    a->other_ = b;
    b->other_ = a;
    a->dials_ = true;
    a->corrupt_per_thousand = corrupt_per_thousand;
    for (auto& weak : ends_) {
        if (auto end = weak.lock()) end->superseded_ = true;
    }
    ends_.push_back(a);
    ends_.push_back(b);
    listener(b);
    return a;
}

void Network::fall_silent() {
    for (auto& weak : ends_) {
        if (auto end = weak.lock()) end->fall_silent();
    }
    ends_.clear();
}

void Network::stall(std::int64_t ns) {
    for (auto& weak : ends_) {
        auto end = weak.lock();
        if (end && !end->dials_) end->held_until_ = executor_.now() + ns;
    }
}

void Network::disorder(Disorder disorder) {
    std::vector<std::shared_ptr<End>> open;
    for (auto& weak : ends_) {
        auto end = weak.lock();
        if (end && end->open_) open.push_back(std::move(end));
    }
    if (!open.empty()) open[executor_.rng.below(open.size())]->next_frame = disorder;
}

void Network::hang_up() {
    for (auto& weak : ends_) {
        auto end = weak.lock();
        if (end && end->dials_) end->close();
    }
}

void Network::break_all() {
    for (auto& weak : ends_) {
        if (auto end = weak.lock()) end->break_now();
    }
    ends_.clear();
}

}  // namespace ebb::sim
