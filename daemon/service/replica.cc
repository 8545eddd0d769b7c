// SPDX-License-Identifier: Apache-2.0
#include "service/replica.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/journal.h"

namespace ebb::service {

namespace {

Status write_text(const std::filesystem::path& file, const std::string& text) {
    std::ofstream out(file);
    out << text << std::flush;
    if (out) return {};
    return fail(ErrorCode::io, "cannot write to " + file.string());
}

platform::VolumeRules volume_rules(const TargetSettings& settings,
                                   const std::vector<std::string>& owned) {
    platform::VolumeRules rules;
    rules.default_path = settings.retention;
    for (const auto& path : settings.install_paths)
        rules.reserved.push_back({path, platform::ReservedPath::Use::install});
    for (const auto& path : settings.cache_paths)
        rules.reserved.push_back({path, platform::ReservedPath::Use::cache});
    rules.target_disks = owned;
    return rules;
}

std::vector<Error> taken_disks(const ReplicaDemand& demand) {
    std::vector<Error> reasons;
    for (const auto& disk : demand.args.disks) {
        const auto other = demand.taken.find(platform::normal_id(disk.target_id));
        if (other == demand.taken.end()) continue;
        reasons.push_back({ErrorCode::busy,
                           disk.target_id + " is the replica of a disk of " + other->second,
                           "Choose another disk, or disable that protection", "E_DISK_TAKEN"});
    }
    return reasons;
}

}  // namespace

std::string journal_folder(const api::TargetPrepareArgs& args) {
    return args.retention + "/" + args.protection;
}

ReplicaVerdict examine_replica(const platform::TargetHost& host, const TargetSettings& settings,
                               const ReplicaDemand& demand) {
    ReplicaVerdict all;
    const auto& args = demand.args;
    auto rules = volume_rules(settings, demand.owned);
    for (const auto& disk : args.disks) rules.target_disks.push_back(disk.target_id);
    auto volume = platform::check_retention_volume(host, rules, args.retention);
    if (!volume) all.reasons.push_back(volume.error());
    auto disks = args.disks;
    std::ranges::sort(disks, {}, &api::TargetDiskChoice::index);
    const platform::DiskRules disk_rules{args.retention, demand.owned};
    for (const auto& disk : disks) {
        auto verdict = platform::check_target_disk(host, disk_rules,
                                                   {disk.target_id, disk.size, args.overwrite});
        if (!verdict) {
            all.reasons.push_back(verdict.error());
            continue;
        }
        all.reasons.insert(all.reasons.end(), verdict->reasons.begin(), verdict->reasons.end());
        all.nodes.push_back(verdict->disk.node);
    }
    for (auto& reason : taken_disks(demand)) all.reasons.push_back(std::move(reason));
    return all;
}

Result<Replica> open_replica(platform::EventLoop& loop, const platform::TargetHost& host,
                             const platform::ReplicaMarks& marks, const TargetSettings& settings,
                             const ReplicaDemand& demand) {
    const auto [nodes, reasons] = examine_replica(host, settings, demand);
    if (!reasons.empty()) {
        Error all = reasons.front();
        for (std::size_t i = 1; i < reasons.size(); ++i)
            all.message += "; " + std::string(reasons[i].name()) + ": " + reasons[i].message;
        return std::unexpected(all);
    }
    if (auto ok = marks.add(demand.args.protection, nodes); !ok) return std::unexpected(ok.error());
    Replica replica;
    auto volume = platform::DirectoryVolume::open(loop, journal_folder(demand.args), !demand.known);
    if (!volume && volume.error().code == ErrorCode::not_found)
        return std::unexpected(core::Journal::lost());
    if (!volume) return std::unexpected(volume.error());
    replica.volume = std::move(*volume);
    for (const auto& node : nodes) {
        auto disk = platform::AioDisk::open(loop, {.path = node});
        if (!disk) return std::unexpected(disk.error());
        replica.disks.push_back(std::move(*disk));
    }
    return replica;
}

TargetInventory take_inventory(const platform::TargetHost& host, const TargetSettings& settings,
                               const std::vector<std::string>& owned) {
    TargetInventory inventory;
    if (auto volumes = platform::list_retention_volumes(host, volume_rules(settings, owned))) {
        for (const auto& v : *volumes) {
            api::TargetVolume out{v.path, v.device, v.fs, v.size, v.available, v.usable(), {}};
            for (const auto& reason : v.reasons) out.reasons.push_back(api::to_info(reason));
            inventory.volumes.push_back(std::move(out));
        }
    }
    if (auto disks = platform::list_target_disks(host, {settings.retention, owned})) {
        for (const auto& d : *disks) {
            api::TargetDisk out{d.stable_id, d.name,     d.size, d.controller,
                                d.pci,       d.usable(), {},     {}};
            for (const auto& reason : d.reasons) out.reasons.push_back(api::to_info(reason));
            inventory.disks.push_back(std::move(out));
        }
    }
    return inventory;
}

Status scan_scsi_hosts(const platform::HostPaths& paths) {
    Status status;
    std::error_code error;
    auto entry = std::filesystem::directory_iterator(paths.sys + "/class/scsi_host", error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        if (auto ok = write_text(entry->path() / "scan", "- - -\n"); !ok) status = ok;
    }
    return status;
}

Status delete_disks(const platform::HostPaths& paths, const std::vector<std::string>& stable_ids) {
    auto table = platform::BlockTable::load(paths);
    if (!table) return std::unexpected(table.error());
    Status status;
    for (const auto& wanted : stable_ids) {
        for (const auto& [name, device] : table->devices()) {
            if (!device.physical || device.wwid.empty() ||
                platform::normal_id(device.wwid) != platform::normal_id(wanted))
                continue;
            if (auto ok = write_text(device.path + "/device/delete", "1\n"); !ok) status = ok;
        }
    }
    return status;
}

}  // namespace ebb::service
