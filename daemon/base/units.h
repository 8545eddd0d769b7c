// SPDX-License-Identifier: Apache-2.0
// Units and small shapes that every layer shares. Positions and lengths are bytes, always.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>

namespace ebb {

// Tracking granularity, equal to EBB_BLOCK_SECTORS * 512 of the kernel interface.
inline constexpr std::uint64_t block_bytes = 4096;
inline constexpr std::uint64_t sector_bytes = 512;
// Alignment of memory, offset and length of direct I/O.
inline constexpr std::size_t direct_io_alignment = 4096;

using Duration = std::chrono::nanoseconds;

// Monotonic: only differences mean something, and only within one process.
struct MonoTime {
    std::int64_t ns = 0;
    friend auto operator<=>(const MonoTime&, const MonoTime&) = default;
    friend MonoTime operator+(MonoTime t, Duration d) { return {t.ns + d.count()}; }
    friend Duration operator-(MonoTime a, MonoTime b) { return Duration{a.ns - b.ns}; }
};

// Nanoseconds since 1970 UTC, as CLOCK_REALTIME of the machine that took it.
struct WallTime {
    std::int64_t ns = 0;
    friend auto operator<=>(const WallTime&, const WallTime&) = default;
};

struct Uuid {
    std::array<std::byte, 16> bytes{};
    friend auto operator<=>(const Uuid&, const Uuid&) = default;
};

// A range of one disk. `discarded`: the content is indeterminate since a discard.
struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool discarded = false;

    [[nodiscard]] std::uint64_t end() const { return offset + length; }
    friend bool operator==(const Extent&, const Extent&) = default;
};

// Position of a disk in its machine's list of protected disks, fixed for a protection.
using DiskIndex = std::uint32_t;

}  // namespace ebb
