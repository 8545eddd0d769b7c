// SPDX-License-Identifier: Apache-2.0
#include "platform/initramfs.h"

#include <sys/utsname.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

namespace ebb::platform {

namespace {

namespace fs = std::filesystem;

// As Debian and dracut name images; those of kdump, rescue entries and backups too.
std::string release_of(const std::string& name) {
    constexpr std::string_view debian = "initrd.img-";
    constexpr std::string_view dracut = "initramfs-";
    constexpr std::string_view dracut_end = ".img";
    if (name.starts_with(debian)) return name.substr(debian.size());
    if (name.starts_with(dracut) && name.ends_with(dracut_end))
        return name.substr(dracut.size(), name.size() - dracut.size() - dracut_end.size());
    return {};
}

std::set<std::string> bootable(const InitramfsPlaces& places) {
    std::set<std::string> releases;
    std::error_code error;
    for (fs::directory_iterator it(places.boot, error), end; !error && it != end;
         it.increment(error)) {
        auto release = release_of(it->path().filename().string());
        if (!release.empty() && fs::is_directory(places.modules + "/" + release))
            releases.insert(std::move(release));
    }
    utsname running{};
    if (!places.release.empty()) {
        releases.insert(places.release);
    } else if (::uname(&running) == 0) {
        releases.insert(running.release);
    }
    return releases;
}

bool attaches(const MapConfig& image, const MapConfig& wanted) {
    return image.map == wanted.map &&
           std::ranges::all_of(wanted.disks, [&](const auto& disk) { return image.has(disk); });
}

}  // namespace

std::vector<std::string> outdated_initramfs(const MapConfig& wanted,
                                            const InitramfsPlaces& places) {
    std::vector<std::string> outdated;
    if (wanted.disks.empty()) return outdated;
    for (const auto& release : bootable(places)) {
        const auto image = load_map_config(places.notes + "/" + release);
        if (!image || !attaches(*image, wanted)) outdated.push_back(release);
    }
    return outdated;
}

}  // namespace ebb::platform
