// SPDX-License-Identifier: Apache-2.0
// The source of one protection: takes what the tracker marked and brings it to the target in
// epochs, over whatever connection it can get. Survives every break of the connection and every
// void pass by itself; ends only by stop(), or by being fenced.
//
// Threads: as env/env.h. Callbacks given here run on the executor, never from inside the call.
// The object may not be destroyed from inside one of its callbacks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env/cpus.h"
#include "env/net.h"
#include "env/tracker.h"
#include "format/message.h"

namespace ebb::core {

struct SourceDisk {
    std::string stable_id;
    std::uint64_t size = 0;  // bytes
};

struct SourceConfig {
    Uuid protection;
    std::uint64_t session = 0;                    // fencing number given by the controller
    std::vector<SourceDisk> disks;                // in DiskIndex order, the same as the tracker's
    bool full = false;                            // begin with everything, whatever the map says
    bool compare = false;                         // with `full`: what the target has is not sent
    Duration interval = std::chrono::seconds(5);  // of cuts; zero: on demand only
    std::uint32_t extent_bytes = 1 << 20;         // largest extent, a multiple of block_bytes
    std::uint64_t window_bytes = 64 << 20;        // sent and not acknowledged
    std::uint32_t reads_in_flight = 16;
    // More dirty than this at the time of a cut: live passes come first.
    std::uint64_t frozen_limit_bytes = 256ULL << 20;
    std::uint32_t live_passes_max = 8;  // in a row, then a frozen one whatever its size
    // Likewise when it is expected at the time of the cut: live passes go ahead of it. What is
    // dirty is looked at so often in an interval; 0: none go ahead.
    std::uint32_t looks_ahead = 8;
    std::uint32_t sampled_ahead = 64;   // one block in so many, of what those passes bring again
    std::size_t samples_ahead = 65536;  // some 64 bytes each; where there would be more: of fewer
    int compression = 1;                // zstd level; 0: off
    std::uint16_t version = format::protocol_version;   // of the wire, at most
    Duration silence_limit = std::chrono::seconds(30);  // without a frame: connection given up
    Duration retry_min = std::chrono::milliseconds(200);
    Duration retry_max = std::chrono::seconds(10);
    Duration heartbeat = std::chrono::seconds(1);  // of the owner to the tracker during a pass
};

enum class SourceState {
    stopped,
    connecting,
    initial_sync,  // the target has no recovery point yet, or everything is sent anew after a gap
    replicating,
    fenced,  // refused for ever: this machine was failed over from
    error,   // `error` says what; keeps trying
};

// Source and replica are compared, block by block, each at some cut, while both go on.
struct VerifyRequest {
    bool repair = false;                      // what differs travels with the next epoch
    std::uint64_t bytes_per_s = 0;            // read of the source's disks; 0: as fast as it goes
    std::uint64_t slice_bytes = 32ULL << 20;  // between two epochs at least
};

enum class DifferenceKind {
    differs,
    persists,          // was repaired, and differs again
    unreadable,        // the source's disk
    unreadable_there,  // the replica
    unsettled,         // written to all the time: no statement
};

struct Difference {
    DifferenceKind kind = DifferenceKind::differs;
    DiskIndex disk = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct VerifyResult {
    // Each block was compared at the point of one of these epochs.
    std::uint64_t first_epoch = 0;
    std::uint64_t last_epoch = 0;
    WallTime cut_time;                    // of the last
    std::uint64_t equal_bytes = 0;        // also of what was repaired
    std::uint64_t discarded_bytes = 0;    // nobody promised what is there
    std::uint64_t repaired_bytes = 0;     // found to differ, and equal since
    std::uint64_t different_bytes = 0;    // of all kinds below
    std::vector<Difference> differences;  // the first of them, found before a repair too
};
inline constexpr std::size_t differences_max = 256;

struct VerifyProgress {
    bool running = false;
    std::uint64_t bytes_total = 0;
    std::uint64_t bytes_done = 0;
};

// Why cuts are further apart than the interval asks for.
enum class Pace {
    kept,          // they are not
    on_demand,     // no interval is asked for
    disconnected,  // there is no connection to the target
    target_waits,  // `notice` says for what
    quiescing,     // applications are being brought to rest, or other machines waited for
    voids,         // cuts had to be given up
    link,          // bringing a cut to the target takes longer
};

struct SourceStatus {
    SourceState state = SourceState::stopped;
    bool connected = false;
    bool pass_open = false;
    env::PassKind pass_kind = env::PassKind::live;
    std::uint64_t pass_bytes_total = 0;
    std::uint64_t pass_bytes_done = 0;     // acknowledged
    std::uint64_t bytes_acknowledged = 0;  // since start, uncompressed
    std::uint64_t bytes_wire = 0;          // since start, payload as sent
    // Of the resync that goes on, or was last: acknowledged; `same` of them were at the target.
    std::uint64_t compared_bytes = 0;
    std::uint64_t same_bytes = 0;
    std::uint64_t compare_left_bytes = 0;  // not sent yet, and to be compared if it can be
    std::uint64_t open_epoch = 0;          // 0: none
    std::uint64_t closed_epoch = 0;        // newest known to be closed on the target; 0: none
    WallTime last_cut;                     // of closed_epoch
    std::uint64_t cuts_begun = 0;
    std::uint64_t cuts_closed = 0;
    std::uint64_t cuts_void = 0;
    std::uint64_t passes_ahead = 0;        // live ones, begun before their cut was due
    std::uint64_t passes_ahead_again = 0;  // of them: brought again what another had brought
    std::uint64_t samples_ahead = 0;       // of what they have brought for this cut, in memory
    std::uint64_t reconnects = 0;
    std::uint64_t digest_mismatches = 0;  // since a cut was closed; from the third on an error
    // Times that the target did not have any more what it had acknowledged of live passes: none,
    // if its disks keep what they have flushed and nobody puts them back.
    std::uint64_t live_acks_lost = 0;
    std::uint64_t unreadable_bytes = 0;  // of the newest closed epoch
    // Of the last frozen pass.
    std::uint64_t held = 0;
    Duration held_max{0};
    std::uint64_t preserved = 0;
    // Why everything is, or was last, sent anew; empty: never.
    std::vector<std::string> resync_reasons;
    Error error;  // meaningful if has_error
    bool has_error = false;
    VerifyProgress verify;
    std::optional<Error> notice;  // what the target said it waits for, such as a full volume
    Duration interval{0};         // that is asked for
    // Of the newest closed epoch: from its begin to the word that it is closed; and acknowledged.
    Duration epoch_time{0};
    std::uint64_t epoch_bytes = 0;
    // Between the cuts of the two newest closed epochs, or since the newest, if that is longer
    // than the interval; zero: not known yet.
    Duration effective_interval{0};
    Pace pace = Pace::kept;
};

// How far the source has got with a cut that several machines have in common.
enum class CutStage {
    ready,   // the cut is next, and nothing else under way; applications are at rest
    closed,  // writes are held
    taken,
};

struct CheckpointRequest {
    std::string name;  // may be empty
    // The whole image as of the cut stays readable for on_image.
    bool whole = false;
    // Called when the cut's data is at the target and before the pass ends; replication goes on
    // when it calls `done`, with an error: the checkpoint fails with it, and so does the cut.
    // Called again when the cut turns out void after that: the last one counts.
    struct Image {
        env::PassId pass = 0;
        std::uint64_t epoch = 0;
        WallTime cut_time;
    };
    std::move_only_function<void(Image, env::StatusCallback done)> on_image;  // may be empty
    // For an application-consistent point. When the cut is next, and nothing else under way,
    // `before` brings the applications to rest; as soon as the cut was taken, or could not be,
    // `after` lets them go on (only where `before` has succeeded). Where one of both fails the
    // point is crash-consistent, and the result says why. Both again when the cut turns out void.
    struct Quiesce {
        std::move_only_function<void(env::StatusCallback ready)> before;
        std::move_only_function<void(bool cut, env::StatusCallback done)> after;
    };
    std::optional<Quiesce> quiesce;
    // For a cut of several machines: `at` is called at each stage, and the source goes on when it
    // answers; an error: the cut is taken alone. Inside of `quiesce`, where there is one. Once: a
    // cut that turns out void is taken again without the others.
    struct Common {
        Duration limit{0};  // for which writes are held
        std::move_only_function<void(CutStage reached, env::StatusCallback go)> at;
        // The last call: all stages were reached, or why not. Writes are not held any more.
        std::move_only_function<void(Status opened)> over;
    };
    std::optional<Common> common;
};

struct CheckpointResult {
    std::uint64_t epoch = 0;
    WallTime cut_time;
    format::PointKind kind = format::PointKind::crash;
    std::optional<Error> degraded;  // why it is not application-consistent, as was asked for
    std::optional<Error> alone;     // why it is not of the common cut
    env::GateReport gate;           // of the common cut: what it has cost
};

class Source {
public:
    // The environment must outlive the Source.
    Source(SourceConfig config, env::Tracker& tracker, env::Connector& connector, env::Clock& clock,
           env::Random& random, env::Cpus& cpus);
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
    ~Source();

    void start();
    // Answers once the point is closed on the target: E_CANCELLED by stop(), E_FENCED. A cut that
    // becomes void is taken again.
    void checkpoint(CheckpointRequest request, env::Callback<CheckpointResult> done);
    void set_interval(Duration interval);
    // E_BUSY: one goes on; E_VERSION: the target cannot; E_CANCELLED, E_FENCED as above. Waits for
    // the first point.
    void verify(VerifyRequest request, env::Callback<VerifyResult> done);
    // Closes the connection and abandons the pass; `done` once the tracker has put everything
    // back. The Source cannot be started again.
    void stop(env::StatusCallback done);
    [[nodiscard]] SourceStatus status() const;

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace ebb::core
