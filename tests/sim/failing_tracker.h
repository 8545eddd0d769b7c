// SPDX-License-Identifier: Apache-2.0
// A tracker whose commands fail at times: they are refused and have no effect, or have it and the
// answer is lost, as the kernel's for want of memory. Reads of disks and images fail by themselves
// (SourceMachine::bad_block).
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "env/tracker.h"
#include "storage.h"

namespace ebb::sim {

class FailingTracker : public env::Tracker {
public:
    FailingTracker(Life& life, env::Tracker& inner, Faults& faults, const unsigned& per_thousand)
        : life_(life), inner_(inner), faults_(faults), per_thousand_(per_thousand) {}

    void incarnation(env::Callback<Uuid> done) override {
        if (auto go = lot(std::move(done))) inner_.incarnation(std::move(*go));
    }
    void disks(env::Callback<std::vector<env::TrackedDisk>> done) override {
        if (auto go = lot(std::move(done))) inner_.disks(std::move(*go));
    }
    void mark_all(DiskIndex disk, bool compare, env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.mark_all(disk, compare, std::move(*go));
    }
    void mark(DiskIndex disk, std::span<const Extent> extents, env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.mark(disk, extents, std::move(*go));
    }
    void begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                    env::Callback<env::PassInfo> done) override {
        if (auto go = lot(std::move(done))) inner_.begin_pass(kind, whole, gate, std::move(*go));
    }
    void close_gate(Duration limit, env::Callback<env::GateId> done) override {
        if (auto go = lot(std::move(done))) inner_.close_gate(limit, std::move(*go));
    }
    void open_gate(env::GateId gate, env::Callback<env::GateReport> done) override {
        if (auto go = lot(std::move(done))) inner_.open_gate(gate, std::move(*go));
    }
    void get_pass(env::PassId pass, env::Callback<env::PassInfo> done) override {
        if (auto go = lot(std::move(done))) inner_.get_pass(pass, std::move(*go));
    }
    void pass_map(env::PassId pass, DiskIndex disk, std::uint64_t offset,
                  env::Callback<env::PassMap> done) override {
        if (auto go = lot(std::move(done))) inner_.pass_map(pass, disk, offset, std::move(*go));
    }
    void read(env::PassId pass, DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override {
        inner_.read(pass, disk, offset, into, std::move(done));
    }
    void read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                   env::StatusCallback done) override {
        inner_.read_disk(disk, offset, into, std::move(done));
    }
    void release(env::PassId pass, DiskIndex disk, std::span<const Extent> extents,
                 env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.release(pass, disk, extents, std::move(*go));
    }
    void end_pass(env::PassId pass, env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.end_pass(pass, std::move(*go));
    }
    void keep(const env::Cookie& cookie, env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.keep(cookie, std::move(*go));
    }
    void leave_note(std::vector<std::byte> note, env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.leave_note(std::move(note), std::move(*go));
    }
    void confirm(const env::Cookie& cookie, env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.confirm(cookie, std::move(*go));
    }
    void abandon(env::StatusCallback done) override {
        if (auto go = lot(std::move(done))) inner_.abandon(std::move(*go));
    }
    void on_event(std::move_only_function<void()> event) override {
        inner_.on_event(std::move(event));
    }

private:
    // What the command is to call; none: it has been refused.
    template <class Value>
    std::optional<env::Callback<Value>> lot(env::Callback<Value> done) {
        Rng& rng = life_.executor().rng;
        if (per_thousand_ == 0 || rng.below(1000) >= per_thousand_) return done;
        if (rng.chance(50)) {
            ++faults_.hits["tracker-refused"];
            life_.io([done = std::move(done)]() mutable {
                done(fail(ErrorCode::io, "the tracker refused, as simulated"));
            });
            return std::nullopt;
        }
        return [this, done = std::move(done)](Result<Value> result) mutable {
            if (!result) return done(std::move(result));
            ++faults_.hits["tracker-unanswered"];
            done(fail(ErrorCode::io, "the tracker's answer was lost, as simulated"));
        };
    }

    Life& life_;
    env::Tracker& inner_;
    Faults& faults_;
    const unsigned& per_thousand_;
};

}  // namespace ebb::sim
