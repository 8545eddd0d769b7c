// SPDX-License-Identifier: Apache-2.0
// Marks of disks that hold replicas, for udev/60-ebb.rules: a file for each, named by the disk's id
// as sysfs has it. What is marked is left alone by LVM, md, multipath and blkid, whether a daemon
// runs or not: a replica is a physical volume, a part of an array, a file system of its source.
// The folder is on the root file system, since udev asks for it before anything else is mounted.
// Blocking; any thread.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "platform/block_table.h"

namespace ebb::platform {

inline constexpr const char* replica_marks_folder = "/etc/ebb/replicas";

class ReplicaMarks {
public:
    explicit ReplicaMarks(std::string folder = replica_marks_folder, HostPaths paths = {});

    // Durable when it returns. For disks that were not marked udev is asked to look again. `nodes`
    // of whole disks ("/dev/sdb"). E_DISK_NO_MARK: the disk's id cannot be a file's name.
    [[nodiscard]] Status add(const std::string& protection,
                             const std::vector<std::string>& nodes) const;
    // All marks of a protection. Udev is not asked to look: nobody wants to see the volumes of a
    // machine that was given up come up here, unless he says so.
    [[nodiscard]] Status remove(const std::string& protection) const;
    // Removes what is of no protection named: left by a crash between the mark and the record.
    [[nodiscard]] Status keep(const std::set<std::string>& protections) const;

private:
    [[nodiscard]] Status mark(const std::string& protection, const BlockTable& table,
                              const BlockDevice& disk) const;
    template <class Unwanted>
    [[nodiscard]] Status remove_if(const Unwanted& unwanted) const;

    std::string folder_;
    HostPaths paths_;
};

}  // namespace ebb::platform
