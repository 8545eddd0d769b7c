// SPDX-License-Identifier: Apache-2.0
// The target of one protection: applies epochs to the replica's disks so that at any instant,
// whatever crashes, the newest closed epoch can be had. Keeps the undo journal of
// docs/disk-format.md in `volume`, a directory of its own on the retention volume.
//
// Threads: as env/env.h. Callbacks given here run on the executor, never from inside the call.
// The object may not be destroyed from inside one of its callbacks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "core/closing_budget.h"
#include "core/point_reader.h"
#include "core/retention.h"
#include "env/cpus.h"
#include "env/disk.h"
#include "env/net.h"
#include "env/volume.h"
#include "format/message.h"

namespace ebb::core {

struct TargetDisk {
    std::string source_id;   // stable id of the disk on the source
    std::string target_id;   // stable id of the disk here: binds the journal to it
    std::uint64_t size = 0;  // bytes of the source's disk; ours may be larger
};

struct TargetConfig {
    Uuid protection;
    std::vector<TargetDisk> disks;
    std::uint64_t session = 0;  // a source with an older one is fenced
    // The journal is not made: there has been one.
    bool must_exist = false;
    // Closings that fit what is left of it wait in memory until they are whole.
    std::shared_ptr<ClosingBudget> closing_budget = std::make_shared<ClosingBudget>(128ULL << 20);
    std::uint64_t batch_bytes = 16ULL << 20;        // written and synced as one, at most
    std::uint64_t rewind_bytes = 16ULL << 20;       // the same of a rewind
    std::uint64_t rewind_save_bytes = 16ULL << 20;  // of slices that one sync is for
    std::size_t rewind_slices = 4;                  // of so many bytes on their way, in memory
    // Of a rewind, whose places in the journal are in memory: 80 bytes for each 4 KiB at most.
    std::uint64_t rewind_chapter_bytes = 4ULL << 30;
    // Of points that are merged, places whose undo is known: some 80 bytes each.
    std::uint64_t merge_chapter_blocks = 1ULL << 20;
    std::uint64_t window_bytes = 64ULL << 20;          // granted to the source
    std::uint16_t version = format::protocol_version;  // of the wire, at most
    std::uint64_t io_depth = 128;                      // operations under way at once
    RetentionPolicy retention;
    int undo_compression = 1;                    // level of zstd; 0: none
    std::uint64_t reserve_bytes = 256ULL << 20;  // left free on the volume
    Duration space_retry = std::chrono::seconds(5);
    // After older points could not be merged; longer each time, up to the maximum.
    Duration merge_retry = std::chrono::seconds(60);
    Duration merge_retry_max = std::chrono::hours(1);
    Duration silence_limit = std::chrono::seconds(30);
    std::uint64_t serve_index_bytes = 256ULL << 20;   // of memory, for each point that is served
    std::size_t served_points = 8;                    // at most
    std::uint64_t certify_bytes = 16ULL << 20;        // of a point, being read back at once
    std::size_t certify_reads = 16;                   // in so many reads, at most
    std::uint64_t certify_index_bytes = 64ULL << 20;  // of memory, for a part of the disks
    std::size_t certify_ranges = 1U << 18;            // the same: places, some 64 bytes each
    PointReaderRules reader_rules;
};

struct Point {
    std::uint64_t epoch = 0;
    std::string name;
    WallTime cut_time;             // source's clock
    WallTime closed_time;          // ours
    std::uint64_t bytes = 0;       // of extents in the epoch
    std::uint64_t undo_bytes = 0;  // to go back from it to the one before
    std::uint64_t unreadable_bytes = 0;
    format::PointKind kind = format::PointKind::crash;
    std::optional<format::CommonCut> common{};  // that it is of
};

enum class TargetState {
    closed,   // open() not called or not done
    waiting,  // for a source
    receiving,
    no_space,     // paused: the volume is full of what may not be given up
    failed_over,  // rolled back to a point, no source accepted
    error,        // `error` says what; a disk or the volume failed, or the journal is damaged
};

struct TargetStatus {
    TargetState state = TargetState::closed;
    std::uint64_t session = 0;
    std::uint64_t open_epoch = 0;  // 0: none
    bool has_point = false;
    Point newest;  // if has_point
    std::uint64_t points = 0;
    std::uint64_t retention_bytes = 0;
    std::uint64_t rollback_bytes = 0;  // to write, if failed over now
    std::uint64_t point = 0;           // epoch of the disks' content, if failed over
    bool merging = false;              // points are being given up just now
    std::uint64_t bytes_received = 0;  // since open(), uncompressed
    Error error;                       // also of points that cannot be merged: replication goes on
    bool has_error = false;
    std::vector<PointReaderStatus> served;
};

struct FailoverResult {
    Point point;
    std::uint64_t rolled_back_bytes = 0;  // of the open epoch
    std::uint64_t rewound_bytes = 0;      // from one point to another
};

// What was read back of the extents of which a point was made, as the disks were at that point.
struct CertifiedPoint {
    Point point;
    format::Sha256 chain{};  // of the journal, after the point
    VerifiedJournal journal;
    bool merged = false;  // several epochs: of what was sent the last word is known alone
    bool whole = false;   // of all retained epochs up to the point, not of its own alone
    std::uint64_t extents = 0;
    std::uint64_t bytes = 0;             // of them
    std::uint64_t equal_bytes = 0;       // read back: the digest is that of the source's memory
    std::uint64_t journal_bytes = 0;     // of these, from the journal: overwritten since the point
    std::uint64_t superseded_bytes = 0;  // sent again, or in part, before the point was closed
    std::uint64_t disk_bytes = 0;        // of the machine
    std::uint64_t discarded_bytes = 0;
    std::uint64_t unreadable_bytes = 0;  // the source could not read them
    std::uint64_t different_bytes = 0;   // read back, and the digest is another one
    std::uint64_t undigested_bytes = 0;  // changed, and merged so that no digest of them is left
};

// What a retention directory says about whom it belongs to: the mark by which a disk with data is
// recognised as ours.
struct Ownership {
    Uuid protection;
    std::vector<TargetDisk> disks;
};

class Target {
public:
    // The environment must outlive the Target; `disks` in DiskIndex order.
    Target(TargetConfig config, std::vector<env::Disk*> disks, env::Volume& volume,
           env::Clock& clock, env::Cpus& cpus);
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;
    ~Target();

    // Recovers the journal, or makes it on an empty volume. E_REFUSED: it belongs to another
    // protection or to other disks; E_RETENTION_LOST: it must exist and does not; E_CORRUPT.
    void open(env::StatusCallback done);
    // A connection of a source, authenticated as one that may speak for this protection. Takes
    // the place of the one before. Not before open() is done.
    // `first`: the frame that was read already to see whom it is for (HELLO), or empty.
    void accept(std::shared_ptr<env::Connection> connection, env::Frame first = {});
    // Fences sources with a session older than `session`, rolls the open epoch back and keeps
    // further ones out; the disks then have the newest point. May be called again, and leaves the
    // disks at the point where they are. E_NOT_FOUND: there is no recovery point.
    void failover(std::uint64_t session, env::Callback<FailoverResult> done);
    // While failed over: the disks get the content of another point, older or newer. E_NOT_FOUND;
    // E_REFUSED: not failed over; E_NO_SPACE: what would be overwritten cannot be kept, the disks
    // are where they were. What it would write: point_cost().
    void change_point(std::uint64_t epoch, env::Callback<FailoverResult> done);
    void point_cost(std::uint64_t epoch, env::Callback<std::uint64_t> done);
    // Back from failover to waiting for a source with at least the failover's session. The disks go
    // to the newest point first.
    void resume(env::StatusCallback done);
    // Oldest first.
    [[nodiscard]] std::vector<Point> points() const;
    // The point bears this name from now on, durably; empty: none, and it is given up as others
    // are. Also while failed over. E_NOT_FOUND; E_NO_SPACE: all is as it was.
    void name_point(std::uint64_t epoch, std::string name, env::Callback<Point> done);
    // The point is of that cut of several machines from now on, durably; else as name_point().
    // Those that are common are thinned among themselves.
    void mark_common(std::uint64_t epoch, format::CommonCut common, env::Callback<Point> done);
    // Gives up points by age and space now (it is also done at each close), but for what is merged:
    // that goes on beside everything else.
    void trim(env::StatusCallback done);
    // Reads the whole journal, while everything goes on; nothing is given up meanwhile but, where
    // the volume is full, the oldest points.
    void verify(env::Callback<VerifiedJournal> done);
    // The disks as of a point can be read, while replication goes on, until unserve(). Meanwhile
    // the point is not given up; where a volume is full and nothing else can be, serving ends
    // before replication would pause. It ends at a failover, too, and when the journal has to be
    // read again: status().served says why. `ready` when the index is made; a point that is served
    // already is no error. E_NOT_FOUND; E_REFUSED: failed over; E_BUSY: too many.
    void serve(std::uint64_t epoch, env::StatusCallback ready);
    // Whole sectors within the source's disk. May be called while others are under way.
    void read_served(std::uint64_t epoch, DiskIndex disk, std::uint64_t offset,
                     std::shared_ptr<Buffer> into, env::StatusCallback done);
    // Reads that are under way are not answered. One that is not served is no error.
    void unserve(std::uint64_t epoch, env::StatusCallback done);
    // Reads the whole journal, and what was sent of the point as it was then: from the disks, or
    // from the journal where it was overwritten since; all while everything goes on. `whole`: also
    // what was sent of the points before it that are retained, and was not written again. 0: the
    // newest. E_NOT_FOUND; E_BUSY; E_REFUSED: failed over; E_IO.
    void certify(std::uint64_t epoch, bool whole, env::Callback<CertifiedPoint> done);
    // Ends the connection and lets what is under way finish; nothing may be called afterwards.
    void close(env::StatusCallback done);
    [[nodiscard]] TargetStatus status() const;

    // E_NOT_FOUND: no journal there.
    static void read_ownership(env::Volume& volume, env::Callback<Ownership> done);
    // Deletes the journal: the points are gone, the disks stay as they are (commit, disable).
    static void erase(env::Volume& volume, env::StatusCallback done);

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace ebb::core
