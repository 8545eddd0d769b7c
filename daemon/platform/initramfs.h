// SPDX-License-Identifier: Apache-2.0
// Which disks the initramfs of each kernel attaches: copies of map.conf that the hooks of
// initramfs-tools and dracut keep when they make an image. Blocking; any thread.
#pragma once

#include <string>
#include <vector>

#include "platform/map_config.h"

namespace ebb::platform {

struct InitramfsPlaces {
    std::string notes = "/var/lib/ebb/initramfs";  // of the hooks: a file for each kernel
    std::string boot = "/boot";
    std::string modules = "/lib/modules";  // of a kernel that is installed there is a folder
    std::string release;                   // of the kernel that runs; empty: asked for
};

// Kernels that may be booted, in order, by an initramfs that would not attach all of these disks:
// the one that runs, and those that have an image.
[[nodiscard]] std::vector<std::string> outdated_initramfs(const MapConfig& wanted,
                                                          const InitramfsPlaces& places);

}  // namespace ebb::platform
