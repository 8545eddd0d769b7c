// SPDX-License-Identifier: Apache-2.0
#include "model/replica.h"

#include <algorithm>

namespace ebb::kmodmodel {

Replica::Replica(const std::vector<std::uint64_t>& sectors) {
    for (std::uint64_t count : sectors)
        disks_.push_back(
            {std::vector<Code>(count, code_unsent), std::vector<Code>(count, code_unsent), {}});
}

void Replica::apply(std::uint32_t disk, std::uint64_t block, const BlockCodes& codes) {
    Disk& d = disks_[disk];
    std::uint64_t first = block * sectors_of_block;
    std::uint64_t count = std::min<std::uint64_t>(sectors_of_block, d.now.size() - first);
    std::copy_n(codes.begin(), count, d.now.begin() + static_cast<std::ptrdiff_t>(first));
    d.changed.push_back(block);
}

void Replica::copy(Disk& disk, std::vector<Code>& to, const std::vector<Code>& from) {
    for (std::uint64_t block : disk.changed) {
        std::uint64_t end = std::min<std::uint64_t>((block + 1) * sectors_of_block, to.size());
        for (std::uint64_t s = block * sectors_of_block; s < end; ++s) to[s] = from[s];
    }
    disk.changed.clear();
}

void Replica::confirm() {
    for (auto& disk : disks_) copy(disk, disk.confirmed, disk.now);
}

void Replica::abandon() {
    for (auto& disk : disks_) copy(disk, disk.now, disk.confirmed);
}

void Replica::load(std::uint32_t disk, const std::vector<Code>& codes) {
    Disk& d = disks_[disk];
    d.changed.clear();
    d.confirmed = d.now = codes;
}

void Replica::lose(std::uint32_t disk) {
    Disk& d = disks_[disk];
    d.changed.clear();
    std::ranges::fill(d.confirmed, code_unsent);
    std::ranges::fill(d.now, code_unsent);
}

}  // namespace ebb::kmodmodel
