// SPDX-License-Identifier: Apache-2.0
// The source machine's disks and module, for the controller. Blocking; any thread.
#pragma once

#include <vector>

#include "api/agent.h"
#include "platform/block_table.h"

namespace ebb::service {

[[nodiscard]] std::vector<api::SourceDisk> list_source_disks(const platform::BlockTable& table);
[[nodiscard]] api::ModuleStatus module_status();

}  // namespace ebb::service
