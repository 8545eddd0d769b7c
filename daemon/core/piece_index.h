// SPDX-License-Identifier: Apache-2.0
// Where the undo of a disk's blocks is: parts of entries of undo records, by place, none twice. In
// memory, and made for millions: sorted leaves of packed pieces, some 48 bytes each (pack() tells
// what of 32 they take; leaves are two thirds full where places come in no order).
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "format/undo.h"

namespace ebb::core {

// Part of an entry of an undo record. Whole sectors, of a disk of less than 128 PiB.
struct Piece {
    std::uint64_t from = 0;  // on the disk
    std::uint64_t end = 0;
    std::uint64_t entry_offset = 0;  // of zeroes: as good as `from`
    std::uint64_t entry_length = 0;
    std::uint64_t at = 0;  // of what is stored, in the file
    std::uint64_t stored = 0;
    std::uint64_t digest = 0;  // of zeroes: 0
    std::uint32_t file = 0;    // a number of the caller's
    format::UndoKind kind = format::UndoKind::content;
};

class PieceIndex {
public:
    static constexpr std::uint64_t piece_bytes = 48;

    // Whether put() can hold it.
    [[nodiscard]] static bool fits(const Piece& piece);
    // In place of whatever is there of `piece`. `count(file, n)`: so many pieces more, or fewer,
    // are of that file.
    template <class Count>
    void put(const Piece& piece, Count count) {
        for (const Piece& there : overlapping(piece.from, piece.end)) {
            erase(there.from);
            count(there.file, -1);
            for (const auto& [from, end] :
                 {std::pair(there.from, piece.from), std::pair(piece.end, there.end)}) {
                if (from >= end) continue;
                Piece rest = there;
                rest.from = from;
                rest.end = end;
                insert(rest);
                count(rest.file, 1);
            }
        }
        insert(piece);
        count(piece.file, 1);
    }
    // Ascending; the first and the last may reach beyond.
    [[nodiscard]] std::vector<Piece> overlapping(std::uint64_t from, std::uint64_t end) const;
    [[nodiscard]] std::uint64_t size() const { return size_; }
    void clear();

private:
    struct Packed {
        std::uint64_t digest;     // of zeroes: the length in bytes
        std::uint64_t from : 48;  // sectors from here on, but for `at` and `stored`
        std::uint64_t length : 9;
        std::uint64_t kind : 2;
        std::uint64_t at : 48;
        std::uint64_t before : 8;  // of the entry
        std::uint64_t file : 32;
        std::uint64_t entry_length : 9;
        std::uint64_t stored : 20;
    };
    static_assert(sizeof(Packed) == 32);
    using Leaf = std::vector<Packed>;
    using Leaves = std::map<std::uint64_t, Leaf>;

    [[nodiscard]] static Packed pack(const Piece& piece);
    [[nodiscard]] static Piece unpack(const Packed& packed);
    [[nodiscard]] static Leaf new_leaf();
    [[nodiscard]] static std::uint64_t place(const Packed& packed);
    [[nodiscard]] Leaves::iterator leaf_for(std::uint64_t from);
    void insert(const Piece& piece);
    void erase(std::uint64_t from);

    // By place: their pieces begin there or behind it, and before the next one's. None is empty.
    Leaves leaves_;
    std::uint64_t size_ = 0;
};

}  // namespace ebb::core
