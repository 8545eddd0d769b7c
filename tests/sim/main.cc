// SPDX-License-Identifier: Apache-2.0
// ebb_sim: runs seeds of the simulator, and proves that it would notice.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "group_world.h"
#include "world.h"

namespace {

using namespace ebb::sim;

constexpr std::uint64_t hits_wanted = 100;  // of each fault kind, in 500 seeds
constexpr std::uint64_t mutation_seeds = 700;

const std::set<std::string> fault_kinds = {"ahead",
                                           "ahead-again",
                                           "ambush",
                                           "app-point",
                                           "app-point-degraded",
                                           "bit-rot",
                                           "broken-connection",
                                           "cache-ambush",
                                           "certified",
                                           "certified-equal",
                                           "certified-merged",
                                           "certified-overwritten",
                                           "certified-whole",
                                           "certify-given-up",
                                           "checkpoint",
                                           "clock-step",
                                           "common-alone",
                                           "common-cut",
                                           "common-cut-failed",
                                           "compare-ambush",
                                           "compared-differs",
                                           "compared-same",
                                           "crash-in-erase",
                                           "crash-in-failover",
                                           "crash-in-marking",
                                           "crash-in-naming",
                                           "damaged-content",
                                           "disable",
                                           "disk-error",
                                           "disk-reset",
                                           "failed-export",
                                           "failover",
                                           "failover-in-delta",
                                           "fenced",
                                           "frame-twice",
                                           "frames-swapped",
                                           "full-resync",
                                           "full-volume",
                                           "gate-deadline",
                                           "group-coordinator-gone",
                                           "group-source-killed",
                                           "journal-damage-found",
                                           "journal-verified",
                                           "journal-verified-full",
                                           "journal-verified-pruned",
                                           "journal-verify-given-up",
                                           "late-frame",
                                           "lost-name",
                                           "lost-write",
                                           "marked-common",
                                           "merged-manifests",
                                           "misdirected-sector",
                                           "name-ambush",
                                           "named-point",
                                           "network-down",
                                           "old-source",
                                           "old-target",
                                           "no-room-to-rewind",
                                           "pinned",
                                           "pool-full",
                                           "preserved",
                                           "put-back",
                                           "put-back-between",
                                           "put-back-restarted",
                                           "read-error",
                                           "restart-ambush",
                                           "source-reboot",
                                           "snapshot",
                                           "snapshot-restored",
                                           "map-out-of-step",
                                           "rewound",
                                           "rot-found",
                                           "served",
                                           "served-given-up",
                                           "served-merged",
                                           "served-raced",
                                           "served-read",
                                           "set-interval",
                                           "silent-network",
                                           "slow-disk",
                                           "small-volume",
                                           "source-killed",
                                           "source-power",
                                           "stranger",
                                           "sync-error",
                                           "target-killed",
                                           "target-power",
                                           "thinned",
                                           "torn-file",
                                           "torn-write",
                                           "tracker-refused",
                                           "tracker-unanswered",
                                           "trim",
                                           "trimmed",
                                           "unpinned",
                                           "untracked-write",
                                           "verified",
                                           "verify-rot",
                                           "void-pass",
                                           "volume-error",
                                           "whole-export",
                                           "write-gated"};

// Every place in core that waits for something to be durable: a removed one must be noticed.
const std::set<std::string> sync_sites = {"arrived",
                                          "batch",
                                          "close",
                                          "closed",
                                          "common-content",
                                          "common-name",
                                          "drop-open",
                                          "epoch-again",
                                          "epoch-name",
                                          "erase",
                                          "frozen-began",
                                          "merge-content",
                                          "merge-name",
                                          "move",
                                          "move-undone",
                                          "names-content",
                                          "names-name",
                                          "position",
                                          "recovery-content",
                                          "recovery-name",
                                          "remove-oldest",
                                          "replace-content",
                                          "replace-name",
                                          "rewind-gone",
                                          "rewind-name",
                                          "rewind-undo",
                                          "rewound",
                                          "roll-back",
                                          "same",
                                          "seal",
                                          "undo"};

int usage() {
    std::fprintf(stderr,
                 "usage: ebb_sim --seed N [--verbose] [--mutation NAME]\n"
                 "       ebb_sim --seeds A..B\n"
                 "       ebb_sim --mutations\n"
                 "       ebb_sim --orderings\n");
    return 2;
}

// What one machine sees, then, if that passed, what several do.
Report run(const Options& options) {
    Report report;
    const bool group = options.mutation.starts_with("group:");
    if (!group) report = World(options).run();
    if (!report.passed || !(group || options.mutation.empty())) return report;
    const Report more = GroupWorld(options).run();
    report.passed = more.passed;
    report.failure = more.failure;
    report.closed += more.closed;
    for (const auto& [kind, count] : more.hits) report.hits[kind] += count;
    return report;
}

int one(std::uint64_t seed, bool verbose, const std::string& mutation) {
    const Report report = run({seed, verbose, mutation});
    std::printf("seed %llu: %s%s, %llu epochs, %llu checks\n",
                static_cast<unsigned long long>(seed),
                report.passed ? "passed" : "FAILED: ", report.failure.c_str(),
                static_cast<unsigned long long>(report.closed),
                static_cast<unsigned long long>(report.checks));
    return report.passed ? 0 : 1;
}

int many(std::uint64_t from, std::uint64_t to) {
    std::map<std::string, std::uint64_t> hits, sites;
    std::uint64_t passed = 0, failed = 0, closed = 0, checks = 0, failovers = 0;
    for (std::uint64_t seed = from; seed <= to; ++seed) {
        const Report report = run({seed, false, {}});
        for (const auto& [kind, count] : report.hits) hits[kind] += count;
        for (const auto& [site, count] : report.sites) sites[site] += count;
        closed += report.closed;
        checks += report.checks;
        failovers += report.failovers;
        ++(report.passed ? passed : failed);
        if (report.passed) continue;
        std::printf("seed %llu FAILED: %s\n  again: ebb_sim --seed %llu --verbose\n",
                    static_cast<unsigned long long>(seed), report.failure.c_str(),
                    static_cast<unsigned long long>(seed));
    }
    std::printf("%llu epochs closed, %llu replicas compared, %llu failovers\n",
                static_cast<unsigned long long>(closed), static_cast<unsigned long long>(checks),
                static_cast<unsigned long long>(failovers));
    const bool enough = to - from + 1 >= 500;
    for (const auto& [site, count] : sites) {
        if (sync_sites.contains(site)) continue;
        std::printf("sync site %s has no mutation\n", site.c_str());
        ++failed;
    }
    for (const std::string& site : sync_sites) {
        if (!enough || sites.contains(site)) continue;
        std::printf("sync site %s is never used\n", site.c_str());
        ++failed;
    }
    for (const std::string& kind : fault_kinds) {
        const bool rare = enough && hits[kind] < hits_wanted;
        std::printf("  %-20s %8llu%s\n", kind.c_str(), static_cast<unsigned long long>(hits[kind]),
                    rare ? "  TOO RARE" : "");
        ++(rare ? failed : passed);
    }
    std::printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(passed),
                static_cast<unsigned long long>(failed));
    return failed == 0 ? 0 : 1;
}

// Syncs that are removed, and whatever else is falsified.
std::vector<std::string> mutations() {
    std::vector<std::string> names = falsifications();
    names.insert(names.end(), group_falsifications().begin(), group_falsifications().end());
    names.insert(names.end(), sync_sites.begin(), sync_sites.end());
    return names;
}

// What comes after a sync is done before it: for some tens of milliseconds.
std::vector<std::string> orderings() {
    std::vector<std::string> names;
    for (const std::string& site : sync_sites)
        names.push_back(std::string(Faults::late_prefix) + site);
    return names;
}

int all_caught(const std::vector<std::string>& names) {
    std::uint64_t caught = 0, missed = 0;
    for (const std::string& name : names) {
        std::uint64_t seed = 1;
        Report report;
        for (; seed <= mutation_seeds; ++seed) {
            report = run({seed, false, name});
            if (!report.passed) break;
        }
        if (report.passed) {
            ++missed;
            std::printf("%-30s NOT CAUGHT in %llu seeds\n", name.c_str(),
                        static_cast<unsigned long long>(mutation_seeds));
        } else {
            ++caught;
            std::printf("%-30s caught by seed %llu: %s\n", name.c_str(),
                        static_cast<unsigned long long>(seed), report.failure.c_str());
        }
        std::fflush(stdout);
    }
    std::printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(caught),
                static_cast<unsigned long long>(missed));
    return missed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    std::string mutation;
    std::uint64_t seed = 0, to = 0;
    bool verbose = false, single = false, range = false;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg == "--mutations") return all_caught(mutations());
        if (arg == "--orderings") return all_caught(orderings());
        if (arg == "--verbose") {
            verbose = true;
        } else if (arg == "--mutation" && i + 1 < argc) {
            mutation = argv[++i];
        } else if (arg == "--seed" && i + 1 < argc) {
            single = true;
            seed = std::strtoull(argv[++i], nullptr, 10);
        } else if (arg == "--seeds" && i + 1 < argc) {
            range = true;
            char* end = nullptr;
            seed = std::strtoull(argv[++i], &end, 10);
            if (std::strncmp(end, "..", 2) != 0) return usage();
            to = std::strtoull(end + 2, nullptr, 10);
        } else {
            return usage();
        }
    }
    if (single) return one(seed, verbose, mutation);
    if (range && to >= seed) return many(seed, to);
    return usage();
}
