// SPDX-License-Identifier: Apache-2.0
// One end of the wire, played by a test.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "format/message.h"
#include "sim/network.h"

namespace ebb::core::test {

using format::FrameType;

class Peer {
public:
    explicit Peer(std::shared_ptr<sim::End> end) : end_(std::move(end)) {
        end_->start([this](env::Frame frame) { received.push_back(std::move(frame)); },
                    [this](const Error&) { closed = true; });
    }
    // Encodes `message` with the next sequence number.
    template <class... Message>
    void send(const Message&... message) {
        end_->send(format::encode(message..., sequence_++));
    }
    void send_raw(env::Frame frame) {
        ++sequence_;
        end_->send(std::move(frame));
    }
    void send_extent(const format::ExtentHead& head, const sim::Bytes& content) {
        end_->send(format::encode(head, content, 0, sequence_++));
    }
    void skip_sequence() { ++sequence_; }
    [[nodiscard]] std::uint64_t next_sequence() const { return sequence_; }
    void close() { end_->close(); }

    [[nodiscard]] static FrameType type_of(const env::Frame& frame) {
        return format::frame_of(frame)->type;
    }
    // The first frame of this type, taken out.
    [[nodiscard]] std::optional<env::Frame> take(FrameType type) {
        for (auto at = received.begin(); at != received.end(); ++at) {
            if (type_of(*at) != type) continue;
            env::Frame frame = std::move(*at);
            received.erase(at);
            return frame;
        }
        return std::nullopt;
    }
    // Of a frame of one, or of several; none of any other.
    [[nodiscard]] static std::vector<format::ExtentHead> extents_of(const env::Frame& frame) {
        std::vector<format::ExtentHead> heads;
        if (type_of(frame) == FrameType::extent)
            heads.push_back(format::decode_extent(frame)->head);
        if (type_of(frame) == FrameType::extents) {
            const auto extents = format::decode_extents(frame);
            for (const auto& extent : extents.value()) heads.push_back(extent.head);
        }
        return heads;
    }
    // All that have come, taken out.
    [[nodiscard]] std::vector<format::ExtentHead> take_extents() {
        std::vector<format::ExtentHead> heads;
        std::erase_if(received, [&](const env::Frame& frame) {
            const auto more = extents_of(frame);
            heads.insert(heads.end(), more.begin(), more.end());
            return !more.empty();
        });
        return heads;
    }
    [[nodiscard]] std::optional<ErrorCode> refusal() {
        const auto frame = take(FrameType::refused);
        if (!frame) return std::nullopt;
        return format::decode_refused(*frame)->code;
    }

    std::deque<env::Frame> received;
    bool closed = false;

private:
    std::shared_ptr<sim::End> end_;
    std::uint64_t sequence_ = 0;
};

inline void run_for(sim::Executor& executor, std::int64_t ns) {
    bool over = false;
    executor.at(ns, [&over] { over = true; });
    while (!over && executor.step()) continue;
}

constexpr std::int64_t a_second = 1'000'000'000;

}  // namespace ebb::core::test
