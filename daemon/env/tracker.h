// SPDX-License-Identifier: Apache-2.0
// The tracking module as the source sees it: one group, the disks of one machine. Semantics are
// those of include/uapi/linux/ebb.h, in bytes; E_STALE stands for a void pass.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "env/env.h"

namespace ebb::env {

using PassId = std::uint64_t;
using GateId = std::uint64_t;

// Of a gate that was closed until it was opened.
struct GateReport {
    std::uint64_t held = 0;  // writes that came meanwhile
    Duration closed{0};
};

enum class PassKind { frozen, live };
enum class PassState { draining, ready, voided, ended };

struct PassInfo {
    PassId id = 0;
    PassKind kind = PassKind::frozen;
    PassState state = PassState::draining;
    std::string void_reason;  // empty unless voided
    std::uint64_t generation = 0;
    WallTime cut_time;
    Duration cut_duration{0};
    std::uint64_t blocks = 0;
    std::uint64_t blocks_left = 0;
    std::uint64_t preserved = 0;
    std::uint64_t held = 0;
    Duration held_max{0};
};

// Kept with a disk's map, and durable with it; means nothing to the tracker.
using Cookie = std::array<std::byte, 64>;

struct TrackedDisk {
    std::string stable_id;
    std::uint64_t size = 0;
    std::uint64_t dirty_blocks = 0;
    bool gone = false;
    std::vector<std::string> resync_reasons;  // empty: the map can be trusted
    // Of a map that survives restarts; zeroes: none was kept yet.
    std::optional<Cookie> cookie;
    // Of the group, the same for all of its disks; empty: none was left in this incarnation.
    std::vector<std::byte> note;
};

struct PassMap {
    std::vector<Extent> extents;  // ascending, not yet released
    bool more = false;
    std::uint64_t next_offset = 0;  // meaningful if more
};

class Tracker {
public:
    virtual ~Tracker() = default;
    // Identity of the module's load. A change is a gap of all disks whose maps are in memory alone;
    // each of them has a reason for a resync then.
    virtual void incarnation(Callback<Uuid> done) = 0;
    // In DiskIndex order.
    virtual void disks(Callback<std::vector<TrackedDisk>> done) = 0;
    // Also clears the disk's resync-required state. `compare`: much of it may well be equal on the
    // target.
    virtual void mark_all(DiskIndex disk, bool compare, StatusCallback done) = 0;
    virtual void mark(DiskIndex disk, std::span<const Extent> extents, StatusCallback done) = 0;
    // `whole`: every block is preserved until end_pass, dirty or not, so that the image can be
    // copied as of the cut (EBB_PASS_F_WHOLE); frozen passes only. `gate`: the cut is taken behind
    // it (E_STALE: it is open), and the pass is void if it opens by itself.
    virtual void begin_pass(PassKind kind, bool whole, std::optional<GateId> gate,
                            Callback<PassInfo> done) = 0;
    // Writes to all disks are held from when it answers until open_gate(), or for `limit`: then it
    // opens by itself. E_BUSY: what the last one held is not on its way yet.
    virtual void close_gate(Duration limit, Callback<GateId> done) = 0;
    // E_STALE: it was open already.
    virtual void open_gate(GateId gate, Callback<GateReport> done) = 0;
    // 0: the newest of the group. E_NOT_FOUND: there is none.
    virtual void get_pass(PassId pass, Callback<PassInfo> done) = 0;
    virtual void pass_map(PassId pass, DiskIndex disk, std::uint64_t offset,
                          Callback<PassMap> done) = 0;
    // From the image. What was read counts only if a later release of the range succeeds.
    virtual void read(PassId pass, DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                      StatusCallback done) = 0;
    // The disk as it is now, of no cut: whatever is read of a write was marked before.
    virtual void read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                           StatusCallback done) = 0;
    // All of `extents` or an error. Ranges released already, or not in the pass, do no harm.
    virtual void release(PassId pass, DiskIndex disk, std::span<const Extent> extents,
                         StatusCallback done) = 0;
    // E_BUSY while ranges are left to release.
    virtual void end_pass(PassId pass, StatusCallback done) = 0;
    // Durable with the map of each disk that has one, when it answers. During a pass, too.
    virtual void keep(const Cookie& cookie, StatusCallback done) = 0;
    // In the tracker's memory, for whoever comes after this owner; as long as the maps there.
    // During a pass, too. A tracker of an older version keeps none. At most 256 bytes.
    virtual void leave_note(std::vector<std::byte> note, StatusCallback done) = 0;
    // The cookie is durable before anything is dropped.
    virtual void confirm(const Cookie& cookie, StatusCallback done) = 0;
    virtual void abandon(StatusCallback done) = 0;
    // Replaces the handler; may run spuriously. A pass became ready or void, or a disk changed its
    // state: ask again.
    virtual void on_event(std::move_only_function<void()> event) = 0;
};

}  // namespace ebb::env
