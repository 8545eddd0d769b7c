// SPDX-License-Identifier: Apache-2.0
// Reads the disks as they were at a retained point, while replication goes on: the oldest undo
// after the point, where there is any, else the disk. Nothing is ever written.
//
// An index says where which undo is. It is made of the tables of the undo records, streaming, and
// kept true: undo is noted in it before what it holds is overwritten, so that a read of the disk
// that looks at the index once more when it has come back knows whether it came too late.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "core/journal.h"
#include "core/piece_index.h"
#include "core/task.h"
#include "env/disk.h"

namespace ebb::core {

// All are needed: the simulator leaves out one after the other, and must notice.
struct PointReaderRules {
    bool pin = true;           // the point is not given up while it is served
    bool note_undo = true;     // undo is noted before what it holds is overwritten
    bool look_again = true;    // at the index, when the disk has been read
    bool oldest_first = true;  // of two that hold the same block
    bool follow_merges = true;
};

struct PointReaderStatus {
    std::uint64_t epoch = 0;
    std::uint64_t serving = 0;  // of a point that is served: the how many-th of the target's
    bool ready = false;
    std::uint64_t index_bytes = 0;  // of memory
    std::uint64_t reads = 0;
    std::uint64_t repeated = 0;  // parts of them that were overwritten meanwhile
    std::uint64_t merges_followed = 0;
    std::optional<Error> error;  // it was given up, and why
};

class PointReader {
public:
    struct Limits {
        std::uint64_t index_bytes = 256ULL << 20;
        std::size_t depth = 32;
    };

    // The point is one of journal.closed(), and stays so. `only`, by disk: nothing else will be
    // read, nor is it indexed; empty: everything.
    PointReader(std::uint64_t epoch, std::vector<env::Disk*> disks, env::Volume& volume,
                const Journal& journal, Limits limits, PointReaderRules rules,
                std::vector<Ranges> only = {})
        : disks_(std::move(disks)),
          volume_(volume),
          journal_(journal),
          limits_(limits),
          rules_(rules),
          only_(std::move(only)),
          index_(disks_.size()) {
        status_.epoch = epoch;
    }
    PointReader(const PointReader&) = delete;
    PointReader& operator=(const PointReader&) = delete;

    // Reads all tables after the point; note_undo() and follow() may be called meanwhile. Ready
    // then, or given up.
    [[nodiscard]] Task<void> build();
    // Of the open epoch, before any of it is overwritten.
    void note_undo(const EpochSpan& span, const UndoRecord& record,
                   const std::vector<format::UndoEntry>& entries);
    // `merged` stands for files that are still there, and go when this is done.
    [[nodiscard]] Task<void> follow(ClosedEpoch merged);
    // Whole sectors within the disk. E_BUSY: not ready; E_CORRUPT: the undo that is wanted is
    // damaged; else the reason why it was given up. What of it came from the journal, not from the
    // disk. Several may be under way.
    [[nodiscard]] Task<Result<Ranges>> read(DiskIndex disk, std::uint64_t offset,
                                            std::shared_ptr<Buffer> into);
    // The first reason stays. Reads that are under way end with it.
    void give_up(Error why);
    [[nodiscard]] const PointReaderStatus& status() const { return status_; }
    [[nodiscard]] bool given_up() const { return status_.error.has_value(); }

private:
    struct File {
        EpochSpan span;
        std::uint64_t pieces = 0;
    };
    struct Part {
        std::uint64_t from = 0;
        std::uint64_t to = 0;
    };
    struct Found {
        std::vector<std::pair<Part, Piece>> undo;
        std::vector<Part> disk;
    };
    struct Unpacked {
        std::uint32_t file = 0;
        std::uint64_t at = 0;
        std::shared_ptr<std::vector<std::byte>> content;
    };

    [[nodiscard]] std::uint32_t file_of(const EpochSpan& span);
    void put(std::uint32_t file, const UndoRecord& record, const format::UndoEntry& entry);
    [[nodiscard]] bool older(const Piece& piece, std::uint32_t file) const;
    [[nodiscard]] bool is_closed(const EpochSpan& span) const;
    [[nodiscard]] const ClosedEpoch* closed_after(std::uint64_t epoch) const;
    // Of a file that may be merged away meanwhile: what is left of it then counts no more.
    [[nodiscard]] Task<Status> take_file(ClosedEpoch closed);
    [[nodiscard]] Task<Status> take_open(std::size_t& taken);
    [[nodiscard]] Found find(DiskIndex disk, const std::vector<Part>& parts) const;
    [[nodiscard]] bool is_current(DiskIndex disk, const Part& part, const Piece& piece) const;
    [[nodiscard]] Task<Status> fetch(DiskIndex disk, Part part, Piece piece, std::uint64_t offset,
                                     std::shared_ptr<Buffer> into);
    [[nodiscard]] Task<Result<std::shared_ptr<std::vector<std::byte>>>> unpacked(Piece piece);

    std::vector<env::Disk*> disks_;
    env::Volume& volume_;
    const Journal& journal_;
    const Limits limits_;
    const PointReaderRules rules_;
    const std::vector<Ranges> only_;
    PointReaderStatus status_;
    std::vector<PieceIndex> index_;  // by disk
    std::vector<File> files_;
    std::map<EpochSpan, std::uint32_t> numbers_;  // of files
    std::deque<Unpacked> recent_;
};

}  // namespace ebb::core
