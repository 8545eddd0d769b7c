// SPDX-License-Identifier: Apache-2.0
// Maps that are kept over restarts of the source machine, as docs/map-format.md has them.
#include <algorithm>

#include "tracker.h"

namespace ebb::sim {

namespace {

constexpr Block region_blocks = 4;

}  // namespace

void SourceMachine::keep_map(DiskIndex disk) {
    disks_[disk].kept = true;
}

// The region is noted before the write lands.
void SourceMachine::mark_block(Disk& disk, Block block) {
    disk.dirty.insert(block);
    if (disk.kept) disk.hot.insert(block / region_blocks);
}

std::set<Block> SourceMachine::all_maps(const Disk& disk) {
    std::set<Block> all = disk.dirty;
    for (const auto* map : {&disk.taken, &disk.left, &disk.unconfirmed})
        all.insert(map->begin(), map->end());
    return all;
}

// After a confirmation: regions that no map has a block of and that nothing is on its way to.
void SourceMachine::cool() {
    for (Disk& disk : disks_) {
        std::set<Block> hot;
        if (!cool_early) {
            for (const Block block : all_maps(disk)) hot.insert(block / region_blocks);
            for (const auto& [block, lands] : disk.lands) {
                if (lands >= executor_.now()) hot.insert(block / region_blocks);
            }
        }
        std::erase_if(disk.hot, [&](Block region) { return !hot.contains(region); });
    }
}

std::set<Block> SourceMachine::recovered(const Disk& disk, bool clean) const {
    if (!disk.kept) return {};
    std::set<Block> all;
    if (clean) {
        all = all_maps(disk);
        if (lose_sealed && !all.empty()) all.erase(all.begin());
        return all;
    }
    for (const Block region : disk.hot) {
        if (lose_region && region == *disk.hot.begin()) continue;
        for (Block i = region * region_blocks; i < (region + 1) * region_blocks; ++i) {
            if (i < blocks(disk)) all.insert(i);
        }
    }
    return all;
}

// What was in the module's memory.
void SourceMachine::forget() {
    life_->end();
    life_ = std::make_shared<Life>(executor_);
    event_ = {};
    pass_.reset();
    gate_.reset();
    held_.clear();
    note_.clear();
    in_flight_.clear();
    for (Disk& disk : disks_) {
        disk.dirty.clear();
        disk.discarded.clear();
        disk.unconfirmed.clear();
        disk.lands.clear();
        disk.taken.clear();
        disk.left.clear();
        disk.taken_discarded.clear();
        disk.preserved.clear();
        if (!fixed_incarnation && !disk.kept) disk.reasons = {"new"};
    }
    generation_ += 10;
    if (fixed_incarnation) return;
    for (auto& byte : incarnation_.bytes) byte = static_cast<std::byte>(executor_.rng.next());
}

void SourceMachine::reboot(bool clean) {
    std::vector<std::set<Block>> back;
    for (Disk& disk : disks_) {
        back.push_back(recovered(disk, clean));
        // What had not landed is lost: the application sees that after the boot.
        if (clean) {
            disk.current = disk.submitted;
        } else {
            disk.submitted = disk.current;
        }
    }
    forget();
    for (std::size_t i = 0; i < disks_.size(); ++i) {
        disks_[i].hot.clear();
        for (const Block block : back[i]) mark_block(disks_[i], block);
    }
}

void SourceMachine::detach() {
    snapshot_.clear();
    note_.clear();
    for (Disk& disk : disks_) {
        if (!disk.kept) continue;
        disk.cookie = {};
        disk.reasons.insert("detached");
    }
}

void SourceMachine::take_snapshot() {
    snapshot_ = disks_;
}

std::optional<env::Cookie> SourceMachine::cookie(bool of_snapshot) const {
    for (const Disk& disk : of_snapshot ? snapshot_ : disks_) {
        if (disk.kept) return disk.cookie;
    }
    return std::nullopt;
}

void SourceMachine::restore_snapshot() {
    const auto now = disks_;
    disks_ = snapshot_;
    for (std::size_t i = 0; i < disks_.size(); ++i) {
        if (forge_cookie) disks_[i].cookie = now[i].cookie;
        // Nobody promised what is in a discarded block, then or now.
        disks_[i].loose.insert(now[i].loose.begin(), now[i].loose.end());
    }
    reboot(false);
}

}  // namespace ebb::sim
