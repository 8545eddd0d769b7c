// SPDX-License-Identifier: Apache-2.0
// One simulated disaster movie: a source and a target machine, the network, the schedule of what
// goes wrong, and the oracle that knows what every recovery point must hold.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/source.h"
#include "core/target.h"
#include "network.h"
#include "tracker.h"

namespace ebb::sim {

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

// The falsifications beside removed syncs, by name.
[[nodiscard]] const std::vector<std::string>& falsifications();

class World {
public:
    explicit World(Options options);
    ~World();
    [[nodiscard]] Report run();

private:
    struct TargetRun;
    struct SourceRun;
    void start_source();
    void stop_source();
    void start_target();
    void stop_target(bool power);
    void something_happens();
    void fault();
    void machine_fault();
    void heal();
    void watch_for_ambush();
    void application();
    void settle_down();
    void check_replica();
    void main_failover();
    void resume(TargetRun* run);
    void finish();
    bool try_failover(std::vector<DiskState>& disks, VolumeState& volume, std::uint64_t seed,
                      bool interrupted, core::FailoverResult& result, std::string& problem,
                      bool fenced = false);
    [[nodiscard]] std::string compare(const std::vector<DiskState>& disks,
                                      const core::Point& point);
    [[nodiscard]] core::TargetConfig target_config() const;
    void observe();
    void problem(const std::string& what);
    void say(const std::string& what);
    void later(std::int64_t delay, std::move_only_function<void()> action);

    Options options_;
    Report report_;
    Executor executor_;
    Faults faults_;
    std::unique_ptr<SourceMachine> source_;
    std::vector<DiskState> disks_;
    VolumeState volume_;
    Network network_;
    std::unique_ptr<TargetRun> target_run_;
    std::unique_ptr<SourceRun> source_run_;
    bool faulty_ = true;
    bool busy_ = true;  // the application writes
    bool failing_over_ = false;
    bool ambush_ = false;
    bool name_ambush_ = false;
    std::uint64_t live_epoch_ = 0;
    std::uint64_t session_ = 1;
    std::uint64_t acknowledged_ = 0;  // newest epoch that the source knows to be closed
    std::uint64_t budget_, batch_, extent_, window_, frozen_limit_;
    unsigned disk_errors_ = 0;
};

}  // namespace ebb::sim
