// SPDX-License-Identifier: Apache-2.0
// The machine's block devices, mounts and swap areas as sysfs and proc describe them at one
// moment: how devices are stacked, which disks are under them, which PCI function a disk hangs off.
// Blocking; any thread; a table does not change once loaded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace ebb::platform {

// Where the kernel's file systems are: elsewhere only in tests.
struct HostPaths {
    std::string sys = "/sys";
    std::string proc = "/proc";
    std::string dev = "/dev";
};

struct PciFunction {
    std::string address;  // "0000:00:05.0"
    std::uint32_t vendor = 0;
    std::uint32_t device = 0;
    std::string driver;  // empty: none bound
};

struct BlockDevice {
    std::string name;    // kernel name, "sda1"
    std::string number;  // "8:1"
    std::string path;    // in sysfs, without symbolic links
    std::string parent;  // the disk, if this is a partition
    std::uint64_t size = 0;
    bool read_only = false;
    bool physical = false;            // a whole disk with hardware (or a hypervisor) behind it
    std::string wwid;                 // as the device reports it, trimmed; empty: none
    std::string dm_name;              // empty: no device-mapper device
    std::string dm_uuid;              // who made it, and what it names it: "mpath-...", "LVM-..."
    std::vector<std::string> slaves;  // what it is stacked on, by name
    std::vector<std::string> holders;
};

struct Mount {
    std::string number;  // of the file system's device, "0:23" where there is none
    std::string root;    // of the mount within its file system
    std::string point;
    std::string type;
    std::string source;
    bool read_only = false;  // the mount or its file system
};

class BlockTable {
public:
    // E_IO when sysfs or proc cannot be read.
    static Result<BlockTable> load(const HostPaths& paths);

    [[nodiscard]] const std::map<std::string, BlockDevice>& devices() const { return devices_; }
    [[nodiscard]] const std::vector<Mount>& mounts() const { return mounts_; }
    // Those that others were mounted above, at the same point.
    [[nodiscard]] const std::vector<Mount>& hidden_mounts() const { return hidden_; }
    // The devices of the btrfs that a device is one of.
    [[nodiscard]] std::set<std::string> btrfs_members(const std::string& name) const;
    [[nodiscard]] const BlockDevice* find(const std::string& name) const;
    [[nodiscard]] const BlockDevice* find_number(const std::string& number) const;
    // The device under a mount, through its number or, where that is anonymous (btrfs), its source.
    [[nodiscard]] const BlockDevice* under(const Mount& mount) const;
    // The mount that a path is on; absent if even "/" is not listed.
    [[nodiscard]] const Mount* mount_of(const std::string& path) const;
    // Physical disks under a device through partitions, dm and md; a disk is under itself.
    [[nodiscard]] std::set<std::string> disks_under(const std::string& name) const;
    // The device itself and all that is made of it: partitions, and what holds any of them.
    [[nodiscard]] std::set<std::string> made_of(const std::string& name) const;
    // The multipath device that the disk is one path of; absent: none. Others write past that path.
    [[nodiscard]] const BlockDevice* multipath_of(const BlockDevice& device) const;
    [[nodiscard]] bool is_swap(const std::string& name) const { return swaps_.contains(name); }
    // The PCI function next above the disk.
    [[nodiscard]] std::optional<PciFunction> pci_of(const BlockDevice& device) const;
    // Path of its node.
    [[nodiscard]] std::string node(const BlockDevice& device) const;

private:
    explicit BlockTable(HostPaths paths) : paths_(std::move(paths)) {}
    Status load_devices();
    Status load_mounts();
    void load_swaps();
    void load_btrfs();

    HostPaths paths_;
    std::map<std::string, BlockDevice> devices_;
    std::vector<Mount> mounts_;
    std::vector<Mount> hidden_;
    std::vector<std::set<std::string>> btrfs_;
    std::set<std::string> swaps_;
};

// What two ids that name the same disk have in common: lower case, characters that
// api::valid_stable_id does not know turned into '_'.
[[nodiscard]] std::string normal_id(std::string_view id);

}  // namespace ebb::platform
