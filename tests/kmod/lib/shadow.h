// SPDX-License-Identifier: Apache-2.0
// What a region of a disk must hold, kept in memory by the one who writes it: the judge of a disk
// that does not ask the module.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/direct.h"

namespace ebb::kmodtest {

class Shadow {
public:
    // `bytes` of the disk from `first` on; as it is now, read with direct I/O.
    [[nodiscard]] bool take(int direct, std::uint64_t first, std::uint64_t bytes);

    [[nodiscard]] std::uint64_t first() const { return first_; }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

    // Positions are those of the disk.
    void wrote(std::uint64_t at, std::span<const std::byte> data);
    void zeroed(std::uint64_t at, std::uint64_t length);
    // Its content may be anything until it is written again, sector by sector.
    void unknown(std::uint64_t at, std::uint64_t length);

    // Positions of blocks of 4 KiB in which the disk holds something else, read with direct I/O;
    // all of them if it cannot be read.
    [[nodiscard]] std::vector<std::uint64_t> differing(int direct) const;

private:
    static constexpr std::uint64_t sector = 512;

    [[nodiscard]] bool read(int direct, std::uint64_t at, std::byte* to,
                            std::uint64_t length) const;
    [[nodiscard]] bool same(std::uint64_t at, const std::byte* found, std::uint64_t length) const;

    std::uint64_t first_ = 0;
    std::uint64_t bytes_ = 0;
    Aligned content_;
    std::vector<bool> unknown_;  // by sector
};

}  // namespace ebb::kmodtest
