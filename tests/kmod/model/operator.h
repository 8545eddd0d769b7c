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
#include "model/bound.h"
#include "model/ledger.h"
#include "model/machine.h"
#include "model/model.h"
#include "model/pass.h"
#include "model/replica.h"
#include "model/verdict.h"

namespace ebb::kmodmodel {

// A confirmation by its number, as the module keeps it, and as lib/client.h shows that.
[[nodiscard]] std::string cookie_of(std::uint64_t confirmation);
[[nodiscard]] std::string shown_cookie(std::uint64_t confirmation);

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
    // Nobody writes: a command goes past all bios, or the size changes. Both are seen and named.
    void pass_through(const Operation& operation);
    void resize(const Operation& operation);
    // restart.cc: what outlives the machine, its module and its daemon. Attaches all disks after a
    // restart, judges what was recovered, and brings the replica up to date by that alone.
    void resume(Kind how);
    void daemon();
    // Nobody writes: all regions go cold.
    void cool();
    // ... until the machine goes down in order.
    void set_exact();
    // The disks stay attached when this one ends.
    void leave();
    [[nodiscard]] const Tally& tally() const { return tally_; }

private:
    struct Attached {
        std::uint32_t id = 0;
        int image = -1;
        int disk = -1;
        std::uint64_t attached = 0;  // ticket
        // Writes were under way then: one that is sent after that is flagged as untracked.
        bool was_busy = false;
        kmodtest::Nest found;  // by the attach
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
    void remove(std::uint32_t disk);
    void bring_back();
    void keep_confirmed();
    [[nodiscard]] std::optional<std::uint64_t> reasons_of(std::uint32_t disk);
    [[nodiscard]] bool is_flagged(std::uint32_t disk, unsigned int reason);
    [[nodiscard]] bool has_right_reasons(std::uint64_t reasons) const;
    // Whether the module has all it must know of the disk; else it is marked once more.
    [[nodiscard]] bool is_tracked(std::uint32_t disk);
    void check_rest(std::uint32_t disk);

    // restart.cc
    [[nodiscard]] Blocks differing(std::uint32_t disk);
    void judge_recovered(std::uint32_t disk, Area area, const Blocks& differ);
    void judge_crash(std::uint32_t disk);
    void judge_clean(std::uint32_t disk);
    void judge_cookie(std::uint32_t disk);
    void judge_all_recovered(std::uint32_t disk, const Blocks& differ, const char* when);
    void catch_up();
    [[nodiscard]] bool are_cold();
    void wait_cold();

    // reading.cc: passes
    void begin(Kind kind);
    [[nodiscard]] bool wait_landed();
    [[nodiscard]] Maps written();
    [[nodiscard]] bool take_map();
    [[nodiscard]] int take_extents(std::uint32_t disk);
    [[nodiscard]] ebb_extent extent_of(std::uint32_t disk, std::uint64_t block,
                                       std::uint64_t count) const;
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
    Bound bound_;
    Replica replica_;
    Contents unconfirmed_;  // of passes that ended
    Tally tally_;
    std::unique_ptr<kmodtest::Client> client_;
    std::vector<Attached> attached_;
    std::optional<Pass> pass_;
    Tracked tracked_before_ = Tracked::never;  // the attach that goes on
    std::set<std::string> reasons_;            // for which the pass may be void
    kmodtest::Aligned buffer_;
    std::mt19937_64 random_;
};

}  // namespace ebb::kmodmodel
