// SPDX-License-Identifier: Apache-2.0
// Which blocks must be in the map of a pass: those of every write since the last pass that was
// certainly sent, whether it changed anything or not, and all that came back from passes that were
// void or abandoned.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "model/model.h"

namespace ebb::kmodmodel {

using Blocks = std::vector<bool>;  // of one disk
using Maps = std::vector<Blocks>;  // of all; an empty one: the disk is not attached

class Ledger {
public:
    explicit Ledger(const std::vector<std::uint64_t>& sectors);

    // Attached: what was issued before the ticket may have gone unseen.
    void attach(std::uint32_t disk, std::uint64_t ticket);
    // ... and nothing had: the replica is the disk.
    void known(std::uint32_t disk) { disks_[disk].whole = true; }
    void detach(std::uint32_t disk);
    void mark(std::uint32_t disk, std::uint64_t first, std::uint64_t count);  // blocks
    void mark_all(std::uint32_t disk);

    // A pass is about to begin: what is marked from now on belongs to the next one.
    void begin();
    // A pass ended: `maps` had been in it, `done` are the writes done before it was asked for that
    // were not given here before. Returns what is missing.
    [[nodiscard]] Faults end(const Maps& maps, const std::vector<Write>& done, Cut cut);
    // A void pass: what its map was seen to hold comes back.
    void come_back(const Maps& maps);
    void confirm();
    void abandon();

    [[nodiscard]] bool is_attached(std::uint32_t disk) const { return disks_[disk].attached; }
    // Whether all of the disk had been marked since it was attached when the last pass began.
    [[nodiscard]] bool is_whole(std::uint32_t disk) const { return disks_[disk].whole_then; }
    [[nodiscard]] bool is_marked(std::uint32_t disk) const { return disks_[disk].whole; }
    [[nodiscard]] std::uint64_t blocks(std::uint32_t disk) const {
        return disks_[disk].must.size();
    }

private:
    struct Disk {
        Blocks must;  // in the map of the next pass
        Blocks due;   // ... of the one that goes on
        bool attached = false;
        bool whole = false;
        bool whole_then = false;
        std::uint64_t since = 0;
    };
    struct Ended {
        Maps maps;
        std::uint64_t granted = 0;
        bool confirmed = false;
    };
    [[nodiscard]] bool had(std::uint32_t disk, std::uint64_t block, std::uint64_t issued) const;

    std::vector<Disk> disks_;
    std::deque<Ended> ended_;
};

}  // namespace ebb::kmodmodel
