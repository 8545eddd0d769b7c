// SPDX-License-Identifier: Apache-2.0
// What a master target says of its volumes and disks before it lets replication near them.
// Nothing is left out: what cannot be used is listed with every reason, each with a code of its
// own (E_RETENTION_..., E_DISK_...), a sentence and a remedy. Read from libblkid, sysfs and
// /proc/self/mountinfo. Sizes in bytes. Blocking; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "platform/block_table.h"

namespace ebb::platform {

struct VolumeUsage {
    std::uint64_t size = 0;
    std::uint64_t available = 0;  // to an ordinary user
    bool writable = false;        // by this process
};

// The parts of the machine that are asked for rather than read; replaced in tests.
struct TargetHost {
    HostPaths paths;
    // A mounted volume, by its mount point.
    std::function<Result<VolumeUsage>(const std::string& point)> usage;

    TargetHost();
};

// A path that has a purpose already: its volume is not for retention.
struct ReservedPath {
    enum class Use { install, cache, replication };
    std::string path;
    Use use = Use::install;
};

struct VolumeRules {
    std::string default_path = "/mnt/retention";
    std::vector<ReservedPath> reserved;
    // Stable ids of the disks that are, or are to become, replication targets.
    std::vector<std::string> target_disks;
};

struct RetentionVolume {
    std::string path;    // mount point; the node for what is not mounted
    std::string device;  // node or, on a network, the source
    std::string fs;
    std::uint64_t size = 0;
    std::uint64_t available = 0;
    std::vector<Error> reasons;  // empty: usable

    [[nodiscard]] bool usable() const { return reasons.empty(); }
};

// Every mounted volume and every unmounted device with a file system or alike on it, and always
// the default path. In order of path, the default one first.
Result<std::vector<RetentionVolume>> list_retention_volumes(const TargetHost& host,
                                                            const VolumeRules& rules);

// The volume that `path`, which must be a mount point of its own, is on: the error of the first
// reason if it is refused.
Result<RetentionVolume> check_retention_volume(const TargetHost& host, const VolumeRules& rules,
                                               const std::string& path);

inline constexpr std::size_t max_target_disks = 60;

struct TargetDiskInfo {
    std::string stable_id;  // normal_id of the wwid; empty: none
    std::string name;       // "sdb": changes from boot to boot
    std::string node;
    std::uint64_t size = 0;
    std::string controller;      // for people: "LSI Logic parallel (sym53c8xx)"
    std::string pci;             // "1000:0012"
    std::string in_use_by;       // empty: nothing
    std::vector<Error> reasons;  // empty: usable

    [[nodiscard]] bool usable() const { return reasons.empty(); }
};

struct DiskRules {
    std::string retention_path = "/mnt/retention";
    // Stable ids that Ebb has ownership records for: their content is its own.
    std::vector<std::string> owned;
};

// Every physical disk of the machine, in order of name. What is on the disk is not looked at.
Result<std::vector<TargetDiskInfo>> list_target_disks(const TargetHost& host,
                                                      const DiskRules& rules);

struct DiskDemand {
    std::string stable_id;   // matched without regard to case
    std::uint64_t size = 0;  // of the source's disk
    bool overwrite = false;
};

// Finds the disk and checks all of it, its content too. All reasons against it at once: none
// means that it may be written to.
struct DiskVerdict {
    TargetDiskInfo disk;
    std::vector<Error> reasons;
};
Result<DiskVerdict> check_target_disk(const TargetHost& host, const DiskRules& rules,
                                      const DiskDemand& demand);

// What was found on a device, in words ("xfs file system", "GPT partition table", "data at its
// beginning"); empty: nothing, as far as signatures and the first and last MiB tell.
Result<std::string> device_content(const std::string& node);

// Type of the signature that blkid sees on a device ("vfat", "swap", "crypto_LUKS"); empty: none.
Result<std::string> device_signature(const std::string& node);

}  // namespace ebb::platform
