// SPDX-License-Identifier: Apache-2.0
#include "model/bound.h"

#include <algorithm>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

void merge(Blocks& to, const Blocks& from) {
    for (std::uint64_t b = 0; b < from.size(); ++b)
        if (from[b]) to[b] = true;
}

void clear(Blocks& blocks) {
    blocks.assign(blocks.size(), false);
}

}  // namespace

Bound::Bound(const std::vector<std::uint64_t>& sectors) {
    for (std::uint64_t count : sectors) {
        Blocks none((count + sectors_of_block - 1) / sectors_of_block);
        disks_.push_back({none, none, none});
    }
}

void Bound::attach(std::uint32_t disk, std::uint64_t ticket) {
    Disk& d = disks_[disk];
    for (Blocks* blocks : {&d.current, &d.pass, &d.unconfirmed}) clear(*blocks);
    d.since = ticket;
}

void Bound::mark(std::uint32_t disk, std::uint64_t first, std::uint64_t count) {
    Blocks& current = disks_[disk].current;
    std::uint64_t end = std::min<std::uint64_t>(first + count, current.size());
    for (std::uint64_t b = first; b < end; ++b) current[b] = true;
}

void Bound::mark(std::uint32_t disk, const Blocks& blocks) {
    merge(disks_[disk].current, blocks);
}

void Bound::begin(const Maps& written, Cut cut, bool whole) {
    for (std::uint32_t d = 0; d < disks_.size(); ++d) {
        Disk& disk = disks_[d];
        merge(disk.pass, disk.current);
        merge(disk.pass, written[d]);
        if (whole) disk.pass.assign(disk.pass.size(), true);
        clear(disk.current);
        disk.since = std::max(disk.since, cut.asked);
    }
}

Faults Bound::end(const Maps& seen) {
    Faults faults;
    for (std::uint32_t d = 0; d < disks_.size(); ++d) {
        Disk& disk = disks_[d];
        for (std::uint64_t b = 0; b < seen[d].size() && faults.size() < 5; ++b)
            if (seen[d][b] && !disk.pass[b])
                faults.push_back(kmodtest::text(
                    "disk %u block %llu: in the map, but neither written nor marked since the last "
                    "pass",
                    d, static_cast<unsigned long long>(b)));
        merge(disk.unconfirmed, disk.pass);
        clear(disk.pass);
    }
    return faults;
}

void Bound::come_back() {
    for (auto& disk : disks_) {
        merge(disk.current, disk.pass);
        clear(disk.pass);
    }
}

void Bound::confirm() {
    for (auto& disk : disks_) clear(disk.unconfirmed);
}

void Bound::abandon() {
    for (auto& disk : disks_) {
        merge(disk.current, disk.unconfirmed);
        clear(disk.unconfirmed);
    }
}

Blocks Bound::all(std::uint32_t disk, const Blocks& written) const {
    Blocks out = written;
    const Disk& d = disks_[disk];
    for (const Blocks* blocks : {&d.current, &d.pass, &d.unconfirmed}) merge(out, *blocks);
    return out;
}

}  // namespace ebb::kmodmodel
