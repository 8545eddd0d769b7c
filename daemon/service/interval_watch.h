// SPDX-License-Identifier: Apache-2.0
// When it is worth an event that points are further apart than was asked for, or are not any more.
// Pure: what is seen, and when, is given.
#pragma once

#include <cstdint>

namespace ebb::service {

class IntervalWatch {
public:
    // What was told last: between cuts; 0: that the interval is kept.
    explicit IntervalWatch(std::uint64_t told_ms = 0) : told_ms_(told_ms) {}

    // `seen_ms`: between cuts now; 0: the interval is kept. True: that is to be told. Something is
    // when it has lasted, and is twice or half of what was told, or there was nothing to tell.
    [[nodiscard]] bool see(std::uint64_t seen_ms, std::int64_t now_ns);
    [[nodiscard]] std::uint64_t told_ms() const { return told_ms_; }

    static constexpr std::int64_t longer_after_ns = 15'000'000'000;
    static constexpr std::int64_t kept_after_ns = 60'000'000'000;

private:
    std::uint64_t told_ms_;
    std::int64_t since_ns_ = 0;  // it is otherwise than was told; 0: it is not
};

}  // namespace ebb::service
