// SPDX-License-Identifier: Apache-2.0
// Small files that are read whole and replaced whole: keys, certificates, persisted state.
// Blocking; any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace ebb::platform {

inline constexpr mode_t private_mode = 0600;
inline constexpr mode_t public_mode = 0644;

// Writes beside the file, syncs, renames over it and syncs the directory: after a crash there is
// the old or the new file, whole. Never readable by more than `mode`, not for an instant.
Status replace_file(const std::string& path, std::string_view content, mode_t mode);

// E_NOT_FOUND; E_INVALID if it is larger than `limit` bytes.
Result<std::string> read_file(const std::string& path, std::size_t limit = 1 << 20);

// Makes the directory and its parents; mode applies to those made.
Status make_directories(const std::string& path, mode_t mode = 0700);

// Removes the file durably; no error if there is none.
Status remove_file(const std::string& path);

}  // namespace ebb::platform
