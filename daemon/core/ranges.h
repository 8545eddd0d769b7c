// SPDX-License-Identifier: Apache-2.0
// A set of bytes as disjoint ranges [begin, end), merged where they touch.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "base/units.h"

namespace ebb::core {

class Ranges {
public:
    void add(std::uint64_t begin, std::uint64_t end) {
        if (begin >= end) return;
        auto at = map_.upper_bound(begin);
        if (at != map_.begin() && std::prev(at)->second >= begin) {
            --at;
            begin = at->first;
        }
        while (at != map_.end() && at->first <= end) {
            if (at->second > end) end = at->second;
            bytes_ -= at->second - at->first;
            at = map_.erase(at);
        }
        map_.emplace_hint(at, begin, end);
        bytes_ += end - begin;
    }

    // Parts of [begin, end) that are not in the set, ascending.
    [[nodiscard]] std::vector<std::pair<std::uint64_t, std::uint64_t>> missing(
        std::uint64_t begin, std::uint64_t end) const {
        std::vector<std::pair<std::uint64_t, std::uint64_t>> parts;
        auto at = map_.upper_bound(begin);
        if (at != map_.begin() && std::prev(at)->second > begin) --at;
        for (; begin < end && at != map_.end() && at->first < end; ++at) {
            if (at->first > begin) parts.emplace_back(begin, at->first);
            if (at->second > begin) begin = at->second;
        }
        if (begin < end) parts.emplace_back(begin, end);
        return parts;
    }

    // Parts of [begin, end) that are in the set, ascending.
    [[nodiscard]] std::vector<std::pair<std::uint64_t, std::uint64_t>> common(
        std::uint64_t begin, std::uint64_t end) const {
        std::vector<std::pair<std::uint64_t, std::uint64_t>> parts;
        for (const auto& [from, to] : missing(begin, end)) {
            if (from > begin) parts.emplace_back(begin, from);
            begin = to;
        }
        if (begin < end) parts.emplace_back(begin, end);
        return parts;
    }

    void remove(std::uint64_t begin, std::uint64_t end) {
        if (begin >= end) return;
        auto at = map_.upper_bound(begin);
        if (at != map_.begin() && std::prev(at)->second > begin) --at;
        while (at != map_.end() && at->first < end) {
            const auto [from, to] = *at;
            bytes_ -= to - from;
            at = map_.erase(at);
            if (from < begin) {
                map_.emplace(from, begin);
                bytes_ += begin - from;
            }
            if (to > end) {
                map_.emplace(end, to);
                bytes_ += to - end;
            }
        }
    }

    [[nodiscard]] std::vector<Extent> extents() const {
        std::vector<Extent> all;
        all.reserve(map_.size());
        for (const auto& [begin, end] : map_) all.push_back({begin, end - begin, false});
        return all;
    }
    [[nodiscard]] bool any_in(std::uint64_t begin, std::uint64_t end) const {
        if (begin >= end) return false;
        const auto at = map_.upper_bound(begin);
        if (at != map_.begin() && std::prev(at)->second > begin) return true;
        return at != map_.end() && at->first < end;
    }
    // The first of it, at most `length` of it. Not of an empty one.
    [[nodiscard]] Extent front(std::uint64_t length) const {
        const auto& [begin, end] = *map_.begin();
        return {begin, end - begin < length ? end - begin : length, false};
    }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
    [[nodiscard]] bool empty() const { return map_.empty(); }
    // Of disjoint ranges: some 64 bytes of memory each.
    [[nodiscard]] std::size_t count() const { return map_.size(); }
    void clear() {
        map_.clear();
        bytes_ = 0;
    }

private:
    std::map<std::uint64_t, std::uint64_t> map_;
    std::uint64_t bytes_ = 0;
};

// Of all disks together.
[[nodiscard]] inline std::uint64_t bytes_of(const std::vector<Ranges>& disks) {
    std::uint64_t sum = 0;
    for (const Ranges& ranges : disks) sum += ranges.bytes();
    return sum;
}

}  // namespace ebb::core
