// SPDX-License-Identifier: Apache-2.0
// Which filesystems ebbd is about to freeze, or has frozen: a file under /run, so that whoever
// comes after it can thaw them. Blocking; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "platform/freeze_keeper.h"

namespace ebb::platform {

inline constexpr const char* freeze_record_path = "/run/ebb/frozen";

struct RecordedFilesystem {
    char state = '.';    // '.' known, 'i' being frozen, 'f' frozen, '-' not any more
    std::string number;  // of its device, as /proc/self/mountinfo has it
    std::string point;   // where it is mounted
    friend bool operator==(const RecordedFilesystem&, const RecordedFilesystem&) = default;
};

// A line for each: its state, a blank, number, a blank, mount point (\ooo for what breaks lines).
[[nodiscard]] std::string freeze_record_text(const std::vector<RecordedFilesystem>& filesystems);
[[nodiscard]] std::vector<RecordedFilesystem> parse_freeze_record(std::string_view text);

// Writes it. Where the file lies in memory (tmpfs) the keeper notes states in it, and it begins
// with '.'; elsewhere, where that could wait for a frozen disk, all begin as 'i'.
Status write_freeze_record(const std::string& path, std::vector<RecordedFilesystem> filesystems);

// The file in memory, for the keeper: where the state of each line is. Empty: it is not in memory.
// Stays mapped.
[[nodiscard]] std::vector<char*> map_freeze_record(int fd);

// Thaws what it names as frozen, or being frozen, and removes it. What was thawed; no file:
// nothing. An error if one could not be opened or thawed: then the file stays.
Result<std::vector<std::string>> thaw_recorded(const std::string& path,
                                               const FreezeCalls& calls = kernel_freeze_calls());

}  // namespace ebb::platform
