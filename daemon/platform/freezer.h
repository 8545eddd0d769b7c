// SPDX-License-Identifier: Apache-2.0
// ebbd's side of freezing: filesystems stand still between freeze() and thaw(), and never longer
// than the limit, whatever becomes of this process. Blocking; on a worker's thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "platform/tracked_filesystems.h"

namespace ebb::platform {

class Freezer {
public:
    virtual ~Freezer() = default;  // thaws
    // E_APP_FREEZE, E_APP_FROZEN (by somebody else: not ours to thaw), E_APP_FREEZE_TIMEOUT,
    // E_APP_FREEZER: nothing is frozen then.
    virtual Status freeze() = 0;
    // Success: all stood still until now. E_APP_FREEZE_TIMEOUT: the watchdog had thawed them
    // before. E_APP_THAWED: somebody else had. E_APP_FREEZER: the watchdog is gone.
    virtual Status thaw() = 0;
    // Mount points of those that cannot be frozen by their nature, and were flushed instead.
    [[nodiscard]] virtual std::vector<std::string> flushed() const = 0;
};

struct FreezerOptions {
    std::string program;  // ebb-freeze; empty: beside this program
    std::string record;   // freeze_record.h
    std::chrono::milliseconds limit{10'000};
    // For what is dirty to be written before anything is frozen.
    std::chrono::milliseconds flush_patience{120'000};
    std::function<bool()> give_up;  // asked now and then while nothing is frozen
};

// Starts the watchdog, which has all that it needs when this returns.
Result<std::unique_ptr<Freezer>> open_freezer(const FreezerOptions& options,
                                              const std::vector<TrackedFilesystem>& filesystems);

}  // namespace ebb::platform
