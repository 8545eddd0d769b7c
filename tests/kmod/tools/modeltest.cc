// SPDX-License-Identifier: Apache-2.0
// modeltest: random operations on the module and on a model of it; what passes give must be what
// the model allows.
//
//   --module KO        path of ebb.ko; it is loaded if it is not, and stays
//   --seed N           one scenario; or --seeds A..B, all of them; or --seconds S, from --seed on
//   --at-most S        begin no further one of --seeds after so many seconds
//   --replay FILE      a saved scenario
//   --tries N          each so many times (default 1)
//   --show             print the scenarios, and do nothing
//   --restarts         scenarios with restarts, which need a host (model_restarts.py); then also
//   --leg K --keep DIR what one machine does of it, between its Kth restart and the next
//   --shrink S         make one that fails smaller, for so many seconds at most
//   --shrink-tries N   a candidate fails if one of so many runs does (default 5)
//   --cuts N           fail if fewer cuts were judged in all
//
// Prints an account as JSON. Exit status 1: a fault, with its scenario between lines "====
// scenario" and "==== end"; 2: it could not be run; 3: something hangs.
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "lib/options.h"
#include "lib/text.h"
#include "model/executor.h"
#include "model/generator.h"
#include "model/shrinker.h"

namespace ebb::kmodmodel {
namespace {

using kmodtest::Options;
using kmodtest::text;

double now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

unsigned long long n(std::uint64_t value) {
    return value;
}

class Test {
public:
    explicit Test(const Options& options) : options_(options), module_(options.get("module")) {
        timespec t{};
        clock_gettime(CLOCK_REALTIME, &t);
        run_ = static_cast<std::uint64_t>(t.tv_sec) << 20;
    }

    int main() {
        double begun = now(), until = begun + static_cast<double>(options_.number("seconds", 0));
        std::uint64_t first = options_.number("seed", 1), last = first;
        if (options_.has("replay")) return replay();
        if (options_.has("seeds")) {
            std::string range = options_.get("seeds");
            first = std::strtoull(range.c_str(), nullptr, 0);
            last = std::strtoull(range.c_str() + range.find("..") + 2, nullptr, 0);
        }
        double enough = begun + static_cast<double>(options_.number("at-most", 1000000));
        for (std::uint64_t seed = first; seed <= last || now() < until; ++seed) {
            if (now() > enough) break;
            if (int failed =
                    one(options_.has("restarts") ? generate_restarts(seed) : generate(seed)))
                return failed;
        }
        return account(now() - begun);
    }

private:
    int replay() {
        std::ifstream file(options_.get("replay"));
        std::stringstream content;
        content << file.rdbuf();
        auto scenario = parse_scenario(content.str());
        if (!file || !scenario) {
            fprintf(stderr, "modeltest: %s is no scenario\n", options_.get("replay").c_str());
            return 2;
        }
        double begun = now();
        if (int failed = one(*scenario)) return failed;
        return account(now() - begun);
    }

    int one(const Scenario& scenario) {
        if (options_.has("show")) {
            fputs(to_text(scenario).c_str(), stdout);
            return 0;
        }
        for (std::uint64_t i = options_.number("tries", 1); i > 0; --i) {
            double begun = now();
            Leg leg{options_.number("leg", 0), options_.get("keep")};
            Outcome outcome =
                execute(scenario, module_, ++run_, options_.has("keep") ? &leg : nullptr);
            printf("seed %llu: %llu writes, %llu passes, %llu cuts, %.1f s\n", n(scenario.seed),
                   n(outcome.tally.writes), n(outcome.tally.passes), n(outcome.tally.cuts),
                   now() - begun);
            fflush(stdout);
            tally_.add(outcome.tally);
            if (!outcome.broken.empty()) {
                fprintf(stderr, "modeltest: %s\n", outcome.broken.c_str());
                return 2;
            }
            if (!outcome.faults.empty()) return failed(scenario, outcome);
        }
        return 0;
    }

    int failed(const Scenario& scenario, const Outcome& outcome) {
        for (const auto& fault : outcome.faults)
            printf("FAILED seed %llu: %s\n", n(scenario.seed), fault.c_str());
        tell(scenario);
        if (!options_.has("shrink")) return 1;
        double until = now() + static_cast<double>(options_.number("shrink", 60));
        Scenario small = shrink(
            scenario, [this](const Scenario& candidate) { return fails(candidate); },
            [until] { return now() < until; });
        printf("shrunk from %zu operations to %zu; what it says:\n", scenario.operations.size(),
               small.operations.size());
        for (const auto& fault : last_faults_) printf("    %s\n", fault.c_str());
        tell(small);
        return 1;
    }

    bool fails(const Scenario& candidate) {
        for (std::uint64_t i = options_.number("shrink-tries", 5); i > 0; --i) {
            Outcome outcome = execute(candidate, module_, ++run_);
            if (outcome.faults.empty()) continue;
            last_faults_ = outcome.faults;
            return true;
        }
        return false;
    }

    static void tell(const Scenario& scenario) {
        printf("==== scenario\n%s==== end\n", to_text(scenario).c_str());
        fflush(stdout);
    }

    int account(double seconds) {
        std::string voided;
        for (const auto& [reason, count] : tally_.voided)
            voided += text("%s\"%s\":%llu", voided.empty() ? "" : ",", reason.c_str(), n(count));
        printf(
            "{\"runs\":%llu,\"writes\":%llu,\"passes\":%llu,\"cuts\":%llu,\"wholes\":%llu,"
            "\"blocks\":%llu,\"preserved\":%llu,\"held\":%llu,\"recovered\":%llu,\"differed\":%llu,"
            "\"daemons\":%llu,\"cooled\":%llu,\"void\":{%s},\"seconds\":%.1f}\n",
            n(tally_.runs), n(tally_.writes), n(tally_.passes), n(tally_.cuts), n(tally_.wholes),
            n(tally_.blocks), n(tally_.preserved), n(tally_.held), n(tally_.recovered),
            n(tally_.differed), n(tally_.daemons), n(tally_.cooled), voided.c_str(), seconds);
        if (tally_.cuts >= options_.number("cuts", 0)) return 0;
        printf("FAILED: too few cuts were judged\n");
        return 1;
    }

    const Options& options_;
    std::string module_;
    std::uint64_t run_ = 0;
    Tally tally_;
    std::vector<std::string> last_faults_;
};

}  // namespace
}  // namespace ebb::kmodmodel

int main(int argc, char** argv) {
    ebb::kmodtest::Options options(argc, argv, {"show", "restarts"});
    return ebb::kmodmodel::Test(options).main();
}
