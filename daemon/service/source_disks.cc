// SPDX-License-Identifier: Apache-2.0
#include "service/source_disks.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "platform/netlink.h"

namespace ebb::service {

namespace {

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    line.erase(line.find_last_not_of(" \n") + 1);
    return line;
}

api::SourceDisk describe(const platform::BlockTable& table, const platform::BlockDevice& device) {
    api::SourceDisk disk;
    disk.stable_id = platform::normal_id(device.wwid);
    disk.name = device.name;
    disk.size = device.size;
    disk.model = first_line(device.path + "/device/model");
    if (const auto pci = table.pci_of(device)) disk.controller = pci->driver;
    for (const auto& name : table.made_of(device.name)) {
        for (const auto& mount : table.mounts()) {
            const auto* under = table.under(mount);
            if (under != nullptr && under->name == name) disk.mounts.push_back(mount.point);
        }
    }
    disk.system = std::ranges::find(disk.mounts, "/") != disk.mounts.end();
    if (disk.stable_id.empty()) {
        disk.reasons.push_back({"E_DISK_NO_ID", device.name + " reports no stable id",
                                "Give it a wwn or a serial number in the hypervisor's settings"});
    }
    if (device.size == 0) {
        disk.reasons.push_back({"E_DISK_ZERO_CAPACITY", device.name + " has a capacity of zero",
                                "Protect the other disks"});
    }
    if (auto path = check_no_path(table, device); !path)
        disk.reasons.push_back(api::to_info(path.error()));
    disk.trackable = disk.reasons.empty();
    return disk;
}

}  // namespace

Status check_no_path(const platform::BlockTable& table, const platform::BlockDevice& device) {
    const auto* above = table.multipath_of(device);
    if (above == nullptr) return {};
    return fail("E_DISK_MULTIPATH", ErrorCode::refused,
                device.name + " is a path of the multipath device " + above->dm_name,
                "Leave it out (--exclude " + device.name + "), or dissolve the multipath device");
}

std::vector<api::SourceDisk> list_source_disks(const platform::BlockTable& table) {
    std::vector<api::SourceDisk> disks;
    for (const auto& [name, device] : table.devices()) {
        if (device.physical) disks.push_back(describe(table, device));
    }
    return disks;
}

api::ModuleStatus module_status() {
    api::ModuleStatus status;
    auto client = platform::NetlinkClient::open();
    auto info = client ? client->call_one({.command = EBB_CMD_INFO})
                       : Result<platform::NetlinkReply>(std::unexpected(client.error()));
    if (!info) {
        status.error = api::to_info(info.error());
        return status;
    }
    status.loaded = true;
    const auto version = info->top.text(EBB_A_VERSION_STRING);
    status.version = version.substr(0, version.find('\0'));
    const auto features = info->top.number(EBB_A_FEATURES);
    if ((features & EBB_FEATURE_SECOND_WITNESS) != 0)
        status.features.emplace_back("second-witness");
    if ((features & EBB_FEATURE_DISCARD_MASK) != 0) status.features.emplace_back("discard-mask");
    if ((features & EBB_FEATURE_WHOLE_PASS) != 0) status.features.emplace_back("whole-pass");
    return status;
}

Status check_export_folder(const platform::BlockTable& table, const std::string& folder,
                           const std::set<std::string>& tracked) {
    std::error_code error;
    const auto real = std::filesystem::canonical(folder, error);
    if (error) return fail(ErrorCode::not_found, folder + ": " + error.message());
    const auto* mount = table.mount_of(real.string());
    const auto* device = mount != nullptr ? table.under(*mount) : nullptr;
    if (device == nullptr) return {};
    for (const auto& name : table.disks_under(device->name)) {
        const auto id = platform::normal_id(table.find(name)->wwid);
        if (!tracked.contains(id)) continue;
        return fail("E_EXPORT_TRACKED", ErrorCode::refused,
                    folder + " is on the protected disk " + id,
                    "Copy to a volume on another disk, or over the network");
    }
    return {};
}

}  // namespace ebb::service
