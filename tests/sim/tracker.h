// SPDX-License-Identifier: Apache-2.0
// The source machine: its disks, its application's writes, and a model of the tracking module as
// include/uapi/linux/ebb.h describes it. Lives as long as the machine; SimTracker is what one run
// of the daemon sees of it.
//
// The machine may: die, boot again with maps or without, be put back to an older state of all of
// its disks; write behind the tracker's back, which notices; have a block that cannot be read.
// The tracker may: be slow; void a pass at any moment, and for a full pool; let its gate open by
// itself; refuse any command, or do it and lose the answer (FailingTracker). It never drops a bit
// that was not released and confirmed, nor says that a map is whole which is not.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "env/tracker.h"
#include "storage.h"

namespace ebb::sim {

using Block = std::uint64_t;

// What the disks must hold in a recovery point.
struct Cut {
    std::vector<Bytes> content;
    std::vector<std::set<Block>> loose;  // discarded: anything may be there
    std::int64_t begun = 0;
    std::int64_t over = INT64_MAX;
};

class SourceMachine {
public:
    SourceMachine(Executor& executor, Faults& faults, const std::vector<std::uint64_t>& sizes);

    // The application. Held by a gate that is closed.
    void app_write(Rng& rng);
    // One block; `done` when it has landed.
    void write(DiskIndex disk, Block block, const Bytes& data,
               std::move_only_function<void()> done);
    [[nodiscard]] bool gated() const { return gate_.has_value(); }
    // Changes a block behind the tracker's back, which notices.
    void untracked_write(Rng& rng);
    // Another incarnation. Maps in memory alone are gone; those that are kept come back exact after
    // a clean one, and as whole regions when the power was lost.
    void reboot(bool clean);
    // This disk's map is kept over restarts, with a log of the regions that may be written to.
    void keep_map(DiskIndex disk);
    // The whole machine, disks and maps, as it would be after a crash now.
    void take_snapshot();
    void drop_snapshot() { snapshot_.clear(); }
    [[nodiscard]] bool has_snapshot() const { return !snapshot_.empty(); }
    // Cookies as they were, or are.
    [[nodiscard]] std::optional<env::Cookie> cookie(bool of_snapshot) const;
    // It boots from that.
    void restore_snapshot();
    // Maps begin anew, for another protection; it has the same id here, so snapshots go.
    void detach();
    void void_pass(std::string reason);
    void owner_died();

    [[nodiscard]] std::uint64_t size(DiskIndex disk) const { return disks_[disk].submitted.size(); }
    [[nodiscard]] std::size_t disk_count() const { return disks_.size(); }
    // As if every write that was submitted had landed.
    [[nodiscard]] Cut now() const;
    [[nodiscard]] std::map<std::int64_t, Cut>& cuts() { return cuts_; }
    std::optional<std::pair<DiskIndex, Block>> bad_block;
    std::int64_t bad_since = 0;
    std::size_t pool_blocks = 64;
    unsigned errors_per_thousand = 0;  // of the tracker's commands
    std::int64_t clock_stepped = 0;    // ns ahead of the truth
    bool death_puts_back_unconfirmed = false;
    bool hide_stale_release = false;  // mutations: the daemon's view is falsified
    bool ignore_mark = false;
    bool ignore_abandon = false;
    bool hide_reasons = false;
    bool fixed_incarnation = false;
    bool confirm_always = false;
    bool lose_region = false;
    bool lose_sealed = false;
    bool forge_cookie = false;
    bool forget_note = false;
    bool cool_early = false;
    bool old_disk_reads = false;
    bool late_gate_unseen = false;
    bool hold_nothing = false;

private:
    friend class SimTracker;
    struct Disk {
        Bytes current;    // landed
        Bytes submitted;  // as the application sees it
        std::set<Block> dirty, discarded, unconfirmed, loose;
        std::map<Block, std::int64_t> lands;  // last landing time of a block
        std::set<std::string> reasons;
        bool kept = false;  // the map is; below: what is durable of it
        std::set<Block> hot;
        env::Cookie cookie{};
        // Of the pass:
        std::set<Block> taken, left, taken_discarded;
        std::map<Block, Bytes> preserved;
    };
    struct Pass {
        env::PassInfo info;
        bool whole = false;
    };

    struct Gate {
        env::GateId id = 0;
        std::uint64_t pass = 0;  // begun behind it
        std::int64_t since = 0;
    };

    void enter(std::move_only_function<void()> write);
    void open_gate();
    // By itself: before any write goes on, what was begun behind it is void.
    void gate_expired(std::string reason);
    void submit(DiskIndex disk, Block first, Block count, const std::vector<Bytes>& data,
                bool discard);
    void land(DiskIndex disk, Block block, std::uint64_t generation, const Bytes& data);
    [[nodiscard]] Bytes block_of(const Bytes& content, Block block) const;
    [[nodiscard]] bool frozen_block(const Disk& disk, Block block) const;
    [[nodiscard]] Block blocks(const Disk& disk) const {
        return (disk.submitted.size() + block_bytes - 1) / block_bytes;
    }
    void put_back(bool unconfirmed);
    void drained();
    void mark_block(Disk& disk, Block block);
    // All blocks that any map of the disk has.
    [[nodiscard]] static std::set<Block> all_maps(const Disk& disk);
    [[nodiscard]] std::set<Block> recovered(const Disk& disk, bool clean) const;
    void cool();
    void forget();

    Executor& executor_;
    Faults& faults_;
    std::shared_ptr<Life> life_;
    std::vector<Disk> disks_;
    std::vector<Disk> snapshot_;
    std::vector<std::byte> note_;
    Uuid incarnation_;
    std::uint64_t generation_ = 1;
    std::map<std::uint64_t, std::uint64_t> in_flight_;  // generation -> writes
    std::optional<Pass> pass_;
    std::uint64_t last_pass_ = 0;
    std::optional<Gate> gate_;
    env::GateId last_gate_ = 0;
    std::vector<std::move_only_function<void()>> held_;  // writes, in order
    std::uint64_t stamp_ = 0;
    std::map<std::int64_t, Cut> cuts_;  // by cut time
    std::move_only_function<void()> event_;
};

class SimTracker : public env::Tracker {
public:
    SimTracker(Life& life, SourceMachine& machine) : life_(life), m_(machine) {}
    ~SimTracker() override { m_.event_ = {}; }
    void incarnation(env::Callback<Uuid> done) override;
    void disks(env::Callback<std::vector<env::TrackedDisk>> done) override;
    void mark_all(DiskIndex disk, bool compare, env::StatusCallback done) override;
    void mark(DiskIndex disk, std::span<const Extent> extents, env::StatusCallback done) override;
    void begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                    env::Callback<env::PassInfo> done) override;
    void close_gate(Duration limit, env::Callback<env::GateId> done) override;
    void open_gate(env::GateId gate, env::Callback<env::GateReport> done) override;
    void get_pass(env::PassId pass, env::Callback<env::PassInfo> done) override;
    void pass_map(env::PassId pass, DiskIndex disk, std::uint64_t offset,
                  env::Callback<env::PassMap> done) override;
    void read(env::PassId pass, DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override;
    void read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                   env::StatusCallback done) override;
    void release(env::PassId pass, DiskIndex disk, std::span<const Extent> extents,
                 env::StatusCallback done) override;
    void end_pass(env::PassId pass, env::StatusCallback done) override;
    void keep(const env::Cookie& cookie, env::StatusCallback done) override;
    void leave_note(std::vector<std::byte> note, env::StatusCallback done) override;
    void confirm(const env::Cookie& cookie, env::StatusCallback done) override;
    void abandon(env::StatusCallback done) override;
    void on_event(std::move_only_function<void()> event) override;

private:
    [[nodiscard]] Status check(env::PassId pass, bool ready) const;
    Life& life_;
    SourceMachine& m_;
};

}  // namespace ebb::sim
