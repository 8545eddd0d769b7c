// SPDX-License-Identifier: Apache-2.0
#include "group_world.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace ebb::sim {

namespace {

constexpr std::int64_t troubled_time = 20 * second;
constexpr std::int64_t quiet_time = 30 * second;
constexpr std::int64_t answer_patience = 8 * second;
constexpr Duration interval = std::chrono::milliseconds(700);
constexpr std::size_t slots = 6;
constexpr Block noise_blocks = 24;  // behind those of the slots
constexpr core::Rendezvous::Terms terms{std::chrono::seconds(2), std::chrono::milliseconds(150)};

constexpr core::MeetingPoint steps[] = {core::MeetingPoint::prepared, core::MeetingPoint::ready,
                                        core::MeetingPoint::closed, core::MeetingPoint::taken,
                                        core::MeetingPoint::opened};

Bytes numbered(std::uint64_t number) {
    Bytes data(block_bytes);
    std::memcpy(data.data(), &number, sizeof number);
    return data;
}

}  // namespace

const std::vector<std::string>& group_falsifications() {
    static const std::vector<std::string> names = {"group:writes-not-held", "group:alone-unseen",
                                                   "group:late-gate-unseen"};
    return names;
}

struct GroupWorld::Machine {
    Machine(Executor& executor, Faults& faults, std::size_t number)
        : source(executor, faults, {(slots + noise_blocks) * block_bytes}),
          network(executor, faults),
          faults_(faults),
          executor_(executor) {
        id.bytes.fill(static_cast<std::byte>(number + 1));
        disks.emplace_back((slots + noise_blocks) * block_bytes);
        network.listener = [this](std::shared_ptr<env::Connection> connection) {
            target->connection = std::static_pointer_cast<End>(connection);
            target->target->accept(std::move(connection));
        };
        start_target();
    }
    ~Machine() {
        source_run.reset();
        target.reset();
    }

    void start_target() {
        core::TargetConfig config;
        config.protection = id;
        config.disks = {{"source-0", "target-0", source.size(0)}};
        config.session = 1;
        config.reserve_bytes = 0;
        target = std::make_unique<TargetRun>(executor_, disks, volume, faults_, config, on_time);
        target->target->open([](Status) {});
    }
    void start_source() {
        core::SourceConfig config;
        config.protection = id;
        config.session = 1;
        config.disks = {{"source-0", source.size(0)}};
        config.interval = interval;
        config.frozen_limit_bytes = 16 * block_bytes;
        config.looks_ahead = 4;
        config.sampled_ahead = 2;
        config.silence_limit = std::chrono::seconds(3);
        config.retry_max = std::chrono::seconds(1);
        source_run =
            std::make_unique<SourceRun>(executor_, source, network, faults_, std::move(config));
        source_run->source->start();
    }

    SourceMachine source;
    Network network;
    Uuid id;
    std::vector<DiskState> disks;
    VolumeState volume;
    std::unique_ptr<TargetRun> target;
    std::unique_ptr<SourceRun> source_run;
    std::shared_ptr<core::Rendezvous> rendezvous;
    std::uint64_t life = 0;  // of the daemon
    bool held = false;       // its own writes

private:
    Faults& faults_;
    Executor& executor_;
};

struct GroupWorld::Attempt {
    std::size_t step = 0;  // of steps
    bool app = false;      // machines meet before anything stands still, too
    bool over = false;
    bool led = true;  // the coordinator lives
    std::vector<bool> done;
    std::vector<std::optional<Result<core::CheckpointResult>>> results;
};

GroupWorld::GroupWorld(Options options)
    : options_(std::move(options)), executor_(options_.seed), numbers_(slots) {
    const std::size_t count = 2 + executor_.rng.below(2);
    for (std::size_t i = 0; i < count; ++i) {
        machines_.push_back(std::make_unique<Machine>(executor_, faults_, i));
        auto& machine = *machines_.back();
        machine.source.pool_blocks = 6 + executor_.rng.below(20);
        machine.source.clock_stepped =
            static_cast<std::int64_t>(executor_.rng.below(20)) * second - 10 * second;
        machine.source.late_gate_unseen = options_.mutation == "group:late-gate-unseen";
        machine.source.hold_nothing = options_.mutation == "group:writes-not-held";
    }
}

GroupWorld::~GroupWorld() = default;

void GroupWorld::say(const std::string& what) {
    if (!options_.verbose) return;
    std::printf("%10.3f ms  group: %s\n", static_cast<double>(executor_.now()) / 1e6, what.c_str());
}

void GroupWorld::problem(const std::string& what) {
    if (!report_.passed) return;
    report_.passed = false;
    report_.failure = "group: " + what;
    say("PROBLEM: " + what);
}

void GroupWorld::later(std::int64_t delay, std::move_only_function<void()> action) {
    executor_.at(delay, std::move(action));
}

std::int64_t GroupWorld::message_delay() {
    const bool late = faulty_ && executor_.rng.chance(15);
    return static_cast<std::int64_t>(executor_.rng.below((late ? 160 : 12) * ms));
}

void GroupWorld::write_next(std::size_t slot, std::size_t index) {
    if (index == 0) ++numbers_[slot];
    auto& machine = *machines_[index];
    machine.source.write(0, slot, numbered(numbers_[slot]), [this, slot, index] {
        const std::size_t next = (index + 1) % machines_.size();
        const auto pause = static_cast<std::int64_t>(executor_.rng.below(2 * ms));
        later(pause, [this, slot, next] { write_next(slot, next); });
    });
    if (!executor_.rng.chance(20)) return;
    Bytes noise = numbered(executor_.rng.next());
    machine.source.write(0, slots + executor_.rng.below(noise_blocks), noise, [] {});
}

std::uint64_t GroupWorld::number_at(const Cut& cut, std::size_t slot) const {
    std::uint64_t number = 0;
    std::memcpy(&number, cut.content[0].data() + slot * block_bytes, sizeof number);
    // What was there before the client is anything.
    return number > numbers_[slot] ? 0 : number;
}

// Its successor is sent again what was not answered.
void GroupWorld::kill_source(std::size_t index) {
    auto& machine = *machines_[index];
    if (!machine.source_run) return;
    ++faults_.hits["group-source-killed"];
    machine.network.break_all();
    machine.rendezvous.reset();
    machine.source_run.reset();
    ++machine.life;
    machine.source.owner_died();
    const bool quick = executor_.rng.chance(70);
    later(static_cast<std::int64_t>(executor_.rng.below(quick ? 30 * ms : second)), [this, index] {
        machines_[index]->start_source();
        const auto tried = current_;
        if (!tried || tried->over || tried->results[index]) return;
        ask(tried, index);
        if (tried->step < std::size(steps) && !tried->done[index]) send_step(tried, index);
    });
}

void GroupWorld::something_happens() {
    if (!faulty_) return;
    later(static_cast<std::int64_t>(executor_.rng.below(3 * second)),
          [this] { something_happens(); });
    const std::size_t index = executor_.rng.below(machines_.size());
    auto& machine = *machines_[index];
    switch (executor_.rng.below(5)) {
        case 0: kill_source(index); break;
        case 4:
            machine.source.errors_per_thousand = 50;
            later(second, [&machine] { machine.source.errors_per_thousand = 0; });
            break;
        case 1: machine.network.break_all(); break;
        case 2:
            if (machine.source_run) machine.source.void_pass("simulated");
            break;
        default:
            if (!current_) break;
            // It is gone in the middle; another one begins anew.
            ++faults_.hits["group-coordinator-gone"];
            current_->led = false;
            current_.reset();
            later(second, [this] { attempt(); });
            break;
    }
}

void GroupWorld::attempt() {
    if (current_) return;
    auto tried = std::make_shared<Attempt>();
    current_ = tried;
    tried->app = executor_.rng.chance(30);
    tried->step = tried->app ? 0 : 1;
    tried->done.resize(machines_.size());
    tried->results.resize(machines_.size());
    for (std::size_t i = 0; i < machines_.size(); ++i)
        later(message_delay(), [this, tried, i] { ask(tried, i); });
    later(30 * ms, [this, tried] { next_step(tried); });
}

// A command arrives at the machine.
void GroupWorld::ask(const Tried& tried, std::size_t index) {
    auto& machine = *machines_[index];
    if (!machine.source_run || machine.rendezvous)
        return answered(tried, index, fail(ErrorCode::busy, "no daemon, or another cut"));
    auto meeting = terms;
    if (options_.mutation == "group:late-gate-unseen") meeting.gate = Duration{answer_patience};
    const auto rendezvous = std::make_shared<core::Rendezvous>(
        machine.source_run->clock, meeting, [&machine](bool held) { machine.held = held; });
    machine.rendezvous = rendezvous;
    core::CheckpointRequest request;
    request.common = rendezvous->request();
    request.common->limit = terms.gate;
    if (tried->app) {
        request.quiesce.emplace();
        request.quiesce->before = [&machine, rendezvous](env::StatusCallback ready) {
            machine.source_run->life.at(5 * ms, [rendezvous, ready = std::move(ready)]() mutable {
                rendezvous->prepared(
                    [ready = std::move(ready)](Status) mutable { ready(Status{}); });
            });
        };
        request.quiesce->after = [](bool, env::StatusCallback done) { done(Status{}); };
    }
    machine.source_run->source->checkpoint(
        std::move(request),
        [this, tried, index, rendezvous](Result<core::CheckpointResult> result) {
            auto& at = *machines_[index];
            rendezvous->leave({ErrorCode::stale, "over", {}, {}});
            if (at.rendezvous == rendezvous) at.rendezvous.reset();
            later(message_delay(), [this, tried, index, result = std::move(result)] {
                answered(tried, index, result);
            });
        });
}

void GroupWorld::next_step(const Tried& tried) {
    if (!tried->led || tried->over || tried->step == std::size(steps)) return;
    tried->done.assign(machines_.size(), false);
    for (std::size_t i = 0; i < machines_.size(); ++i) send_step(tried, i);
    later(answer_patience, [this, tried, at = tried->step] {
        if (tried->step == at) give_up(tried);
    });
}

void GroupWorld::send_step(const Tried& tried, std::size_t index) {
    later(message_delay(), [this, tried, index, step = steps[tried->step]] {
        auto& machine = *machines_[index];
        const auto reply = [this, tried, index, step, life = machine.life](Status status) {
            // What a daemon that has died had to say is not heard.
            if (machines_[index]->life != life) return;
            later(message_delay(), [this, tried, index, step, status] {
                if (steps[std::min(tried->step, std::size(steps) - 1)] == step)
                    tried->done[index] = status.has_value();
                step_done(tried, step, status);
            });
        };
        if (!machine.source_run) return;
        if (!machine.rendezvous) return reply(fail(ErrorCode::not_found, "no such cut"));
        machine.rendezvous->step(step, reply);
    });
}

void GroupWorld::step_done(const Tried& tried, core::MeetingPoint step, const Status& status) {
    if (!tried->led || tried->over || tried->step == std::size(steps) || steps[tried->step] != step)
        return;
    if (!status) say("step: " + status.error().message);
    if (!status) return give_up(tried);
    if (!std::ranges::all_of(tried->done, [](bool done) { return done; })) return;
    ++tried->step;
    // A daemon that has died answers nothing.
    if (tried->step == std::size(steps)) later(answer_patience, [this, tried] { give_up(tried); });
    next_step(tried);
}

void GroupWorld::give_up(const Tried& tried) {
    if (!tried->led || tried->over) return;
    say("given up in step " + std::to_string(tried->step));
    ++faults_.hits["common-cut-failed"];
    tried->over = true;
    for (const auto& machine : machines_) {
        // Half of them are never told.
        if (faulty_ && executor_.rng.chance(50)) continue;
        later(message_delay(), [&m = *machine] {
            if (m.rendezvous) m.rendezvous->leave({ErrorCode::cancelled, "told to", {}, {}});
        });
    }
    if (current_ == tried) current_.reset();
    later(second / 2, [this] { attempt(); });
}

void GroupWorld::answered(const Tried& tried, std::size_t index,
                          const Result<core::CheckpointResult>& result) {
    if (!tried->led || tried->over) return;
    const bool alone = result && result->alone && options_.mutation != "group:alone-unseen";
    if (result && result->alone) ++faults_.hits["common-alone"];
    if (!result) say(std::to_string(index) + " has failed: " + result.error().message);
    if (alone) say(std::to_string(index) + " is alone: " + result->alone->message);
    if (!result || alone) return give_up(tried);
    tried->results[index] = result;
    const bool all =
        std::ranges::all_of(tried->results, [](const auto& one) { return one.has_value(); });
    const bool led_through =
        tried->step == std::size(steps) || options_.mutation == "group:alone-unseen";
    if (!all) return;
    if (!led_through) {
        // The answer to the last step is still under way.
        later(second, [this, tried] {
            if (tried->step == std::size(steps)) return check(*tried);
            give_up(tried);
        });
        return;
    }
    check(*tried);
}

void GroupWorld::check(Attempt& attempt) {
    attempt.over = true;
    ++faults_.hits["common-cut"];
    ++common_;
    if (!faulty_) ++common_quiet_;
    std::vector<const Cut*> cuts;
    for (std::size_t i = 0; i < machines_.size(); ++i) {
        const auto& result = attempt.results[i]->value();
        const auto& known = machines_[i]->source.cuts();
        const auto cut = known.find(result.cut_time.ns);
        if (cut == known.end()) return problem("a point of no cut");
        cuts.push_back(&cut->second);
        const auto points = machines_[i]->target->target->points();
        const auto there = [&](const core::Point& point) {
            return point.epoch == result.epoch && point.cut_time.ns == result.cut_time.ns;
        };
        if (std::ranges::none_of(points, there)) return problem("a common cut without its point");
    }
    for (std::size_t slot = 0; slot < slots; ++slot) {
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
            if (number_at(*cuts[i], slot) < number_at(*cuts[i + 1], slot))
                return problem(
                    "a write is in the cut without the one that was acknowledged before");
        }
        if (number_at(*cuts.front(), slot) > number_at(*cuts.back(), slot) + 1)
            return problem("a write that was acknowledged before a later one is not in the cut");
    }
    current_.reset();
    later(static_cast<std::int64_t>(executor_.rng.below(second)), [this] { this->attempt(); });
}

Report GroupWorld::run() {
    for (const auto& machine : machines_) later(100 * ms, [&m = *machine] { m.start_source(); });
    for (std::size_t slot = 0; slot < slots; ++slot)
        later(ms, [this, slot] { write_next(slot, 0); });
    later(2 * second, [this] { attempt(); });
    later(3 * second, [this] { something_happens(); });
    later(troubled_time, [this] {
        faulty_ = false;
        say("faults are over");
    });
    std::vector<std::uint64_t> before;
    later(troubled_time + quiet_time / 2, [&] { before = numbers_; });
    bool over = false;
    later(troubled_time + quiet_time, [&] { over = true; });
    while (report_.passed && !over && executor_.step()) {
    }
    if (report_.passed && common_quiet_ < 3)
        problem("only " + std::to_string(common_quiet_) + " common cuts after faults have stopped");
    if (report_.passed && !std::ranges::equal(before, numbers_, std::less<>()))
        problem("a write was held for ever");
    report_.closed = common_;
    report_.hits = faults_.hits;
    return report_;
}

}  // namespace ebb::sim
