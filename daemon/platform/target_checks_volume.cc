// SPDX-License-Identifier: Apache-2.0
// Retention volumes: which there are, and what speaks against each.
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "platform/target_checks.h"

namespace ebb::platform {

namespace {

// File systems whose data is on another machine, or passed in by the hypervisor.
bool is_network(const std::string& type) {
    static const std::set<std::string> types{
        "9p",   "afs",       "ceph",   "cifs",           "coda",      "fuse.sshfs",
        "gfs2", "glusterfs", "lustre", "fuse.glusterfs", "fuse.ceph", "ncpfs",
        "nfs",  "nfs4",      "ocfs2",  "smb3",           "smbfs",     "virtiofs"};
    return types.contains(type);
}

bool is_fat(const std::string& type) {
    return type == "vfat" || type == "msdos" || type == "fat" || type == "exfat" ||
           type == "fuseblk.exfat";
}

bool is_locked(const std::string& type) {
    return type == "crypto_LUKS" || type == "BitLocker";
}

// Signatures of parts of something else: their volumes are listed where they come together.
bool is_member(const std::string& type) {
    return type == "LVM2_member" || type == "LVM1_member" || type.ends_with("_raid_member") ||
           type == "mpath_member" || type == "bcache" || type == "drbd" || type == "zfs_member";
}

std::string use_code(ReservedPath::Use use) {
    switch (use) {
        case ReservedPath::Use::install: return "E_RETENTION_INSTALL_VOLUME";
        case ReservedPath::Use::cache: return "E_RETENTION_CACHE_VOLUME";
        case ReservedPath::Use::replication: return "E_RETENTION_REPLICATION_TARGET";
    }
    return {};
}

std::string use_word(ReservedPath::Use use) {
    switch (use) {
        case ReservedPath::Use::install: return "holds the installation";
        case ReservedPath::Use::cache: return "holds the cache";
        case ReservedPath::Use::replication: return "is a replication target";
    }
    return {};
}

class VolumeLister {
public:
    VolumeLister(const TargetHost& host, const VolumeRules& rules, const BlockTable& table)
        : host_(host), rules_(rules), table_(table) {}

    std::vector<RetentionVolume> list() const {
        std::vector<RetentionVolume> volumes;
        for (const auto& mount : table_.mounts()) {
            if (is_candidate(mount)) volumes.push_back(mounted(mount));
        }
        for (const auto& [name, device] : table_.devices()) {
            if (auto volume = unmounted(device)) volumes.push_back(std::move(*volume));
        }
        const bool listed = std::ranges::any_of(
            volumes, [&](const auto& v) { return v.path == rules_.default_path; });
        if (!listed) volumes.push_back(missing(rules_.default_path));
        std::ranges::sort(volumes, {}, [&](const RetentionVolume& v) {
            return std::pair(v.path != rules_.default_path, v.path);
        });
        return volumes;
    }

    static RetentionVolume missing(const std::string& path) {
        RetentionVolume volume{.path = path, .device = {}, .fs = {}, .reasons = {}};
        volume.reasons.push_back(
            refusal("E_RETENTION_NOT_MOUNTED", path + " is not a mounted volume",
                    "Mount a volume of its own there, with xfs or ext4 on it"));
        return volume;
    }

private:
    bool is_candidate(const Mount& mount) const {
        return table_.under(mount) != nullptr || is_network(mount.type) || mount.point == "/" ||
               mount.point == rules_.default_path;
    }

    RetentionVolume mounted(const Mount& mount) const {
        RetentionVolume volume;
        volume.path = mount.point;
        volume.fs = mount.type;
        const auto* device = table_.under(mount);
        volume.device = device != nullptr ? table_.node(*device) : mount.source;
        check_kind(mount, device, volume);
        check_space(mount, device, volume);
        check_purpose(mount, volume);
        if (device != nullptr) check_disks(*device, volume);
        return volume;
    }

    static void check_kind(const Mount& mount, const BlockDevice* device, RetentionVolume& volume) {
        auto& reasons = volume.reasons;
        if (is_fat(mount.type)) {
            reasons.push_back(refusal("E_RETENTION_FAT",
                                      mount.point + " is a FAT volume (" + mount.type + ")",
                                      "Format a volume with xfs or ext4 for retention"));
        } else if (is_network(mount.type)) {
            reasons.push_back(
                refusal("E_RETENTION_NETWORK",
                        mount.point + " is on a network or shared by the host (" + mount.type + ")",
                        "Use a volume on a disk of this machine"));
        } else if (device == nullptr) {
            reasons.push_back(refusal("E_RETENTION_NO_DISK",
                                      mount.point + " is on no disk (" + mount.type + ")",
                                      "Mount a volume on a disk of this machine there"));
        }
    }

    void check_space(const Mount& mount, const BlockDevice* device, RetentionVolume& volume) const {
        auto& reasons = volume.reasons;
        const bool read_only = mount.read_only || (device != nullptr && device->read_only);
        if (read_only) {
            reasons.push_back(refusal("E_RETENTION_READ_ONLY", mount.point + " is read-only",
                                      "Mount it read-write, or choose another volume"));
        }
        auto usage = host_.usage(mount.point);
        if (!usage) {
            reasons.push_back(refusal("E_RETENTION_UNREADABLE", usage.error().message,
                                      "Repair the volume, or choose another one"));
            return;
        }
        volume.size = usage->size;
        volume.available = usage->available;
        if (usage->size == 0) {
            reasons.push_back(refusal("E_RETENTION_ZERO_CAPACITY",
                                      mount.point + " has a capacity of zero",
                                      "Choose a volume with room for the recovery points"));
        }
        if (!usage->writable && !read_only) {
            reasons.push_back(refusal("E_RETENTION_NOT_WRITABLE",
                                      mount.point + " cannot be written to by this service",
                                      "Give the service's user write permission to it"));
        }
    }

    bool same_volume(const Mount& mount, const std::string& path) const {
        const auto* other = table_.mount_of(path);
        return other != nullptr && other->number == mount.number;
    }

    void check_purpose(const Mount& mount, RetentionVolume& volume) const {
        auto& reasons = volume.reasons;
        const std::string remedy = "Use a volume that serves nothing else";
        if (same_volume(mount, "/")) {
            reasons.push_back(
                refusal("E_RETENTION_ROOT", mount.point + " is the root file system", remedy));
        }
        for (const char* boot : {"/boot", "/boot/efi", "/efi"}) {
            const auto* other = table_.mount_of(boot);
            if (other == nullptr || other->point != boot || other->number != mount.number) continue;
            reasons.push_back(refusal("E_RETENTION_BOOT",
                                      mount.point + " is the boot volume (" + boot + ")", remedy));
        }
        for (const auto& reserved : rules_.reserved) {
            if (!same_volume(mount, reserved.path)) continue;
            reasons.push_back(refusal(
                use_code(reserved.use).c_str(),
                mount.point + " " + use_word(reserved.use) + " (" + reserved.path + ")", remedy));
        }
    }

    void check_disks(const BlockDevice& device, RetentionVolume& volume) const {
        std::set<std::string> targets;
        for (const auto& id : rules_.target_disks) targets.insert(normal_id(id));
        for (const auto& name : table_.disks_under(device.name)) {
            const auto* disk = table_.find(name);
            if (disk->wwid.empty() || !targets.contains(normal_id(disk->wwid))) continue;
            volume.reasons.push_back(
                refusal("E_RETENTION_TARGET_DISK",
                        volume.path + " is on the target disk " + name + " (" + disk->wwid + ")",
                        "Use a volume on a disk that is no replication target"));
        }
    }

    bool has_mount(const BlockDevice& device) const {
        return std::ranges::any_of(table_.mounts(), [&](const Mount& m) {
            const auto* under = table_.under(m);
            return under != nullptr && under->name == device.name;
        });
    }

    // What is not mounted but carries something that could be, or swap, or is locked.
    std::optional<RetentionVolume> unmounted(const BlockDevice& device) const {
        const bool swap = table_.is_swap(device.name);
        if (has_mount(device) || (!swap && !device.holders.empty()) || device.size == 0)
            return std::nullopt;
        if (!swap && !device.physical && device.parent.empty() && device.slaves.empty())
            return std::nullopt;  // idle loop and RAM devices, CDs
        std::string type = "swap";
        if (!swap) {
            auto signature = device_signature(table_.node(device));
            if (!signature || signature->empty() || is_member(*signature)) return std::nullopt;
            type = *signature;
        }
        RetentionVolume volume;
        volume.path = volume.device = table_.node(device);
        volume.fs = type;
        volume.size = device.size;
        refuse_unmounted(type, swap, volume);
        if (device.read_only) {
            volume.reasons.push_back(refusal("E_RETENTION_READ_ONLY", volume.path + " is read-only",
                                             "Choose another volume"));
        }
        check_disks(device, volume);
        return volume;
    }

    static void refuse_unmounted(const std::string& type, bool active, RetentionVolume& volume) {
        auto& reasons = volume.reasons;
        if (type == "swap") {
            reasons.push_back(refusal("E_RETENTION_SWAP",
                                      volume.path + (active ? " is swap in use" : " is swap space"),
                                      "Use a volume that serves nothing else"));
        } else if (is_locked(type)) {
            reasons.push_back(refusal("E_RETENTION_LOCKED",
                                      volume.path + " is locked (" + type + ")",
                                      "Unlock and mount it, or choose another volume"));
        } else {
            if (is_fat(type)) {
                reasons.push_back(refusal("E_RETENTION_FAT",
                                          volume.path + " is a FAT volume (" + type + ")",
                                          "Format a volume with xfs or ext4 for retention"));
            }
            reasons.push_back(refusal("E_RETENTION_NOT_MOUNTED",
                                      volume.path + " (" + type + ") is not mounted",
                                      "Mount it, at best at /mnt/retention"));
        }
    }

    const TargetHost& host_;
    const VolumeRules& rules_;
    const BlockTable& table_;
};

Result<VolumeUsage> system_usage(const std::string& point) {
    struct statvfs stat = {};
    if (::statvfs(point.c_str(), &stat) != 0)
        return fail(ErrorCode::io, "cannot look at " + point + ": " + std::strerror(errno));
    VolumeUsage usage;
    usage.size = std::uint64_t{stat.f_blocks} * stat.f_frsize;
    usage.available = std::uint64_t{stat.f_bavail} * stat.f_frsize;
    usage.writable = ::access(point.c_str(), W_OK) == 0;
    return usage;
}

}  // namespace

TargetHost::TargetHost() : usage(system_usage) {}

Result<std::vector<RetentionVolume>> list_retention_volumes(const TargetHost& host,
                                                            const VolumeRules& rules) {
    auto table = BlockTable::load(host.paths);
    if (!table) return std::unexpected(table.error());
    return VolumeLister(host, rules, *table).list();
}

Result<RetentionVolume> check_retention_volume(const TargetHost& host, const VolumeRules& rules,
                                               const std::string& path) {
    VolumeRules wanted = rules;
    wanted.default_path = path;
    auto volumes = list_retention_volumes(host, wanted);
    if (!volumes) return std::unexpected(volumes.error());
    auto& volume = volumes->front();  // the default path is first, whatever it is
    if (!volume.usable()) return std::unexpected(volume.reasons.front());
    return std::move(volume);
}

}  // namespace ebb::platform
