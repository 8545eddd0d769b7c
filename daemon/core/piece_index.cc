// SPDX-License-Identifier: Apache-2.0
#include "core/piece_index.h"

#include <algorithm>
#include <iterator>

#include "base/units.h"

namespace ebb::core {

namespace {

constexpr std::size_t leaf_pieces = 128;  // a page
// Two leaves that have no more than this between them become one.
constexpr std::size_t merged_pieces = leaf_pieces / 2;
constexpr std::uint64_t sectors_max = format::undo_content_max / sector_bytes;

}  // namespace

std::uint64_t PieceIndex::place(const Packed& packed) {
    return packed.from;
}

bool PieceIndex::fits(const Piece& piece) {
    const std::uint64_t places = piece.from | piece.end | piece.entry_offset | piece.entry_length;
    if (places % sector_bytes != 0 || piece.from >= piece.end) return false;
    if (piece.end / sector_bytes >= 1ULL << 48 || piece.at >= 1ULL << 48) return false;
    if (piece.kind == format::UndoKind::zero) return true;
    return piece.entry_offset <= piece.from &&
           piece.end - piece.entry_offset <= piece.entry_length &&
           piece.entry_length <= sectors_max * sector_bytes && piece.stored < 1ULL << 20;
}

PieceIndex::Packed PieceIndex::pack(const Piece& piece) {
    Packed packed{};
    packed.from = piece.from / sector_bytes;
    packed.kind = static_cast<std::uint64_t>(piece.kind);
    packed.at = piece.at;
    packed.file = piece.file;
    if (piece.kind == format::UndoKind::zero) {
        packed.digest = piece.end - piece.from;
        return packed;
    }
    packed.digest = piece.digest;
    packed.length = (piece.end - piece.from) / sector_bytes;
    packed.before = (piece.from - piece.entry_offset) / sector_bytes;
    packed.entry_length = piece.entry_length / sector_bytes;
    packed.stored = piece.stored;
    return packed;
}

Piece PieceIndex::unpack(const Packed& packed) {
    Piece piece;
    piece.from = packed.from * sector_bytes;
    piece.kind = static_cast<format::UndoKind>(packed.kind);
    piece.at = packed.at;
    piece.file = packed.file;
    if (piece.kind == format::UndoKind::zero) {
        piece.end = piece.from + packed.digest;
        piece.entry_offset = piece.from;
        piece.entry_length = packed.digest;
        return piece;
    }
    piece.digest = packed.digest;
    piece.end = piece.from + packed.length * sector_bytes;
    piece.entry_offset = piece.from - packed.before * sector_bytes;
    piece.entry_length = packed.entry_length * sector_bytes;
    piece.stored = packed.stored;
    return piece;
}

std::vector<Piece> PieceIndex::overlapping(std::uint64_t from, std::uint64_t end) const {
    std::vector<Piece> found;
    // The last that begins at `from` or before may reach into it: in this leaf, or the one before.
    auto leaf = leaves_.upper_bound(from);
    for (int back = 0; back < 2 && leaf != leaves_.begin(); ++back) --leaf;
    for (; leaf != leaves_.end() && leaf->first < end; ++leaf) {
        const Leaf& pieces = leaf->second;
        auto at = std::ranges::upper_bound(pieces, from / sector_bytes, {}, place);
        if (at != pieces.begin()) --at;
        for (; at != pieces.end() && place(*at) * sector_bytes < end; ++at) {
            const Piece piece = unpack(*at);
            if (piece.end > from) found.push_back(piece);
        }
    }
    return found;
}

PieceIndex::Leaf PieceIndex::new_leaf() {
    Leaf leaf;
    leaf.reserve(leaf_pieces);
    return leaf;
}

// Nothing is there.
void PieceIndex::insert(const Piece& piece) {
    const Packed packed = pack(piece);
    ++size_;
    auto leaf = leaf_for(piece.from);
    if (leaf->second.size() == leaf_pieces) {
        Leaf& full = leaf->second;
        Leaf second = new_leaf();
        // What comes in ascending order leaves full leaves behind.
        const bool appends = place(full.back()) < place(packed);
        if (!appends) {
            const auto middle = full.begin() + leaf_pieces / 2;
            second.assign(middle, full.end());
            full.erase(middle, full.end());
        }
        const std::uint64_t first = appends ? piece.from : place(second.front()) * sector_bytes;
        const auto next = leaves_.emplace_hint(std::next(leaf), first, std::move(second));
        if (piece.from >= first) leaf = next;
    }
    Leaf& pieces = leaf->second;
    pieces.insert(std::ranges::upper_bound(pieces, place(packed), {}, place), packed);
}

// Where a piece that begins there belongs.
PieceIndex::Leaves::iterator PieceIndex::leaf_for(std::uint64_t from) {
    if (leaves_.empty()) return leaves_.emplace(from, new_leaf()).first;
    const auto leaf = leaves_.upper_bound(from);
    if (leaf != leaves_.begin()) return std::prev(leaf);
    auto first = leaves_.extract(leaf);
    first.key() = from;
    return leaves_.insert(std::move(first)).position;
}

void PieceIndex::erase(std::uint64_t from) {
    auto leaf = std::prev(leaves_.upper_bound(from));
    Leaf& pieces = leaf->second;
    pieces.erase(std::ranges::lower_bound(pieces, from / sector_bytes, {}, place));
    --size_;
    if (pieces.empty()) {
        leaves_.erase(leaf);
        return;
    }
    const auto next = std::next(leaf);
    if (next == leaves_.end() || pieces.size() + next->second.size() > merged_pieces) return;
    pieces.insert(pieces.end(), next->second.begin(), next->second.end());
    leaves_.erase(next);
}

void PieceIndex::clear() {
    leaves_.clear();
    size_ = 0;
}

}  // namespace ebb::core
