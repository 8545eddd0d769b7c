// SPDX-License-Identifier: Apache-2.0
// What outlives the machine under test, in a folder of the host: of each disk the replica, made of
// confirmed epochs alone, and what its map in the map area may hold.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "model/ledger.h"

namespace ebb::kmodmodel {

enum class Tracked : std::uint8_t {
    never,
    yes,
    perhaps,  // a command about it was under way
    no,       // it was detached
};

// How the disk's map area was left.
enum class Area : std::uint8_t { sealed, in_use, perhaps };

class Keep {
public:
    explicit Keep(std::string folder) : folder_(std::move(folder)) {}
    ~Keep();
    Keep(const Keep&) = delete;
    Keep& operator=(const Keep&) = delete;

    [[nodiscard]] bool open(const std::vector<std::uint64_t>& sectors);

    // Before blocks are written or marked: their regions may be noted as hot from now on. Any
    // thread.
    void touch(std::uint32_t disk, std::uint64_t first, std::uint64_t count);
    // All regions are cold, in the area too.
    void all_cold();
    [[nodiscard]] bool is_touched(std::uint32_t disk, std::uint64_t first, std::uint64_t count);

    // Nobody writes until the machine goes down: what its sealed maps may hold, to a block.
    void set_exact(const Maps& may);
    void forget_exact();
    [[nodiscard]] bool is_exact() const { return state_.exact != 0; }
    [[nodiscard]] bool may_hold(std::uint32_t disk, std::uint64_t block) const {
        return disks_[disk].may[block] != 0;
    }

    // The replica, by blocks. Those that were discarded may differ from the disk.
    void put(std::uint32_t disk, std::uint64_t block, const std::byte* data, std::uint64_t count);
    void discard(std::uint32_t disk, std::uint64_t block);
    // Blocks in which the disk (open for direct reads) and its replica differ; empty: no reading.
    [[nodiscard]] Blocks differing(std::uint32_t disk, int direct);

    [[nodiscard]] Tracked tracked(std::uint32_t disk) const { return state_.tracked[disk]; }
    void set_tracked(std::uint32_t disk, Tracked tracked);
    [[nodiscard]] Area area(std::uint32_t disk) const { return state_.area[disk]; }
    void set_area(std::uint32_t disk, Area area);
    void set_areas(Area area);  // of all disks

    // Numbers of confirmations: of the last one that was asked for, and that was answered.
    [[nodiscard]] std::uint64_t asked() const { return state_.asked; }
    [[nodiscard]] std::uint64_t answered() const { return state_.answered; }
    std::uint64_t ask();
    void answer();

private:
    static constexpr std::size_t most_disks = 8;
    struct State {
        std::array<Tracked, most_disks> tracked;
        std::array<Area, most_disks> area;
        std::uint64_t exact;
        std::uint64_t asked;
        std::uint64_t answered;
    };
    using Bytes = std::vector<std::uint8_t>;  // one for each block
    struct Disk {
        std::uint64_t sectors = 0;
        int replica = -1;
        int discarded_file = -1, touched_file = -1, may_file = -1;
        Bytes discarded, touched, may;
    };

    [[nodiscard]] int open_file(const std::string& name) const;
    [[nodiscard]] bool open_bytes(const std::string& name, std::uint64_t count, int& file,
                                  Bytes& bytes) const;
    void save();

    std::string folder_;
    std::mutex mutex_;  // of what is touched
    std::vector<Disk> disks_;
    State state_ = {};
    int state_file_ = -1;
};

}  // namespace ebb::kmodmodel
