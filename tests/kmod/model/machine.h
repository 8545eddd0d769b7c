// SPDX-License-Identifier: Apache-2.0
// The guest's side of a scenario: its disks, the paths to them, and the module.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/client.h"
#include "model/keep.h"
#include "model/model.h"
#include "model/scenario.h"

namespace ebb::kmodmodel {

// How a scenario's disk is made where it runs: a kind that is not there becomes another.
struct OpenDisk {
    std::string device;
    bool by_bios = false;  // without requests: attaching cannot wait for what is in flight
    bool may_fail = false;
    bool takes_commands = false;  // SCSI's
    std::string host;             // of such a one, by which it is found again
    std::string mapped, table;    // name of the dm device that it is, and how that is made
    Traits traits;
};

struct OpenPath {
    std::uint32_t disk = 0;
    std::uint64_t first = 0;
    std::string device;
    int direct = -1;
};

class Machine {
public:
    // `module` is the path of ebb.ko; `keep`, of a scenario with restarts, what outlives the
    // machine.
    Machine(const Scenario& scenario, std::string module, Keep* keep = nullptr);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    // Empty, or what went wrong.
    [[nodiscard]] std::string make();
    [[nodiscard]] std::string load();
    [[nodiscard]] std::string unload();
    // A parameter of the module, for a while: without a value as the scenario has it.
    [[nodiscard]] bool set_parameter(const std::string& name,
                                     std::optional<std::uint64_t> value = {}) const;

    // A sector, by a command that is not a bio; and another size for a dm disk. Empty, or what went
    // wrong.
    [[nodiscard]] std::string write_past(std::uint32_t disk, std::uint64_t sector,
                                         std::byte* data) const;
    [[nodiscard]] std::string resize(std::uint32_t disk, std::uint64_t sectors) const;
    // A SCSI disk is taken away under load, and comes back with what it holds when nobody writes:
    // its paths are others then. Empty, or what went wrong. is_gone() from any thread.
    [[nodiscard]] std::string remove(std::uint32_t disk);
    [[nodiscard]] std::string bring_back(std::uint32_t disk);
    [[nodiscard]] bool is_gone(std::uint32_t disk) const { return gone_[disk]; }

    [[nodiscard]] const OpenDisk& disk(std::uint32_t number) const { return disks_[number]; }
    [[nodiscard]] const OpenPath& path(std::uint32_t number) const { return paths_[number]; }
    [[nodiscard]] std::uint32_t disks() const { return static_cast<std::uint32_t>(disks_.size()); }
    [[nodiscard]] std::vector<std::uint64_t> sectors() const;
    [[nodiscard]] Keep* keep() const { return keep_; }
    // Where the disk's map is: no device if it has none.
    [[nodiscard]] kmodtest::LogArea area(std::uint32_t disk) const;

private:
    [[nodiscard]] std::string make_disk(std::uint32_t number);
    [[nodiscard]] std::string make_nullb(std::uint32_t number, const DiskPlan& plan,
                                         std::string& device);
    [[nodiscard]] std::string find_disk(std::uint32_t number, std::uint64_t sectors,
                                        std::string& device);
    [[nodiscard]] std::string make_brd(std::uint32_t number, const DiskPlan& plan);
    [[nodiscard]] std::string make_erasable(const DiskPlan& plan, std::string& device);
    [[nodiscard]] std::string make_scsi(const DiskPlan& plan, std::string& device);
    [[nodiscard]] std::string make_stripe(std::uint32_t number, const DiskPlan& plan,
                                          OpenDisk& disk);
    [[nodiscard]] std::string make_crypt(std::uint32_t number, const DiskPlan& plan,
                                         OpenDisk& disk);
    [[nodiscard]] std::string make_thin(std::uint32_t number, const DiskPlan& plan, OpenDisk& disk);
    [[nodiscard]] std::string make_mapped(const std::string& name, const std::string& table,
                                          std::string& device);
    [[nodiscard]] std::string make_path(std::uint32_t number);

    const Scenario& scenario_;
    std::string module_;
    Keep* keep_;
    std::string map_;  // the device
    std::vector<OpenDisk> disks_;
    std::vector<OpenPath> paths_;
    std::array<std::atomic<bool>, most_disks> gone_{};
    std::vector<std::string> undo_;  // commands, in reverse order
};

}  // namespace ebb::kmodmodel
