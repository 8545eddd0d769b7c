// SPDX-License-Identifier: Apache-2.0
// The watchdog over frozen filesystems: a process of its own (ebb-freeze) that freezes them for
// ebbd and thaws them when it is told to, when ebbd is gone, or when the time is over, whatever
// comes first. A second process, the guard, does so where the first one is gone, too. What they
// need is had before anything is frozen: memory (locked), threads, descriptors.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace ebb::platform {

// FIFREEZE and FITHAW; 0 or an errno. Others in tests.
struct FreezeCalls {
    int (*freeze)(int fd) = nullptr;
    int (*thaw)(int fd) = nullptr;
};
[[nodiscard]] FreezeCalls kernel_freeze_calls();

// One message is one datagram. ebbd says freeze, then thaw; each once.
enum class KeeperWord : std::uint32_t { freeze = 1, thaw, ready, filesystem, frozen, thawed };
enum class ThawedBy : std::uint32_t {
    word,     // of ebbd, and until then all stood still
    limit,    // the time was over
    failure,  // one could not be frozen: `index`, `error`
    absence,  // ebbd was gone
};
struct KeeperMessage {
    KeeperWord word = KeeperWord::ready;
    ThawedBy by = ThawedBy::word;
    std::uint32_t index = 0;  // of the filesystem that it is about
    std::int32_t error = 0;   // EOPNOTSUPP: it cannot be frozen, and was flushed instead
};

struct KeeperOptions {
    int control = -1;              // socket to ebbd
    std::vector<int> filesystems;  // one descriptor of each, in the order in which they are frozen
    std::chrono::milliseconds limit{10'000};
    // For each, where its state is noted ('i' being frozen, 'f' frozen, '-' not), in memory that
    // stays; null: nowhere. freeze_record.h.
    std::vector<char*> states;
    FreezeCalls calls = kernel_freeze_calls();
    std::chrono::milliseconds guard_grace{1'000};  // beyond the limit
};

// Returns when nothing is frozen any more: the exit status of the process.
int keep_frozen(const KeeperOptions& options);

}  // namespace ebb::platform
