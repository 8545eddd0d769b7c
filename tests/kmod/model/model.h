// SPDX-License-Identifier: Apache-2.0
// What the disks may hold: every write with the moments between which it happened, and whether a
// state of all disks is a cut of that.
//
// Moments are *tickets* of one counter: taken before a write is issued, after it is done, before a
// cut is asked for and after it has been granted. So a smaller ticket never belongs to something
// that happened later, and "A was done before B was issued" is known where it was so.
//
// A state is a cut between `asked` and `granted` if, sector by sector,
//  - what is there was issued before `granted`;
//  - every write that had succeeded before `asked`, or before a write that is seen anywhere was
//    issued, is there, or one that was not done before it was issued;
//  - of a write that is one bio all is there, or nothing.
// A disk that lies on another one passes its writes on: each may be in the cut of the one and not
// of the other, while it is under way.
// Zeroes may come from any write of zeroes; anything may be from before all writes. A discard
// leaves zeroes, or anything on disks that do not say what. A write that failed is there or not, in
// each sector.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/sector.h"

namespace ebb::kmodmodel {

inline constexpr std::uint64_t never = ~0ull;

enum class Content : std::uint8_t { data, zeroes, discard };

struct Extent {
    std::uint32_t disk = 0;
    std::uint64_t first = 0;  // sectors
    std::uint64_t count = 0;
};

struct Write {
    Extent extent;
    Content content = Content::data;
    bool atomic = false;  // one bio: a member of a cut or not, as a whole
    bool ok = false;
    bool sent = true;         // false: perhaps refused before it was sent to the disk
    bool seen = false;        // while a cut is judged
    bool seen_below = false;  // ... on the disk on which that of the extent lies
    Extent reach = {};
    std::uint64_t issued = 0;
    std::uint64_t done = never;
};

struct Traits {
    std::uint64_t sectors = 0;
    bool discard_zeroes = false;
    bool tears = false;  // writes that overlap in time may leave a mixture in a sector
    // A part of another disk, to which nobody else writes; that lies on none.
    std::optional<std::uint32_t> lies_on = {};
    std::uint64_t lies_at = 0;  // sector of it
};

struct Cut {
    std::uint64_t asked = 0;
    std::uint64_t granted = 0;
};

using Faults = std::vector<std::string>;
// The codes of all sectors of each disk; empty: the disk is not part of the cut.
using State = std::vector<std::span<const Code>>;

class Model {
public:
    explicit Model(std::vector<Traits> disks);

    // Where what is at that place was written, if the disk passes writes on; else the place itself.
    [[nodiscard]] Place origin(Place place) const;

    [[nodiscard]] std::uint64_t ticket() { return tickets_.fetch_add(1) + 1; }
    // A write is about to be issued; returns its number.
    // `reach`: what it may touch of the disk, if that is more.
    [[nodiscard]] Code issue(const Extent& extent, Content content, bool atomic,
                             const Extent& reach = {});
    void done(Code write, bool ok, bool sent = true);
    // What a disk held before all writes, if it is not zeroes.
    void set_before(std::uint32_t disk, std::vector<Code> codes);

    // Sentences about what is wrong, at most `limit`.
    [[nodiscard]] Faults judge(const State& state, Cut cut, std::size_t limit = 5);
    // Nobody writes any more: the replica must be the disk.
    [[nodiscard]] Faults compare(std::uint32_t disk, std::span<const Code> replica,
                                 std::span<const Code> found, const char* what,
                                 std::size_t limit = 5);

    // Writes done before the ticket that were not taken before.
    [[nodiscard]] std::vector<Write> take_done(std::uint64_t before);
    // Whether a write of that disk issued before the one ticket was not done at the other.
    [[nodiscard]] bool is_busy(std::uint32_t disk, std::uint64_t before,
                               std::uint64_t since = never - 1);
    // Blocks of writes that were not done at the ticket.
    [[nodiscard]] std::vector<bool> written(std::uint32_t disk, std::uint64_t since);
    [[nodiscard]] std::string describe(Code code);
    [[nodiscard]] std::uint64_t writes();

private:
    struct Disk {
        Traits traits;
        std::vector<std::vector<Code>> history;  // of each sector, in order of issue
        std::vector<Code> before;
        struct Block {
            std::uint64_t done = 0;  // the last one
            std::uint32_t under_way = 0;
        };
        std::vector<Block> blocks;
    };
    struct Need {
        std::uint64_t issued = 0;
        Code write = 0;
    };

    // Where it comes to on the disk below.
    [[nodiscard]] std::optional<Extent> below(const Extent& extent) const;
    [[nodiscard]] bool is_seen(const Write& write, std::uint32_t disk) const;
    void see(Write& write, std::uint32_t disk);
    void add(Code code, const Extent& extent, const Extent& reach);
    [[nodiscard]] Write& at(Code write) { return writes_[write - 1]; }
    [[nodiscard]] std::string tell(Code code);
    [[nodiscard]] std::string fault_of(Place place, Code code, Cut cut);
    // Of a sector of that disk.
    [[nodiscard]] Need need(std::uint32_t disk, const std::vector<Code>& history,
                            std::uint64_t before);
    [[nodiscard]] bool explains(Place place, Code code, Need need, Cut cut);
    [[nodiscard]] bool has_discard(Place place, Need need, Cut cut);
    [[nodiscard]] bool is_torn(Place place, Need need, Cut cut);
    void forget(std::uint64_t before);
    [[nodiscard]] std::span<Disk::Block> blocks_of(const Extent& extent);

    std::atomic<std::uint64_t> tickets_{0};
    std::mutex mutex_;
    std::vector<Disk> disks_;
    std::deque<Write> writes_;
    std::vector<Code> untaken_;
};

}  // namespace ebb::kmodmodel
