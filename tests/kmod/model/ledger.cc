// SPDX-License-Identifier: Apache-2.0
#include "model/ledger.h"

#include <algorithm>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::text;

constexpr std::size_t remembered = 16;  // passes that a slow write may have been part of

}  // namespace

Ledger::Ledger(const std::vector<std::uint64_t>& sectors) {
    for (std::uint64_t count : sectors) {
        Blocks none((count + sectors_of_block - 1) / sectors_of_block);
        disks_.push_back({none, none});
    }
}

void Ledger::attach(std::uint32_t disk, std::uint64_t ticket) {
    detach(disk);
    disks_[disk].attached = true;
    disks_[disk].since = ticket;
}

void Ledger::detach(std::uint32_t disk) {
    Disk& d = disks_[disk];
    d.attached = d.whole = d.whole_then = false;
    d.must.assign(d.must.size(), false);
    d.due = d.must;
    for (auto& ended : ended_) ended.maps[disk].clear();
}

void Ledger::mark(std::uint32_t disk, std::uint64_t first, std::uint64_t count) {
    Blocks& must = disks_[disk].must;
    for (std::uint64_t b = first; b < first + count && b < must.size(); ++b) must[b] = true;
}

void Ledger::mark_all(std::uint32_t disk) {
    mark(disk, 0, disks_[disk].must.size());
    disks_[disk].whole = true;
}

void Ledger::begin() {
    for (auto& d : disks_) {
        for (std::uint64_t b = 0; b < d.must.size(); ++b) d.due[b] = d.due[b] || d.must[b];
        d.must.assign(d.must.size(), false);
        d.whole_then = d.whole;
    }
}

// Whether a pass that ended after the write was issued had the block.
bool Ledger::had(std::uint32_t disk, std::uint64_t block, std::uint64_t issued) const {
    return std::ranges::any_of(ended_, [&](const Ended& e) {
        return e.granted > issued && !e.maps[disk].empty() && e.maps[disk][block];
    });
}

Faults Ledger::end(const Maps& maps, const std::vector<Write>& done, Cut cut) {
    Faults faults;
    ended_.push_back({maps, cut.granted});
    for (const auto& w : done) {
        const Extent& e = w.extent;
        if (!w.sent || !disks_[e.disk].attached || w.issued <= disks_[e.disk].since) continue;
        std::uint64_t last = (e.first + e.count - 1) / sectors_of_block;
        for (std::uint64_t b = e.first / sectors_of_block; b <= last; ++b)
            if (!had(e.disk, b, w.issued) && faults.size() < 5)
                faults.push_back(
                    text("disk %u block %llu: in no map, but written (tickets %llu to "
                         "%llu, %s; cut: %llu to %llu)",
                         e.disk, static_cast<unsigned long long>(b),
                         static_cast<unsigned long long>(w.issued),
                         static_cast<unsigned long long>(w.done), w.ok ? "ok" : "failed",
                         static_cast<unsigned long long>(cut.asked),
                         static_cast<unsigned long long>(cut.granted)));
    }
    for (std::uint32_t d = 0; d < disks_.size(); ++d) {
        if (maps[d].empty()) continue;
        Blocks& due = disks_[d].due;
        for (std::uint64_t b = 0; b < due.size() && faults.size() < 5; ++b)
            if (due[b] && !maps[d][b])
                faults.push_back(text("disk %u block %llu: was to come back, and is not in the map",
                                      d, static_cast<unsigned long long>(b)));
        due.assign(due.size(), false);
    }
    while (ended_.size() > remembered && ended_.front().confirmed) ended_.pop_front();
    return faults;
}

void Ledger::come_back(const Maps& maps) {
    for (std::uint32_t d = 0; d < disks_.size(); ++d)
        for (std::uint64_t b = 0; b < maps[d].size(); ++b)
            if (maps[d][b]) disks_[d].must[b] = true;
}

void Ledger::confirm() {
    for (auto& ended : ended_) ended.confirmed = true;
}

void Ledger::abandon() {
    for (const auto& ended : ended_)
        if (!ended.confirmed) come_back(ended.maps);
    std::erase_if(ended_, [](const Ended& e) { return !e.confirmed; });
}

}  // namespace ebb::kmodmodel
