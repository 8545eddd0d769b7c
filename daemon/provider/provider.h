// SPDX-License-Identifier: Apache-2.0
// What the controller asks of a hypervisor. Machines are named as the hypervisor's configuration
// names them, disks by their stable ids. Every call blocks until it is done or its deadline has
// passed (E_TIMEOUT); calls for different machines may be made at the same time from any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace ebb::provider {

// `off` is proof: nothing of the machine runs. A machine whose state cannot be told is an error.
enum class PowerState { off, running, paused };

// A disk of a machine that is started for a test: its stable id, and the NBD export that it is to
// see.
struct TestImage {
    std::string stable_id;
    std::string uri;
};

class Provider {
public:
    virtual ~Provider() = default;

    virtual Result<PowerState> power_state(const std::string& machine) = 0;
    // As the button does: the guest may take its time, or not obey.
    virtual Status ask_power_off(const std::string& machine) = 0;
    // Starts the machine on its disks as they are; no error if it runs. E_MACHINE_NO_START: the
    // hypervisor has not been told how.
    virtual Status power_on(const std::string& machine) = 0;
    // Returns when the machine is proved off; no error if it was.
    virtual Status force_power_off(const std::string& machine) = 0;

    // No error when the disk is where it is wanted. The guest must have let go of it before.
    // Whether it ever can be while the machine runs; nothing is done.
    virtual Status may_attach(const std::string& machine, const std::string& stable_id) = 0;
    virtual Status attach_disk(const std::string& machine, const std::string& stable_id) = 0;
    virtual Status detach_disk(const std::string& machine, const std::string& stable_id) = 0;

    // Starts the machine on a new delta above its disks, which stay as they are. An older delta is
    // dropped. E_BUSY if it runs.
    virtual Status start_on_delta(const std::string& machine) = 0;
    // Merges the delta into the disks, while the machine runs.
    virtual Status commit_delta(const std::string& machine) = 0;
    // What the machine has written since its start is gone. E_BUSY if it runs.
    virtual Status drop_delta(const std::string& machine) = 0;

    // Starts the machine on new overlays above exports that are only read. E_BUSY if it runs;
    // E_TEST_NETWORK: it could reach others, which know it by the same name and addresses.
    virtual Status start_test(const std::string& machine, const std::vector<TestImage>& images) = 0;
    // Returns when it is proved off and its overlays are gone; no error if there were none.
    virtual Status end_test(const std::string& machine) = 0;
};

[[nodiscard]] constexpr std::string_view power_name(PowerState state) {
    switch (state) {
        case PowerState::off: return "off";
        case PowerState::running: return "running";
        case PowerState::paused: return "paused";
    }
    return "unknown";
}

}  // namespace ebb::provider
