// SPDX-License-Identifier: Apache-2.0
// What a protection stands on at the target, and what of it there is: volumes and disks of the
// machine. Everything here asks devices and may wait for them as long as they like: blocking, any
// thread but that of the event loop.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/command.h"
#include "platform/aio_disk.h"
#include "platform/directory_volume.h"
#include "platform/replica_marks.h"
#include "platform/target_checks.h"
#include "service/config.h"

namespace ebb::service {

// The journal's directory and the disks, in order of index, in Ebb's hands.
struct Replica {
    std::unique_ptr<platform::DirectoryVolume> volume;
    std::vector<std::unique_ptr<platform::AioDisk>> disks;
};

struct ReplicaDemand {
    api::TargetPrepareArgs args;
    // Stable ids of the disks whose content is Ebb's own.
    std::vector<std::string> owned;
    // Disks of other protections: normal id, and the machine that is replicated.
    std::map<std::string, std::string> taken;
    // It has been there before: that its journal is not there is an error, E_RETENTION_LOST.
    bool known = false;
};

struct ReplicaVerdict {
    std::vector<std::string> nodes;  // of the disks, in order of index
    std::vector<Error> reasons;      // against writing to them; empty: none
};

struct TargetInventory {
    std::vector<api::TargetVolume> volumes;
    std::vector<api::TargetDisk> disks;
};

// Where the journal of a protection is.
[[nodiscard]] std::string journal_folder(const api::TargetPrepareArgs& args);
// G1 and G2; nothing is touched.
[[nodiscard]] ReplicaVerdict examine_replica(const platform::TargetHost& host,
                                             const TargetSettings& settings,
                                             const ReplicaDemand& demand);
// Examines all of it before it touches any, and marks the disks before it opens them: whatever
// happens from there on, nobody else takes them. The first of all reasons against it is the
// error's code, all of them are its sentence.
Result<Replica> open_replica(platform::EventLoop& loop, const platform::TargetHost& host,
                             const platform::ReplicaMarks& marks, const TargetSettings& settings,
                             const ReplicaDemand& demand);
// `owned`: as above.
[[nodiscard]] TargetInventory take_inventory(const platform::TargetHost& host,
                                             const TargetSettings& settings,
                                             const std::vector<std::string>& owned);
// All SCSI hosts look for disks anew.
Status scan_scsi_hosts(const platform::HostPaths& paths);
// Takes the disks out of the kernel, so that they can be detached.
Status delete_disks(const platform::HostPaths& paths, const std::vector<std::string>& stable_ids);

}  // namespace ebb::service
