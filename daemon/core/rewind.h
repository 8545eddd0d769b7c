// SPDX-License-Identifier: Apache-2.0
// Takes the disks of a machine that is failed over from one of its points to another, there and
// back: docs/disk-format.md, "Rewinding". Each block that differs is read and written once. Slices
// of a move are read, saved and written side by side (rewind_slices.cc).
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "core/journal.h"
#include "core/task.h"
#include "env/cpus.h"
#include "env/disk.h"

namespace ebb::core {

class Rewind {
public:
    struct Limits {
        std::uint64_t slice_bytes;    // read, computed, overwritten as one, at most
        std::uint64_t save_bytes;     // of slices that are synced together, at most
        std::size_t slices;           // as many bytes as so many of them in memory, at most
        std::uint64_t chapter_bytes;  // whose places in the journal are in memory
        std::size_t depth;
        int compression;
    };

    Rewind(std::vector<env::Disk*> disks, env::Volume& volume, env::Cpus& cpus, Journal& journal,
           Limits limits)
        : disks_(std::move(disks)),
          volume_(volume),
          cpus_(cpus),
          journal_(journal),
          limits_(limits) {}

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

    // Of a move of so many bytes. What is read last is saved, and then written, when nothing is
    // read any more: long slices make a short move longer, and short ones make many syncs.
    [[nodiscard]] static std::uint64_t slice_length(std::uint64_t bytes, std::uint64_t most);

    static constexpr const char* file_name = "rewind.ebb";

private:
    [[nodiscard]] Task<Status> start_file();
    [[nodiscard]] Task<Status> note(format::RecordType type, format::Payload payload,
                                    std::string_view site);
    [[nodiscard]] Task<Status> check_space(std::vector<Ranges> wanted);
    void forget_tables();
    // By disk: what has undo between two points. Their tables are kept.
    [[nodiscard]] Task<Result<std::vector<Ranges>>> between(std::uint64_t a, std::uint64_t b);
    // Puts the content of `to` where `wanted` is. Saves what is there before, if `save`.
    [[nodiscard]] Task<Result<std::uint64_t>> put_point(std::uint64_t to,
                                                        std::vector<Ranges> wanted, bool save);
    // Between which places of each disk a record has anything.
    class Bounds {
    public:
        explicit Bounds(std::size_t disks) : disks_(disks, {UINT64_MAX, 0}) {}
        void add(const format::UndoEntry& entry) {
            auto& [from, to] = disks_[entry.disk];
            from = std::min(from, entry.offset);
            to = std::max(to, entry.end());
        }
        [[nodiscard]] bool touch(const std::vector<Ranges>& wanted) const {
            for (std::size_t i = 0; i < disks_.size(); ++i) {
                if (wanted[i].any_in(disks_[i].first, disks_[i].second)) return true;
            }
            return false;
        }

    private:
        std::vector<std::pair<std::uint64_t, std::uint64_t>> disks_;
    };
    using Table = std::vector<format::UndoEntry>;
    // Of a closed file: which, and where in it.
    using TableKey = std::pair<EpochSpan, std::uint64_t>;
    // A record of undo.
    struct Source {
        UndoReader reader;
        std::optional<TableKey> key;   // none: of rewind.ebb
        std::optional<Bounds> bounds;  // once its table has been read
    };
    // Of some records, side by side.
    [[nodiscard]] Task<Status> add_tables(std::span<const std::pair<TableKey, UndoReader>> records,
                                          std::vector<Ranges>& all);
    // Its table, for as long as `read` lives.
    [[nodiscard]] Task<Result<const Table*>> table_of(Source& source, Table& read);
    // A part of a disk, from where to where, that gets content of an entry. Parts do not overlap.
    struct Part {
        format::UndoEntry entry;
        std::uint32_t source = 0;  // whose entry
        std::uint32_t write = 0;   // of the slice, which this is in
        std::uint64_t from = 0;
        std::uint64_t to = 0;
        [[nodiscard]] auto place() const { return std::pair(entry.disk, from); }
        [[nodiscard]] std::uint64_t bytes() const { return to - from; }
    };
    // Parts of one record whose content is read at once.
    struct Run {
        std::span<const Part> parts;
        std::shared_ptr<UndoRun> stored;
    };
    // In proportion to what is wanted of each disk.
    [[nodiscard]] static std::vector<Ranges> take_first(std::vector<Ranges>& wanted,
                                                        std::uint64_t bytes);
    // Deals the parts of a chapter out into slices.
    class Deal;
    [[nodiscard]] Task<Status> gather(Source& source, std::uint32_t index,
                                      std::vector<Ranges>& wanted, std::uint64_t slice_bytes,
                                      std::vector<Part>& parts);
    // A part of a disk that gets content, or zeroes.
    struct Write {
        DiskIndex disk = 0;
        std::uint64_t from = 0;
        std::uint64_t to = 0;
        bool zero = false;
        Buffer content;
    };
    // A part of a disk that is to be overwritten, and whose content is not in the file.
    struct Saving {
        DiskIndex disk = 0;
        std::uint64_t at = 0;
        std::uint64_t length = 0;
        std::shared_ptr<Buffer> content;  // from `content_at` on, which neighbours share
        std::uint64_t content_at = 0;
        [[nodiscard]] std::uint64_t end() const { return at + length; }
    };
    // Who computes shares it; nobody else looks at it meanwhile.
    struct Slice {
        Slice(std::size_t disks, std::size_t depth) : read_new(depth) {
            for (std::size_t i = 0; i < disks; ++i) read_old.emplace_back(depth);
        }
        std::uint64_t bytes = 0;
        std::vector<Part> parts;  // the order of the disks, and then that of the journal
        std::vector<Run> runs;    // of the parts
        std::vector<Saving> saved;
        std::vector<Write> writes;
        // What is read, under way: by disk, and of the journal.
        std::deque<Together> read_old;
        Together read_new;
        // Of what is saved, instead of it; empty: nothing is.
        std::vector<format::UndoEntry> entries;
        format::RecordBytes record;
        format::Digest128 payload{};  // of the record
    };
    using SlicePtr = std::shared_ptr<Slice>;
    // Slices that wait for a stage.
    struct Queue {
        std::deque<SlicePtr> slices;
        bool last = false;  // no more will come
        Signal changed;
        void put(SlicePtr slice) {
            slices.push_back(std::move(slice));
            changed.notify();
        }
        void end() {
            last = true;
            changed.notify();
        }
    };
    // Slices on their way, one after the other, through four stages side by side: what they are to
    // have is asked for, and what they have; when it has come, of that a record is made; it is
    // saved; they are written.
    struct Stages {
        Queue asked, made, saved;
        std::uint64_t in_memory = 0;  // bytes
        std::uint64_t slice_bytes = 0;
        std::uint64_t written = 0;
        Status status;  // the first error, after which no stage begins anything
        Signal room;
        void fail(Error error) {
            if (status) status = std::unexpected(std::move(error));
            // Those that were asked for have to come: who asks says which is the last.
            for (Queue* queue : {&made, &saved}) queue->end();
            room.notify();
        }
    };
    // The next one; none: all have come.
    [[nodiscard]] static Task<SlicePtr> next(Queue& queue);
    [[nodiscard]] Task<void> ask_stage(Stages& stages, std::vector<Source>& sources,
                                       std::vector<Ranges> wanted, bool save);
    [[nodiscard]] Task<void> make_stage(Stages& stages);
    [[nodiscard]] Task<void> save_stage(Stages& stages);
    [[nodiscard]] Task<void> write_stage(Stages& stages);
    [[nodiscard]] Task<Status> read_chapter(Stages& stages, std::vector<Source>& sources,
                                            std::vector<Ranges> chapter, bool save);
    // Goes back when all of it is under way.
    [[nodiscard]] Task<void> ask(std::vector<Source>& sources, SlicePtr slice, bool save);
    [[nodiscard]] static std::vector<Write> writes_of(std::span<Part> parts);
    [[nodiscard]] Task<void> ask_new(std::vector<Source>& sources, SlicePtr slice);
    [[nodiscard]] std::vector<Run> runs_of(std::span<const Part> parts) const;
    [[nodiscard]] std::vector<Saving> not_saved(std::span<const Part> parts) const;
    // All disks side by side. `bridged`: over what is not wanted, where that costs less than a
    // request.
    [[nodiscard]] Task<void> ask_old(std::span<Saving> saved, std::deque<Together>& reads,
                                     bool bridged);
    [[nodiscard]] Task<void> ask_disk(std::span<Saving> saved, Together& reads, bool bridged);
    // When it has come.
    [[nodiscard]] Task<Status> finish_reads(SlicePtr slice);
    [[nodiscard]] Task<Status> compute(SlicePtr slice);
    [[nodiscard]] static Status unpack(Slice& slice);
    [[nodiscard]] static Status unpack(const Run& run, std::vector<Write>& writes);
    static void make_record(Slice& slice, int compression);
    // Their records, one after the other, and one sync.
    [[nodiscard]] Task<Status> save(std::span<const SlicePtr> slices);
    [[nodiscard]] Task<Status> write(SlicePtr slice);
    [[nodiscard]] Task<Status> write_disk(SlicePtr slice, std::span<const Write> writes);
    // `wanted`: what is between both points.
    [[nodiscard]] Task<Result<std::uint64_t>> carry_out(format::MoveRecord move,
                                                        std::vector<Ranges> wanted);
    // There was no room for it: the disks go back, and it never was.
    [[nodiscard]] Task<Status> take_back(format::MoveRecord move, std::vector<Ranges> wanted);
    [[nodiscard]] Task<Status> flush();
    [[nodiscard]] std::uint64_t newest() const { return journal_.closed().back().epoch; }

    std::vector<env::Disk*> disks_;
    env::Volume& volume_;
    env::Cpus& cpus_;
    Journal& journal_;
    Limits limits_;
    // What a move reads to know what it concerns, as far as it fits, until it is over.
    std::map<TableKey, Table> tables_;
    std::size_t table_entries_ = 0;
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
