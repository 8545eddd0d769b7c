// SPDX-License-Identifier: Apache-2.0
#include "platform/tracked_filesystems.h"

#include <algorithm>

namespace ebb::platform {

namespace {

bool lies_on(const BlockTable& table, const Mount& mount, const std::set<std::string>& ids) {
    const auto* device = table.under(mount);
    if (device == nullptr) return false;
    std::set<std::string> members{device->name};
    // A filesystem of several devices names one of them.
    if (mount.type == "btrfs") members.merge(table.btrfs_members(device->name));
    for (const auto& member : members) {
        for (const auto& disk : table.disks_under(member)) {
            if (ids.contains(normal_id(table.find(disk)->wwid))) return true;
        }
    }
    return false;
}

bool same(const TrackedFilesystem& one, const Mount& mount) {
    return one.number == mount.number;
}

}  // namespace

Result<std::vector<TrackedFilesystem>> tracked_filesystems(
    const BlockTable& table, const std::set<std::string>& stable_ids) {
    std::set<std::string> ids;
    for (const auto& id : stable_ids) ids.insert(normal_id(id));
    std::vector<TrackedFilesystem> found;
    const auto listed = [&](const Mount& mount) {
        return std::ranges::any_of(found, [&](const auto& one) { return same(one, mount); });
    };
    for (auto mount = table.mounts().rbegin(); mount != table.mounts().rend(); ++mount) {
        if (mount->read_only || listed(*mount) || !lies_on(table, *mount, ids)) continue;
        found.push_back({mount->number, mount->point, mount->type});
    }
    for (const auto& mount : table.hidden_mounts()) {
        if (mount.read_only || listed(mount) || !lies_on(table, mount, ids)) continue;
        return fail("E_APP_HIDDEN", ErrorCode::refused,
                    "the " + mount.type + " of " + mount.source + " is mounted on " + mount.point +
                        " below another mount, and cannot be frozen there",
                    "Unmount one of both, or mount it at a second place too");
    }
    return found;
}

}  // namespace ebb::platform
