// SPDX-License-Identifier: Apache-2.0
// Takes the disks of a machine that is failed over from one of its points to another, there and
// back: docs/disk-format.md, "Rewinding". Each block that differs is read and written once.
#pragma once

#include <optional>
#include <vector>

#include "base/buffer.h"
#include "core/journal.h"
#include "core/task.h"
#include "env/disk.h"

namespace ebb::core {

class Rewind {
public:
    struct Limits {
        std::uint64_t slice_bytes = 16ULL << 20;
        std::size_t depth = 32;
        int compression = 1;
    };

    Rewind(std::vector<env::Disk*> disks, env::Volume& volume, Journal& journal, Limits limits)
        : disks_(std::move(disks)), volume_(volume), journal_(journal), limits_(limits) {}

    // After Journal::open(). A move that was begun is finished by resume().
    [[nodiscard]] Task<Status> open();
    [[nodiscard]] bool under_way() const { return move_.has_value(); }
    [[nodiscard]] Task<Status> finish_move();
    // The point whose content the disks have.
    [[nodiscard]] std::uint64_t point() const { return point_.value_or(newest()); }
    // There was a move since the failover.
    [[nodiscard]] bool begun() const { return file_.has_value(); }
    // Bytes written. The machine is failed over and the open epoch taken back. E_NOT_FOUND: there
    // is no such point; E_NO_SPACE: the disks are where they were.
    [[nodiscard]] Task<Result<std::uint64_t>> move(std::uint64_t to);
    // Bytes that a move would write.
    [[nodiscard]] Task<Result<std::uint64_t>> cost(std::uint64_t to);
    // At the newest point: forgets that there was a move.
    [[nodiscard]] Task<Status> end();

    static constexpr const char* file_name = "rewind.ebb";

private:
    [[nodiscard]] Task<Status> start_file();
    [[nodiscard]] Task<Status> note(format::RecordType type, format::Payload payload,
                                    std::string_view site);
    [[nodiscard]] Task<Status> check_space(std::vector<Ranges> wanted);
    // By disk: what has undo between two points.
    [[nodiscard]] Task<Result<std::vector<Ranges>>> between(std::uint64_t a, std::uint64_t b);
    // Puts the content of `to` where `wanted` is. Saves what is there before, if `save`.
    [[nodiscard]] Task<Result<std::uint64_t>> put_point(std::uint64_t to,
                                                        std::vector<Ranges> wanted, bool save);
    // Parts of a disk, by begin and end, that get the content of an entry.
    struct Piece {
        format::UndoEntry entry;
        std::vector<std::pair<std::uint64_t, std::uint64_t>> parts;
    };
    // Of several records, so that many small ones cost no more than a large one. Parts do not
    // overlap.
    struct Slice {
        struct Record {
            UndoReader reader;
            std::vector<Piece> pieces;
        };
        std::vector<Record> records;
        std::uint64_t bytes = 0;
    };
    // What a record has of `wanted` goes over to the slice.
    [[nodiscard]] Task<Status> gather(UndoReader reader, std::vector<Ranges>& wanted, Slice& slice);
    [[nodiscard]] Task<Status> put(Slice slice, bool save);
    [[nodiscard]] Task<Status> put_pieces(UndoReader& reader, std::span<const Piece> pieces,
                                          Together& writes);
    // A part of a disk that is to be overwritten, and whose content is not in the file.
    struct Saving {
        DiskIndex disk = 0;
        std::uint64_t at = 0;
        std::uint64_t length = 0;
        std::shared_ptr<Buffer> content;
    };
    [[nodiscard]] std::vector<Saving> not_saved(const Slice& slice) const;
    [[nodiscard]] Task<Status> save(const Slice& slice);
    [[nodiscard]] Task<Status> append_saved(format::UndoWriter& writer);
    [[nodiscard]] Task<Result<std::uint64_t>> carry_out(format::MoveRecord move);
    // There was no room for it: the disks go back, and it never was.
    [[nodiscard]] Task<Status> take_back(format::MoveRecord move, std::vector<Ranges> wanted);
    [[nodiscard]] Task<Status> flush();
    [[nodiscard]] std::uint64_t newest() const { return journal_.closed().back().epoch; }

    std::vector<env::Disk*> disks_;
    env::Volume& volume_;
    Journal& journal_;
    Limits limits_;
    std::optional<RecordFile> file_;
    std::vector<Ranges> saved_;           // by disk: its content at the newest point is in the file
    std::vector<UndoRecord> undo_;        // where
    std::optional<std::uint64_t> point_;  // none: the newest
    std::optional<format::MoveRecord> move_;  // begun, and not arrived
    // As it was before that.
    struct Before {
        RecordFile file;
        std::vector<Ranges> saved;
        std::vector<UndoRecord> undo;
    };
    Before before_;
};

}  // namespace ebb::core
