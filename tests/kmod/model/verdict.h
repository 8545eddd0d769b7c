// SPDX-License-Identifier: Apache-2.0
// What a run has found, from whichever thread, and what it did.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace ebb::kmodmodel {

struct Tally {
    std::uint64_t runs = 0;
    std::uint64_t writes = 0;
    std::uint64_t passes = 0;
    std::uint64_t cuts = 0;  // frozen and whole ones that ended, judged
    std::uint64_t wholes = 0;
    std::uint64_t blocks = 0;  // released
    std::uint64_t preserved = 0;
    std::uint64_t held = 0;
    std::uint64_t recovered = 0;  // disks, by restarts of the machine
    std::uint64_t differed = 0;   // blocks, of these from the replica
    std::uint64_t daemons = 0;
    std::uint64_t cooled = 0;                     // times that all regions were
    std::map<std::string, std::uint64_t> voided;  // by reason

    void add(const Tally& other) {
        runs += other.runs;
        writes += other.writes;
        passes += other.passes;
        cuts += other.cuts;
        wholes += other.wholes;
        blocks += other.blocks;
        preserved += other.preserved;
        held += other.held;
        recovered += other.recovered;
        differed += other.differed;
        daemons += other.daemons;
        cooled += other.cooled;
        for (const auto& [reason, count] : other.voided) voided[reason] += count;
    }
};

class Verdict {
public:
    void fault(const std::string& what) {
        std::lock_guard lock(mutex_);
        failed_ = true;
        if (faults_.size() < 20) faults_.push_back(what);
    }
    void fault(const std::vector<std::string>& all) {
        for (const auto& what : all) fault(what);
    }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] std::vector<std::string> faults() {
        std::lock_guard lock(mutex_);
        return faults_;
    }

private:
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    std::vector<std::string> faults_;
};

}  // namespace ebb::kmodmodel
