// SPDX-License-Identifier: Apache-2.0
#include "model/executor.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "model/machine.h"
#include "model/operator.h"
#include "model/writer.h"

namespace ebb::kmodmodel {
namespace {

// A leg has the start of a machine's disks in it, and what it recovers.
constexpr std::chrono::seconds patience{240}, patience_of_leg{900};

// Something hangs: nothing in this process can be relied on any more.
class Watchdog {
public:
    Watchdog(const Scenario& scenario, std::chrono::seconds limit)
        : thread_([this, &scenario, limit](const std::stop_token& stop) {
              std::unique_lock lock(mutex_);
              if (changed_.wait_for(lock, stop, limit, [] { return false; })) return;
              if (stop.stop_requested()) return;
              std::printf("FAILED seed %llu: hangs\n",
                          static_cast<unsigned long long>(scenario.seed));
              std::printf("==== scenario\n%s==== end\n", to_text(scenario).c_str());
              std::fflush(stdout);
              if (std::system("for t in /proc/$PPID/task/*; do cat $t/wchan $t/stack; done; "
                              "ebbtest pass-get 1; ebbtest list") != 0)
                  std::puts("(that is all)");
              _exit(3);
          }) {}

private:
    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::jthread thread_;
};

class Executor {
public:
    Executor(const Scenario& scenario, const std::string& module, std::uint64_t run, Keep* keep,
             std::size_t leg)
        : machine_(scenario, module, keep), run_(run) {
        auto& all = scenario.operations;
        auto begin = all.begin();
        for (std::size_t i = 0; keep && i < leg && begin != all.end(); ++i) {
            begin = std::ranges::find_if(begin, all.end(), is_end);
            if (begin != all.end()) before_ = *begin++;
        }
        auto end = keep ? std::ranges::find_if(begin, all.end(), is_end) : all.end();
        operations_.assign(begin, end);
        if (end != all.end()) after_ = *end;
    }

    Outcome go() {
        Outcome outcome;
        outcome.broken = machine_.make();
        if (!outcome.broken.empty()) return outcome;
        std::vector<Traits> traits;
        for (std::uint32_t d = 0; d < machine_.disks(); ++d)
            traits.push_back(machine_.disk(d).traits);
        Model model(traits);
        {
            Operator the_operator(machine_, model, verdict_, run_);
            if (after_ && after_->kind == Kind::cut && after_->at == 1) say_running();
            if (!before_) the_operator.start();
            if (before_) the_operator.resume(before_->kind);
            phases(model, the_operator);
            if (after_ && !verdict_.failed()) last(model, the_operator);
            outcome.tally = the_operator.tally();
        }
        outcome.tally.runs = 1;
        outcome.tally.writes = model.writes();
        outcome.faults = verdict_.faults();
        return outcome;
    }

private:
    using Lanes = std::map<std::uint32_t, std::vector<Operation>>;

    static bool is_end(const Operation& o) { return is_restart(o.kind); }

    // The host goes by it.
    static void say_running() {
        std::puts("RUNNING");
        std::fflush(stdout);
    }

    void phases(Model& model, Operator& the_operator) {
        Lanes lanes;
        bool open = true;  // the last phase ends though nothing says so
        for (const auto& o : operations_) {
            if (verdict_.failed()) return;
            open = !is_boundary(o.kind);
            if (open) {
                lanes[o.lane].push_back(o);
                continue;
            }
            phase(model, the_operator, lanes);
            lanes.clear();
            if (verdict_.failed()) return;
            switch (o.kind) {
                case Kind::reload: the_operator.reload(); break;
                case Kind::daemon: the_operator.daemon(); break;
                case Kind::cool: the_operator.cool(); break;
                case Kind::passthrough: the_operator.pass_through(o); break;
                case Kind::resize: the_operator.resize(o); break;
                default: the_operator.settle(); break;
            }
        }
        last_ = lanes;
        if (after_ || !open || lanes.empty()) return;
        phase(model, the_operator, lanes);
        if (!verdict_.failed()) the_operator.settle();
    }

    // The phase in which the machine ends.
    void last(Model& model, Operator& the_operator) {
        bool quiet = after_->kind == Kind::reboot;
        if (!quiet && !(after_->kind == Kind::cut && after_->at == 1)) say_running();
        phase(model, the_operator, last_, !quiet);
        if (verdict_.failed()) return;
        if (quiet) the_operator.set_exact();
        the_operator.leave();
    }

    // `endless`: until somebody ends the machine, or something is wrong.
    void phase(Model& model, Operator& the_operator, const Lanes& lanes, bool endless = false) {
        std::atomic<bool> stop{false};
        std::vector<std::jthread> threads;
        for (const auto& [lane, operations] : lanes)
            if (lane != operator_lane)
                threads.emplace_back([this, &model, &stop, &operations] {
                    Writer(machine_, model, verdict_, run_).run(operations, stop);
                });
        auto found = lanes.find(operator_lane);
        do {
            if (found == lanes.end()) {
                if (endless) usleep(1000);
                continue;
            }
            for (const auto& o : found->second)
                if (!verdict_.failed()) the_operator.step(o);
        } while (endless && !verdict_.failed());
        stop = true;
    }

    Machine machine_;
    Verdict verdict_;
    std::uint64_t run_;
    std::vector<Operation> operations_;
    Lanes last_;
    std::optional<Operation> before_, after_;  // restarts
};

}  // namespace

Outcome execute(const Scenario& scenario, const std::string& module, std::uint64_t run,
                const Leg* leg) {
    Watchdog watchdog(scenario, leg ? patience_of_leg : patience);
    if (!leg) return Executor(scenario, module, run, nullptr, 0).go();
    std::vector<std::uint64_t> sectors;
    for (const auto& disk : scenario.disks) sectors.push_back(disk.sectors);
    Keep keep(leg->folder);
    if (!keep.open(sectors))
        return {.faults = {}, .broken = "cannot use " + leg->folder, .tally = {}};
    return Executor(scenario, module, run, &keep, leg->number).go();
}

}  // namespace ebb::kmodmodel
