// SPDX-License-Identifier: Apache-2.0
// What one sector holds: 512 bytes that name the write that put them there, and a code for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ebb::kmodmodel {

inline constexpr std::size_t sector_bytes = 512;
inline constexpr std::uint64_t sectors_of_block = 8;

// A write's number (from 1), or one of these.
using Code = std::uint64_t;
inline constexpr Code code_zero = 0;
inline constexpr Code code_discarded = 1ull << 62;     // the map said so; the content was not read
inline constexpr Code code_unsent = (1ull << 62) + 1;  // nothing ever came here
inline constexpr Code code_damaged = 1ull << 63;       // with a hash of what is there

[[nodiscard]] constexpr bool is_write(Code code) {
    return code != 0 && code < code_discarded;
}

struct Place {
    std::uint32_t disk = 0;
    std::uint64_t sector = 0;
};

// `run` tells the runs of a test apart: what is left of an earlier one counts as damage.
void sector_fill(std::byte* to, std::uint64_t run, Place place, std::uint64_t write);
[[nodiscard]] Code sector_read(const std::byte* from, std::uint64_t run, Place place);

// For sentences.
[[nodiscard]] std::string code_name(Code code);

}  // namespace ebb::kmodmodel
