// SPDX-License-Identifier: Apache-2.0
// What beginning a request costs, by what the kernel says of a block device.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace ebb::platform {

// Of one that does not seek: what a disk of 1 GiB/s and 500,000 requests a second reads meanwhile.
// It is less than a block, so that nothing is read but what is wanted.
inline constexpr std::uint64_t no_seek_cost = 2048;

// The device, or the disk that it is a partition of, says that it does not rotate
// (queue/rotational, where udev or the administrator may have corrected it). What says nothing, as
// virtual filesystems, seeks.
[[nodiscard]] bool seeks(dev_t device, const std::string& sys = "/sys");

}  // namespace ebb::platform
