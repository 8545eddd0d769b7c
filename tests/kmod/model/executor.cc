// SPDX-License-Identifier: Apache-2.0
#include "model/executor.h"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <map>
#include <mutex>
#include <thread>

#include "model/machine.h"
#include "model/operator.h"
#include "model/writer.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::chrono::seconds patience{240};

// Something hangs: nothing in this process can be relied on any more.
class Watchdog {
public:
    explicit Watchdog(const Scenario& scenario)
        : thread_([this, &scenario](const std::stop_token& stop) {
              std::unique_lock lock(mutex_);
              if (changed_.wait_for(lock, stop, patience, [] { return false; })) return;
              if (stop.stop_requested()) return;
              std::printf("FAILED seed %llu: hangs\n",
                          static_cast<unsigned long long>(scenario.seed));
              std::printf("==== scenario\n%s==== end\n", to_text(scenario).c_str());
              std::fflush(stdout);
              if (std::system("for t in /proc/self/task/*; do cat $t/wchan $t/stack; done; "
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
    Executor(const Scenario& scenario, const std::string& module, std::uint64_t run)
        : scenario_(scenario), machine_(scenario, module), run_(run) {}

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
            the_operator.start();
            phases(model, the_operator);
            outcome.tally = the_operator.tally();
        }
        outcome.tally.runs = 1;
        outcome.tally.writes = model.writes();
        outcome.faults = verdict_.faults();
        return outcome;
    }

private:
    using Lanes = std::map<std::uint32_t, std::vector<Operation>>;

    void phases(Model& model, Operator& the_operator) {
        Lanes lanes;
        bool open = true;  // the last phase ends though nothing says so
        for (const auto& o : scenario_.operations) {
            if (verdict_.failed()) return;
            open = !is_boundary(o.kind);
            if (open) {
                lanes[o.lane].push_back(o);
                continue;
            }
            phase(model, the_operator, lanes);
            lanes.clear();
            if (verdict_.failed()) return;
            if (o.kind == Kind::reload) {
                the_operator.reload();
            } else {
                the_operator.settle();
            }
        }
        if (!open || lanes.empty()) return;
        phase(model, the_operator, lanes);
        if (!verdict_.failed()) the_operator.settle();
    }

    void phase(Model& model, Operator& the_operator, const Lanes& lanes) {
        std::atomic<bool> stop{false};
        std::vector<std::jthread> threads;
        for (const auto& [lane, operations] : lanes)
            if (lane != operator_lane)
                threads.emplace_back([this, &model, &stop, &operations] {
                    Writer(machine_, model, verdict_, run_).run(operations, stop);
                });
        if (auto found = lanes.find(operator_lane); found != lanes.end())
            for (const auto& o : found->second)
                if (!verdict_.failed()) the_operator.step(o);
        stop = true;
    }

    const Scenario& scenario_;
    Machine machine_;
    Verdict verdict_;
    std::uint64_t run_;
};

}  // namespace

Outcome execute(const Scenario& scenario, const std::string& module, std::uint64_t run) {
    Watchdog watchdog(scenario);
    return Executor(scenario, module, run).go();
}

}  // namespace ebb::kmodmodel
