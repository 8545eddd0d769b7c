// SPDX-License-Identifier: Apache-2.0
// A replica of all disks made from released ranges alone: as codes, as of the last pass that ended
// and as of the last epoch that was confirmed.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "model/sector.h"

namespace ebb::kmodmodel {

using BlockCodes = std::array<Code, sectors_of_block>;

class Replica {
public:
    explicit Replica(const std::vector<std::uint64_t>& sectors);

    void apply(std::uint32_t disk, std::uint64_t block, const BlockCodes& codes);
    void confirm();
    void abandon();
    // The replica is the disk, which holds that.
    void load(std::uint32_t disk, const std::vector<Code>& codes);
    // The disk was detached: nothing is known of it any more.
    void lose(std::uint32_t disk);
    [[nodiscard]] std::span<const Code> state(std::uint32_t disk) const { return disks_[disk].now; }

private:
    struct Disk {
        std::vector<Code> confirmed;
        std::vector<Code> now;
        std::vector<std::uint64_t> changed;  // blocks, since the confirmation
    };
    static void copy(Disk& disk, std::vector<Code>& to, const std::vector<Code>& from);
    std::vector<Disk> disks_;
};

}  // namespace ebb::kmodmodel
