// SPDX-License-Identifier: Apache-2.0
// One simulated disaster movie: a source and a target machine, the network, the schedule of what
// goes wrong, and the oracle that knows what every recovery point must hold.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/source.h"
#include "core/target.h"
#include "network.h"
#include "runs.h"
#include "tracker.h"

namespace ebb::sim {

inline constexpr std::int64_t ms = 1'000'000;
inline constexpr std::int64_t second = 1'000 * ms;

struct Options {
    std::uint64_t seed = 0;
    bool verbose = false;
    std::string mutation;  // a sync site, or one of the named falsifications; empty: none
};

struct Report {
    bool passed = true;
    std::string failure;
    std::uint64_t closed = 0;  // epochs, in the main run
    std::uint64_t checks = 0;  // of the replica against the oracle
    std::uint64_t failovers = 0;
    std::map<std::string, std::uint64_t> hits;
    std::map<std::string, std::uint64_t> sites;
};

// Of a mark that the world has made; 0: none.
[[nodiscard]] std::uint64_t number_of(const std::optional<format::CommonCut>& common);
[[nodiscard]] format::CommonCut numbered_cut(std::uint64_t number);

// The falsifications beside removed syncs, by name.
[[nodiscard]] const std::vector<std::string>& falsifications();

class World {
public:
    explicit World(Options options);
    ~World();
    [[nodiscard]] Report run();

private:
    struct Export;
    struct Quiesced;
    struct Attempt;
    struct Wander;
    struct Session;
    struct Older;
    struct Reading;
    // Of an epoch, in order.
    struct Sent {
        format::Sha256 before{}, after{};  // chain
        std::vector<format::ManifestEntry> extents;
    };
    struct Try {
        std::uint64_t seed = 0;
        bool interrupted = false;
        std::uint64_t moves = 0;  // to points at random
        bool verify = false;
        bool tight = false;   // the volume has little room for what moves keep
        bool resume = false;  // back to replication at the end
    };

    // world.cc
    [[nodiscard]] std::uint16_t old_version();
    [[nodiscard]] bool small_chapters() const { return options_.seed % 4 == 1; }
    void start_source();
    void stop_source();
    void start_target();
    void stop_target(bool power);
    void application();
    void settle_down();
    void finish();
    void check_end();
    [[nodiscard]] bool ages_are_kept();
    [[nodiscard]] core::TargetConfig target_config() const;
    void observe();
    void problem(const std::string& what);
    void say(const std::string& what);
    void hit(const std::string& kind);
    void later(std::int64_t delay, std::move_only_function<void()> action);

    // world_faults.cc
    void something_happens();
    void fault();
    void network_fault();
    void storage_fault();
    void clock_fault();
    void small_fault();
    void machine_fault();
    void restart_source();
    [[nodiscard]] bool undecidable() const;
    void heal();
    void watch();
    void watch_for_names();
    void watch_for_merges();
    void watch_for_caches();
    void watch_for_begun_again();
    void watch_for_releases();
    void watch_for_restarts();
    void watch_for_ambush();
    void watch_for_comparing();
    void both_lose_power();

    // world_older.cc
    void watch_for_older();
    void keep_older(const core::SourceStatus& status);
    void put_back_target(bool between);
    void restart_daemon();
    void until_noticed();

    // world_operations.cc
    void main_failover();
    void failed_over(const core::FailoverResult& result, std::uint64_t acknowledged);
    void moved(const Result<core::FailoverResult>& result, TargetRun* run, std::uint64_t before);
    void leave_failover(TargetRun* run);
    void resume(TargetRun* run);
    void checkpoint();
    void checkpointed(const Export& exported, const std::string& name,
                      Result<core::CheckpointResult> result);
    void trim();
    void name_point();
    void named(std::uint64_t epoch, std::string before, const std::string& name,
               const Result<core::Point>& result);
    void mark_common();
    void marked(std::uint64_t epoch, std::uint64_t before, std::uint64_t number,
                const Result<core::Point>& result);
    // Of each period of the time in common the last one is there.
    [[nodiscard]] std::string check_marks(const std::vector<core::Point>& points);
    void disable();
    void erase();

    // world_verify.cc
    void verify();
    void rot_and_verify();
    void certify();
    void certify(std::uint64_t epoch, bool whole);
    [[nodiscard]] std::set<std::pair<DiskIndex, Block>> plant_rot();
    [[nodiscard]] std::string check_found(const core::VerifyResult& result,
                                          const std::set<std::pair<DiskIndex, Block>>& rotten);
    void disturb();

    // world_retention.cc
    void verify_retention();
    void plant_damage();
    void retention_verified(const Reading& reading, const Result<core::VerifiedJournal>& result);
    [[nodiscard]] bool damage_is_planted() const;
    void await_retention_verify();

    // world_manifests.cc
    void watch_for_manifests();
    void check_manifests(const core::EpochSpan& span, const Bytes& file);
    [[nodiscard]] static std::optional<Sent> sent_of(const Bytes& file);

    void stranger();

    // world_serve.cc
    void serve();
    void end_serving();
    void observe_served();
    [[nodiscard]] std::string compare_part(std::int64_t cut_time, DiskIndex disk,
                                           std::uint64_t offset, std::span<const std::byte> got);

    // world_oracle.cc
    void check_replica();
    [[nodiscard]] std::string compare(const std::vector<const Bytes*>& disks,
                                      std::int64_t cut_time);
    [[nodiscard]] std::string compare(const std::vector<DiskState>& disks,
                                      const core::Point& point);
    [[nodiscard]] std::string check_points(const std::vector<core::Point>& points);
    // By the clock that nobody sets.
    [[nodiscard]] std::int64_t age(const core::Point& point, const core::Point& newest) const;
    // Damages what something vouches for; false: there is nothing of the kind.
    [[nodiscard]] bool rot(VolumeState& volume);
    void misdirect(const VolumeState& volume, FileState& file, std::size_t vouched);
    // `done`: the last move, or what went wrong.
    void wander(core::Target& target, std::vector<DiskState>& disks, std::uint64_t moves, Rng& rng,
                const core::FailoverResult& from,
                std::function<void(Result<core::FailoverResult>)> done);
    [[nodiscard]] bool try_failover(std::vector<DiskState>& disks, VolumeState& volume,
                                    const Try& how, Attempt& attempt);

    Options options_;
    Report report_;
    Executor executor_;
    Faults faults_;
    std::unique_ptr<SourceMachine> source_;
    std::vector<DiskState> disks_;
    VolumeState volume_;
    Network network_;
    bool source_steps_;  // that clock is set, else the target's; never both
    std::unique_ptr<TargetRun> target_run_;
    std::unique_ptr<SourceRun> source_run_;
    std::shared_ptr<End> stranger_;
    bool faulty_ = true;
    bool busy_ = true;        // the application writes
    bool operation_ = false;  // an operator's, on the target, which does not die meanwhile
    bool disabling_ = false;  // nor does anything start
    bool full_next_ = false;  // the next source daemon begins with everything
    bool ambush_ = false;
    bool name_ambush_ = false;
    bool cache_ambush_ = false;
    bool eager_ = false;           // ambush_ is
    std::int64_t look_until_ = 0;  // closely
    std::uint64_t begun_again_ = 0;
    bool void_ambush_ = false;
    enum class Restart { none, wanted, begun };
    Restart restart_ = Restart::none;
    enum class Comparing { none, wanted, killed };
    Comparing comparing_ = Comparing::none;
    std::uint64_t same_before_ = 0;
    std::uint64_t ahead_ = 0, ahead_again_ = 0;  // of this source daemon
    bool verifying_ = false;
    const void* certifying_ = nullptr;  // the target that reads its journal, which stays as it is
    std::shared_ptr<Reading> reading_;  // of the journal, that the operator has asked for
    std::shared_ptr<Older> older_;
    bool older_wanted_ = false;
    bool put_back_ = false;               // and the source has not seen it yet
    std::uint64_t acks_may_be_lost_ = 0;  // times, of this source daemon
    bool wide_next_ = false;              // the next source daemon freezes whatever is dirty
    bool delta_failover_ = false;         // when there is something to take back
    std::uint64_t oldest_ = 0;            // point
    std::uint64_t live_epoch_ = 0;
    std::uint64_t session_ = 1;
    std::uint64_t first_session_ = 1;  // of the protection, as it was begun
    std::uint64_t acknowledged_ = 0;   // newest epoch that the source knows to be closed
    // What points may be called: checkpoints that were answered, and what was named since; two
    // names while it is not known which of them counts. Empty: none.
    std::map<std::uint64_t, std::set<std::string>> named_;
    bool naming_ = false;
    // Likewise of which common cut points may be, by its number; 0: of none.
    std::map<std::uint64_t, std::set<std::uint64_t>> marked_;
    bool marking_ = false;
    bool merging_ = false;  // the target was, when it was looked at
    std::uint64_t marks_ = 0;
    std::map<std::uint64_t, std::set<std::uint64_t>> told_;  // all that the target was told to mark
    std::map<std::uint64_t, format::PointKind> kinds_;       // of those
    std::map<std::uint64_t, core::Point> seen_;              // as they were last seen at the target
    std::uint64_t checkpoints_ = 0;
    std::uint64_t noted_ = 0;             // the newest point, of which is noted what was sent
    std::map<std::uint64_t, Sent> sent_;  // by epoch
    std::set<core::EpochSpan> checked_;   // merged files
    std::map<std::uint64_t, core::PointReaderStatus> counted_;  // by epoch: of what is served
    std::uint64_t budget_, batch_, extent_, window_, frozen_limit_, retention_;
    unsigned storage_errors_ = 0;     // per thousand
    std::int64_t clock_stepped_ = 0;  // ns, the target's
};

}  // namespace ebb::sim
