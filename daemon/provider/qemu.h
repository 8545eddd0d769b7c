// SPDX-License-Identifier: Apache-2.0
// QEMU without a manager: each machine is a command line, a QMP socket and disk images.
#pragma once

#include <map>

#include "provider/provider.h"
#include "provider/qmp.h"

namespace ebb::provider {

struct QemuDisk {
    std::string stable_id;
    std::string node;    // its node-name; the device's id is "dev-" and this
    std::string file;    // the image
    std::string format;  // "vmdk", "raw", "qcow2"
    Json device;         // arguments of device_add, without id and drive; null: never attached
};

struct QemuMachine {
    std::string name;
    std::string qmp;       // a socket that nobody else uses
    std::string pid_file;  // empty: none, then the socket alone tells whether it runs
    // Command line; must contain -daemonize. The disks' nodes are delta_file() of each disk.
    std::vector<std::string> start;
    std::string delta_folder;
    std::vector<QemuDisk> disks;

    [[nodiscard]] std::string delta_file(const QemuDisk& disk) const {
        return delta_folder + "/" + disk.node + ".qcow2";
    }
};

// Whether a command line gives no network, or one of QEMU's own that reaches nobody (restrict=on).
[[nodiscard]] bool is_isolated(const std::vector<std::string>& start);

class QemuProvider final : public Provider {
public:
    // {"machines": [{"name", "qmp", "pid_file", "start": [...], "delta_folder",
    //   "disks": [{"stable_id", "node", "file", "format", "device"}]}]}; E_INVALID.
    static Result<std::vector<QemuMachine>> parse(const Json& configuration);

    explicit QemuProvider(std::vector<QemuMachine> machines);

    Result<PowerState> power_state(const std::string& machine) override;
    Status ask_power_off(const std::string& machine) override;
    Status power_on(const std::string& machine) override;
    Status force_power_off(const std::string& machine) override;
    Status may_attach(const std::string& machine, const std::string& stable_id) override;
    Status attach_disk(const std::string& machine, const std::string& stable_id) override;
    Status detach_disk(const std::string& machine, const std::string& stable_id) override;
    Status start_on_delta(const std::string& machine) override;
    Status commit_delta(const std::string& machine) override;
    Status drop_delta(const std::string& machine) override;
    Status start_test(const std::string& machine, const std::vector<TestImage>& images) override;
    Status end_test(const std::string& machine) override;

private:
    [[nodiscard]] Result<const QemuMachine*> find(const std::string& name) const;
    Status must_be_off(const QemuMachine& machine);
    struct Backing {
        std::string file;
        std::string format;
    };
    // On new deltas, each above what belongs to the disk of the same place.
    Status start_above(const QemuMachine& machine, const std::vector<Backing>& backings);

    std::map<std::string, QemuMachine> machines_;
};

}  // namespace ebb::provider
