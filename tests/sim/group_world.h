// SPDX-License-Identifier: Apache-2.0
// Several sources, their targets, and who leads them through common cuts; a client writes to one
// machine after the other, so that a cut that is not of one moment shows. What a point of one
// machine holds is the World's business.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/rendezvous.h"
#include "world.h"

namespace ebb::sim {

// By name; beside those of falsifications().
[[nodiscard]] const std::vector<std::string>& group_falsifications();

class GroupWorld {
public:
    explicit GroupWorld(Options options);
    ~GroupWorld();
    [[nodiscard]] Report run();

private:
    struct Machine;
    struct Attempt;
    using Tried = std::shared_ptr<Attempt>;

    // The client: a number goes to the same block of each machine, one after the other.
    void write_next(std::size_t slot, std::size_t machine);
    [[nodiscard]] std::uint64_t number_at(const Cut& cut, std::size_t slot) const;
    // What goes wrong.
    void something_happens();
    void kill_source(std::size_t machine);
    // The coordinator.
    void attempt();
    void ask(const Tried& tried, std::size_t machine);
    void next_step(const Tried& tried);
    void send_step(const Tried& tried, std::size_t machine);
    void step_done(const Tried& tried, core::MeetingPoint step, const Status& status);
    void give_up(const Tried& tried);
    void answered(const Tried& tried, std::size_t machine,
                  const Result<core::CheckpointResult>& result);
    void check(Attempt& attempt);

    [[nodiscard]] std::int64_t message_delay();
    void say(const std::string& what);
    void problem(const std::string& what);
    void later(std::int64_t delay, std::move_only_function<void()> action);

    Options options_;
    Report report_;
    Executor executor_;
    Faults faults_;
    std::vector<std::unique_ptr<Machine>> machines_;
    std::vector<std::uint64_t> numbers_;  // by slot, the newest
    Tried current_;
    bool faulty_ = true;
    std::uint64_t common_ = 0;        // cuts
    std::uint64_t common_quiet_ = 0;  // since faults have stopped
};

}  // namespace ebb::sim
