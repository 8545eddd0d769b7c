// SPDX-License-Identifier: Apache-2.0
// Scripts of the machine's administrator, called in order. Blocking; on a worker's thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace ebb::platform {

struct HookCall {
    std::string path;
    std::string phase;                     // its argument
    std::vector<std::string> environment;  // "NAME=value", beside that of the daemon
    std::chrono::milliseconds limit{60'000};
    std::function<bool()> give_up;                  // asked now and then: the script is killed
    std::function<void(const std::string&)> print;  // each line of its output
};

// Executable files of the folder by name, but for those that begin with '.' or end as editors and
// packages leave them behind ("~", ".bak", ".dpkg-*", ".rpm*"). No folder: none.
// E_APP_SCRIPT_UNSAFE: others than root may write one of them, or to the folder.
[[nodiscard]] Result<std::vector<std::string>> list_hooks(const std::string& folder);
// The same of one that is no longer in the list.
[[nodiscard]] Status check_hook(const std::string& path);

// E_APP_SCRIPT with the last line of its output: it failed, or took too long and was killed, with
// all that it had started.
[[nodiscard]] Status run_hook(const HookCall& call);

}  // namespace ebb::platform
