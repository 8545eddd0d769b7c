// SPDX-License-Identifier: Apache-2.0
// The source machine's disks and module, for the controller. Blocking; any thread.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "api/agent.h"
#include "platform/block_table.h"

namespace ebb::service {

[[nodiscard]] std::vector<api::SourceDisk> list_source_disks(const platform::BlockTable& table);
// E_DISK_MULTIPATH when the disk is one path of a multipath device.
[[nodiscard]] Status check_no_path(const platform::BlockTable& table,
                                   const platform::BlockDevice& device);
[[nodiscard]] api::ModuleStatus module_status();
// E_EXPORT_TRACKED when `folder` is on one of these disks: each write of the copy would be one more
// block to be preserved for it. E_NOT_FOUND when there is no such folder.
[[nodiscard]] Status check_export_folder(const platform::BlockTable& table,
                                         const std::string& folder,
                                         const std::set<std::string>& tracked);

}  // namespace ebb::service
