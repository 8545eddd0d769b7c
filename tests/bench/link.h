// SPDX-License-Identifier: Apache-2.0
// A link between two ports of this machine, as a process of its own: it passes on what comes, not
// faster than it is told to, and counts it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace ebb::bench {

struct LinkCounts {
    std::atomic<std::uint64_t> there{0};
    std::atomic<std::uint64_t> back{0};
};

class Link {
public:
    // `bytes_per_s`: on the way there; 0: as fast as it goes. One connection after the other.
    // Before this process has threads.
    Link(std::uint16_t target_port, std::uint64_t bytes_per_s);
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;
    ~Link();

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] const LinkCounts& counts() const { return *counts_; }

private:
    LinkCounts* counts_ = nullptr;  // shared with the process
    std::uint16_t port_ = 0;
    pid_t process_ = -1;
};

}  // namespace ebb::bench
