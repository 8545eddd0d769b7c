// SPDX-License-Identifier: Apache-2.0
// The one who attaches disks and makes passes: holds what the module answers against the model.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "lib/client.h"
#include "lib/direct.h"
#include "model/ledger.h"
#include "model/machine.h"
#include "model/model.h"
#include "model/pass.h"
#include "model/replica.h"
#include "model/verdict.h"

namespace ebb::kmodmodel {

class Operator {
public:
    Operator(Machine& machine, Model& model, Verdict& verdict, std::uint64_t run);
    ~Operator();
    Operator(const Operator&) = delete;
    Operator& operator=(const Operator&) = delete;

    // Attaches all disks and marks them.
    void start();
    void step(const Operation& operation);
    // Nobody writes: a last pass must close, and the replica be the disk.
    void settle();
    void reload();
    [[nodiscard]] const Tally& tally() const { return tally_; }

private:
    struct Attached {
        std::uint32_t id = 0;
        int image = -1;
        int disk = -1;
        std::uint64_t attached = 0;  // ticket
        // Writes were under way then: one that is sent after that is flagged as untracked.
        bool was_busy = false;
    };

    // operator.cc: commands
    [[nodiscard]] int call(const kmodtest::Request& request, kmodtest::Reply& reply);
    [[nodiscard]] int call(const kmodtest::Request& request);
    void unexpected(const char* what, int error);
    void open_client();
    void attach(std::uint32_t disk);
    void detach(std::uint32_t disk);
    void mark(std::uint32_t disk, std::uint64_t first, std::uint64_t count);
    void mark_all(std::uint32_t disk);
    void confirm();
    void abandon();
    void kill();
    // Whether the module has all it must know of the disk; else it is marked once more.
    [[nodiscard]] bool is_tracked(std::uint32_t disk);
    void check_rest(std::uint32_t disk);

    // reading.cc: passes
    void begin(Kind kind);
    [[nodiscard]] bool wait_landed();
    [[nodiscard]] bool take_map();
    [[nodiscard]] int take_extents(std::uint32_t disk);
    [[nodiscard]] bool read_run(const Run& run);
    [[nodiscard]] bool release_runs(const std::vector<Run>& runs);
    void vouch(const Run& run);
    void some(std::uint64_t per_cent, std::uint64_t seed, bool release);
    void end(std::uint64_t seed);
    void ended();
    void judge(const Pass& pass);
    [[nodiscard]] bool read_whole();
    [[nodiscard]] std::vector<Code> read_disk(int fd, std::uint32_t disk, bool& good);
    // Whether the pass is void; says so, and forgets it.
    bool is_void();
    void gone();
    void allow(const char* reason) { reasons_.insert(reason); }

    Machine& machine_;
    Model& model_;
    Verdict& verdict_;
    std::uint64_t run_;
    Ledger ledger_;
    Replica replica_;
    Tally tally_;
    std::unique_ptr<kmodtest::Client> client_;
    std::vector<Attached> attached_;
    std::optional<Pass> pass_;
    std::set<std::string> reasons_;  // for which the pass may be void
    kmodtest::Aligned buffer_;
    std::mt19937_64 random_;
};

}  // namespace ebb::kmodmodel
