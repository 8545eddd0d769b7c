// SPDX-License-Identifier: Apache-2.0
// Target disks: which there are, and what speaks against each.
#include <algorithm>

#include "platform/target_checks.h"

namespace ebb::platform {

namespace {

constexpr std::uint32_t vendor_lsi = 0x1000;
constexpr std::uint32_t vendor_vmware = 0x15ad;
constexpr std::uint32_t device_pvscsi = 0x07c0;

std::string hex4(std::uint32_t number) {
    static const char* digits = "0123456789abcdef";
    std::string text;
    for (int shift = 12; shift >= 0; shift -= 4) text += digits[number >> shift & 15];
    return text;
}

// The family of LSI Logic's parallel and SAS adapters, by driver.
bool is_lsi(const PciFunction& pci) {
    static const std::set<std::string> drivers{"sym53c8xx", "mptspi", "mptsas", "mpt2sas",
                                               "mpt3sas"};
    return pci.vendor == vendor_lsi && drivers.contains(pci.driver);
}

std::string controller_name(const PciFunction& pci) {
    std::string driver = pci.driver.empty() ? "no driver" : pci.driver;
    if (is_lsi(pci)) {
        const bool parallel = pci.driver == "sym53c8xx" || pci.driver == "mptspi";
        return std::string("LSI Logic ") + (parallel ? "parallel" : "SAS") + " (" + driver + ")";
    }
    if (pci.vendor == vendor_vmware && pci.device == device_pvscsi)
        return "VMware paravirtual SCSI (" + driver + ")";
    return driver;
}

class DiskLister {
public:
    DiskLister(const DiskRules& rules, const BlockTable& table) : rules_(rules), table_(table) {
        for (const auto& id : rules.owned) owned_.insert(normal_id(id));
    }

    std::vector<TargetDiskInfo> list() const {
        std::vector<TargetDiskInfo> disks;
        for (const auto& [name, device] : table_.devices()) {
            if (device.physical) disks.push_back(describe(device));
        }
        // sdb before sdaa.
        std::ranges::sort(disks, {},
                          [](const auto& d) { return std::pair(d.name.size(), d.name); });
        refuse_duplicates(disks);
        refuse_surplus(disks);
        return disks;
    }

    [[nodiscard]] bool owned(const TargetDiskInfo& disk) const {
        return owned_.contains(disk.stable_id);
    }

private:
    TargetDiskInfo describe(const BlockDevice& device) const {
        TargetDiskInfo disk;
        disk.name = device.name;
        disk.node = table_.node(device);
        disk.size = device.size;
        disk.stable_id = normal_id(device.wwid);
        if (disk.stable_id.empty()) {
            disk.reasons.push_back(
                refusal("E_DISK_NO_ID", device.name + " reports no stable id",
                        "Set disk.EnableUUID=TRUE in the master target's configuration (a wwn, "
                        "under QEMU), and restart it"));
        }
        check_controller(device, disk);
        check_use(device, disk);
        if (device.size == 0) {
            disk.reasons.push_back(refusal("E_DISK_ZERO_CAPACITY",
                                           device.name + " has a capacity of zero",
                                           "Attach a disk of the source disk's size"));
        }
        if (device.read_only) {
            disk.reasons.push_back(refusal("E_DISK_READ_ONLY", device.name + " is read-only",
                                           "Attach it with write access"));
        }
        return disk;
    }

    void check_controller(const BlockDevice& device, TargetDiskInfo& disk) const {
        const std::string remedy =
            "Attach the disk to an LSI Logic controller (parallel or SAS) of the master target";
        const auto pci = table_.pci_of(device);
        if (!pci) {
            disk.reasons.push_back(refusal("E_DISK_NO_CONTROLLER",
                                           device.name + " hangs off no PCI controller", remedy));
            return;
        }
        disk.pci = hex4(pci->vendor) + ":" + hex4(pci->device);
        disk.controller = controller_name(*pci);
        if (is_lsi(*pci)) return;
        if (pci->vendor == vendor_vmware && pci->device == device_pvscsi) {
            disk.reasons.push_back(
                refusal("E_DISK_PVSCSI",
                        device.name + " hangs off a paravirtual SCSI controller (" + disk.pci + ")",
                        remedy));
        } else {
            disk.reasons.push_back(refusal("E_DISK_CONTROLLER",
                                           device.name +
                                               " hangs off a controller that is not LSI Logic's (" +
                                               disk.pci + ", " + disk.controller + ")",
                                           remedy));
        }
    }

    void check_use(const BlockDevice& device, TargetDiskInfo& disk) const {
        disk.in_use_by = use_of(device);
        if (disk.in_use_by.empty()) return;
        const auto* retention = table_.mount_of(rules_.retention_path);
        const auto* under = retention != nullptr && retention->point == rules_.retention_path
                                ? table_.under(*retention)
                                : nullptr;
        if (under != nullptr && table_.disks_under(under->name).contains(device.name)) {
            disk.reasons.push_back(
                refusal("E_DISK_HOLDS_RETENTION",
                        device.name + " holds the retention volume " + rules_.retention_path,
                        "Choose a disk of its own for the replica"));
            return;
        }
        disk.reasons.push_back(
            refusal("E_DISK_IN_USE", device.name + " is in use: " + disk.in_use_by,
                    "Unmount or dissolve what is on it, or choose another disk"));
    }

    std::string use_of(const BlockDevice& disk) const {
        for (const auto& name : table_.made_of(disk.name)) {
            for (const auto& mount : table_.mounts()) {
                const auto* under = table_.under(mount);
                if (under != nullptr && under->name == name)
                    return name + " is mounted on " + mount.point;
            }
            if (table_.is_swap(name)) return name + " is swap";
        }
        for (const auto& name : table_.made_of(disk.name)) {
            const auto& holders = table_.find(name)->holders;
            if (holders.empty()) continue;
            const auto* holder = table_.find(holders.front());
            const bool named = holder != nullptr && !holder->dm_name.empty();
            return name + " is part of " + (named ? holder->dm_name : holders.front());
        }
        return {};
    }

    static void refuse_duplicates(std::vector<TargetDiskInfo>& disks) {
        for (auto& disk : disks) {
            for (const auto& other : disks) {
                if (&other == &disk || disk.stable_id.empty() || other.stable_id != disk.stable_id)
                    continue;
                disk.reasons.push_back(refusal(
                    "E_DISK_DUPLICATE_ID",
                    disk.name + " and " + other.name + " have the same id " + disk.stable_id,
                    "Give each disk an id of its own, or detach the copy"));
                break;
            }
        }
    }

    // Those in Ebb's hands come first: a new disk never pushes out one that is replicated to.
    void refuse_surplus(std::vector<TargetDiskInfo>& disks) const {
        std::size_t room = max_target_disks;
        for (const bool first : {true, false}) {
            for (auto& disk : disks) {
                if (!disk.usable() || owned(disk) != first) continue;
                if (room > 0) {
                    --room;
                    continue;
                }
                disk.reasons.push_back(refusal("E_DISK_TOO_MANY",
                                               disk.name + " is beyond the " +
                                                   std::to_string(max_target_disks) +
                                                   " disks of a master target",
                                               "Use a further master target"));
            }
        }
    }

    const DiskRules& rules_;
    const BlockTable& table_;
    std::set<std::string> owned_;
};

void check_content(const DiskDemand& demand, DiskVerdict& verdict) {
    if (demand.overwrite) return;
    auto content = device_content(verdict.disk.node);
    if (!content) {
        verdict.reasons.push_back(
            refusal("E_DISK_UNREADABLE", content.error().message, "Repair or replace the disk"));
    } else if (!content->empty()) {
        verdict.reasons.push_back(refusal(
            "E_DISK_HOLDS_DATA", verdict.disk.name + " holds data that is not Ebb's: " + *content,
            "Choose an empty disk, or allow it to be overwritten (--overwrite)"));
    }
}

}  // namespace

Result<std::vector<TargetDiskInfo>> list_target_disks(const TargetHost& host,
                                                      const DiskRules& rules) {
    auto table = BlockTable::load(host.paths);
    if (!table) return std::unexpected(table.error());
    return DiskLister(rules, *table).list();
}

Result<DiskVerdict> check_target_disk(const TargetHost& host, const DiskRules& rules,
                                      const DiskDemand& demand) {
    auto table = BlockTable::load(host.paths);
    if (!table) return std::unexpected(table.error());
    const DiskLister lister(rules, *table);
    const auto disks = lister.list();
    const auto id = normal_id(demand.stable_id);
    const auto found =
        std::ranges::find_if(disks, [&](const auto& d) { return d.stable_id == id; });
    if (id.empty() || found == disks.end()) {
        return fail("E_DISK_NOT_FOUND", ErrorCode::not_found,
                    "no disk with the id " + demand.stable_id + " is attached",
                    "Attach the disk, and rescan");
    }
    DiskVerdict verdict{.disk = *found, .reasons = found->reasons};
    if (found->size < demand.size) {
        verdict.reasons.push_back(
            refusal("E_DISK_TOO_SMALL",
                    found->name + " has " + std::to_string(found->size) +
                        " bytes, the source's disk " + std::to_string(demand.size),
                    "Enlarge it, or choose a disk at least as large as the source's"));
    }
    if (!lister.owned(*found) && found->in_use_by.empty()) check_content(demand, verdict);
    return verdict;
}

}  // namespace ebb::platform
