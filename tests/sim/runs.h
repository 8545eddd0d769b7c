// SPDX-License-Identifier: Apache-2.0
// The daemons of both ends, from a start to their death, on what outlives them.
#pragma once

#include <memory>
#include <set>
#include <vector>

#include "core/source.h"
#include "core/target.h"
#include "failing_tracker.h"
#include "network.h"
#include "tracker.h"

namespace ebb::sim {

struct TargetRun {
    TargetRun(Executor& executor, std::vector<DiskState>& states, VolumeState& volume_state,
              Faults& faults, core::TargetConfig config, const std::int64_t& clock_stepped)
        : life(executor),
          clock(life, clock_stepped),
          cpus(life),
          volume(life, volume_state, faults) {
        std::vector<env::Disk*> pointers;
        for (DiskState& state : states) {
            disks.push_back(std::make_unique<SimDisk>(life, state, faults));
            pointers.push_back(disks.back().get());
        }
        target = std::make_unique<core::Target>(std::move(config), pointers, volume, clock, cpus);
    }
    ~TargetRun() {
        life.end();
        if (connection) connection->die();
        target.reset();
    }
    void storage_errors(unsigned per_thousand) {
        for (auto& disk : disks) disk->errors_per_thousand = per_thousand;
        volume.sync_errors_per_thousand = per_thousand;
        volume.errors_per_thousand = per_thousand / 4;
    }
    Life life;
    SimClock clock;
    SimCpus cpus;
    SimVolume volume;
    std::vector<std::unique_ptr<SimDisk>> disks;
    std::unique_ptr<core::Target> target;
    std::shared_ptr<End> connection;
    bool open = false;
    std::set<std::uint64_t> served;  // epochs, until their sessions end
};

struct SourceRun {
    SourceRun(Executor& executor, SourceMachine& machine, Network& network, Faults& faults,
              core::SourceConfig config)
        : life(executor),
          clock(life, machine.clock_stepped),
          random(executor.rng),
          cpus(life),
          tracker(life, machine),
          failing(life, tracker, faults, machine.errors_per_thousand),
          connector(life, network),
          source(std::make_unique<core::Source>(std::move(config), failing, connector, clock,
                                                random, cpus)) {}
    ~SourceRun() {
        life.end();
        source.reset();
    }
    Life life;
    SimClock clock;
    SimRandom random;
    SimCpus cpus;
    SimTracker tracker;
    FailingTracker failing;
    SimConnector connector;
    std::unique_ptr<core::Source> source;
};

}  // namespace ebb::sim
