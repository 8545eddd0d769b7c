// SPDX-License-Identifier: Apache-2.0
// The gate of a group: writes are held while several machines are cut.
#include <utility>

#include "tracker.h"

namespace ebb::sim {

void SourceMachine::enter(std::move_only_function<void()> write) {
    if (!gate_ || hold_nothing) return write();
    ++faults_.hits["write-gated"];
    held_.push_back(std::move(write));
}

void SourceMachine::open_gate() {
    gate_.reset();
    for (auto& write : std::exchange(held_, {})) write();
}

void SourceMachine::gate_expired(std::string reason) {
    if (!gate_) return;
    if (pass_ && pass_->info.id == gate_->pass && !late_gate_unseen) void_pass(std::move(reason));
    open_gate();
}

void SimTracker::close_gate(Duration limit, env::Callback<env::GateId> done) {
    life_.io([this, limit, done = std::move(done)]() mutable {
        const bool pass = m_.pass_ && m_.pass_->info.state != env::PassState::voided;
        if (pass || m_.gate_) return done(fail(ErrorCode::busy, "there is a pass, or a gate"));
        const env::GateId id = ++m_.last_gate_;
        m_.gate_ = {id, 0, m_.executor_.now()};
        m_.life_->at(limit.count(), [machine = &m_, id] {
            if (!machine->gate_ || machine->gate_->id != id) return;
            ++machine->faults_.hits["gate-deadline"];
            machine->gate_expired("gate-deadline");
        });
        done(id);
    });
}

void SimTracker::open_gate(env::GateId gate, env::Callback<env::GateReport> done) {
    life_.io([this, gate, done = std::move(done)]() mutable {
        if (!m_.gate_ || m_.gate_->id != gate) {
            if (m_.late_gate_unseen) return done(env::GateReport{});
            return done(fail(ErrorCode::stale, "it is open"));
        }
        const env::GateReport report{m_.held_.size(),
                                     Duration{m_.executor_.now() - m_.gate_->since}};
        m_.open_gate();
        done(report);
    });
}

}  // namespace ebb::sim
