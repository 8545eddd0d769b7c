// SPDX-License-Identifier: Apache-2.0
#include "platform/block_table.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ebb::platform {

namespace {

namespace fs = std::filesystem;

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    const auto last = line.find_last_not_of(" \t\n\r\0");
    const auto begin = line.find_first_not_of(" \t");
    return begin == std::string::npos ? std::string{} : line.substr(begin, last - begin + 1);
}

std::uint64_t number_of(const std::string& text, int base = 10) {
    const std::size_t skip = base == 16 && text.starts_with("0x") ? 2 : 0;
    std::uint64_t value = 0;
    std::from_chars(text.data() + skip, text.data() + text.size(), value, base);
    return value;
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        names.push_back(it->path().filename());
    std::ranges::sort(names);
    return names;
}

std::string link_name(const std::string& path) {
    std::error_code error;
    const auto target = fs::read_symlink(path, error);
    return error ? std::string{} : target.filename().string();
}

// mountinfo writes blanks, tabs, newlines and backslashes as \ooo.
std::string unescape(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && std::isdigit(text[i + 1]) != 0) {
            plain += static_cast<char>(number_of(text.substr(i + 1, 3), 8));
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

bool has_option(const std::string& options, const std::string& name) {
    return ("," + options + ",").find("," + name + ",") != std::string::npos;
}

std::string wwid_of(const std::string& path) {
    for (const char* file : {"/device/wwid", "/wwid"}) {
        if (auto id = first_line(path + file); !id.empty()) return id;
    }
    return {};
}

// Devices with hardware behind them that data can be put on: no loop, RAM, dm, md, CD or floppy.
bool is_physical(const BlockDevice& device) {
    if (!device.parent.empty() || device.path.find("/devices/virtual/") != std::string::npos)
        return false;
    if (device.name.starts_with("fd") || device.name.starts_with("sr")) return false;
    const auto type = first_line(device.path + "/device/type");
    return type.empty() || type == "0" || !device.name.starts_with("sd");
}

}  // namespace

std::string normal_id(std::string_view id) {
    std::string normal;
    for (const char c : id) {
        const auto u = static_cast<unsigned char>(c);
        const bool kept = std::isgraph(u) != 0 && u < 127 && c != '"' && c != '\'' && c != '`' &&
                          c != '\\' && c != '/';
        normal += kept ? static_cast<char>(std::tolower(u)) : '_';
    }
    return normal;
}

Result<BlockTable> BlockTable::load(const HostPaths& paths) {
    BlockTable table(paths);
    if (auto ok = table.load_devices(); !ok) return std::unexpected(ok.error());
    if (auto ok = table.load_mounts(); !ok) return std::unexpected(ok.error());
    table.load_swaps();
    table.load_btrfs();
    return table;
}

Status BlockTable::load_devices() {
    const std::string folder = paths_.sys + "/class/block";
    std::error_code error;
    if (!fs::is_directory(folder, error)) return fail(ErrorCode::io, "cannot read " + folder);
    for (const auto& name : names_in(folder)) {
        BlockDevice device;
        device.name = name;
        device.path = fs::canonical(fs::path(folder) / name, error).string();
        if (error) continue;  // it has gone meanwhile
        device.number = first_line(device.path + "/dev");
        device.size = number_of(first_line(device.path + "/size")) * 512;
        device.read_only = first_line(device.path + "/ro") == "1";
        if (fs::exists(device.path + "/partition", error))
            device.parent = fs::path(device.path).parent_path().filename();
        device.wwid = device.parent.empty() ? wwid_of(device.path) : std::string{};
        device.dm_name = first_line(device.path + "/dm/name");
        device.dm_uuid = first_line(device.path + "/dm/uuid");
        device.slaves = names_in(device.path + "/slaves");
        device.holders = names_in(device.path + "/holders");
        device.physical = is_physical(device);
        devices_.emplace(name, std::move(device));
    }
    return {};
}

Status BlockTable::load_mounts() {
    const std::string file = paths_.proc + "/self/mountinfo";
    std::ifstream in(file);
    if (!in) return fail(ErrorCode::io, "cannot read " + file);
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string id;
        std::string parent;
        std::string options;
        std::string word;
        std::string super;
        Mount mount;
        words >> id >> parent >> mount.number >> mount.root >> mount.point >> options;
        while (words >> word && word != "-") {
        }
        words >> mount.type >> mount.source >> super;
        mount.root = unescape(mount.root);
        mount.point = unescape(mount.point);
        mount.source = unescape(mount.source);
        mount.read_only = has_option(options, "ro") || has_option(super, "ro");
        // A mount on the same point hides the one before it.
        for (const auto& before : mounts_) {
            if (before.point == mount.point) hidden_.push_back(before);
        }
        std::erase_if(mounts_, [&](const Mount& m) { return m.point == mount.point; });
        mounts_.push_back(std::move(mount));
    }
    return {};
}

void BlockTable::load_swaps() {
    std::ifstream in(paths_.proc + "/swaps");
    std::string line;
    std::getline(in, line);  // the heading
    while (std::getline(in, line)) {
        const std::string path = unescape(line.substr(0, line.find_first_of(" \t")));
        std::error_code error;
        auto name = fs::path(path).filename().string();
        // Links such as /dev/mapper/vg-swap lead to the kernel's name.
        if (const auto real = fs::canonical(path, error); !error) name = real.filename();
        for (const auto& [device_name, device] : devices_) {
            if (device_name == name || (!device.dm_name.empty() && device.dm_name == name))
                swaps_.insert(device_name);
        }
    }
}

// A folder for each filesystem, with a link to each of its devices.
void BlockTable::load_btrfs() {
    const std::string folder = paths_.sys + "/fs/btrfs";
    for (const auto& uuid : names_in(folder)) {
        const auto members = names_in(folder + "/" + uuid + "/devices");
        if (!members.empty()) btrfs_.emplace_back(members.begin(), members.end());
    }
}

std::set<std::string> BlockTable::btrfs_members(const std::string& name) const {
    for (const auto& members : btrfs_) {
        if (members.contains(name)) return members;
    }
    return {};
}

const BlockDevice* BlockTable::find(const std::string& name) const {
    const auto it = devices_.find(name);
    return it == devices_.end() ? nullptr : &it->second;
}

const BlockDevice* BlockTable::find_number(const std::string& number) const {
    for (const auto& [name, device] : devices_) {
        if (device.number == number) return &device;
    }
    return nullptr;
}

const BlockDevice* BlockTable::under(const Mount& mount) const {
    if (const auto* device = find_number(mount.number)) return device;
    if (!mount.source.starts_with("/dev/")) return nullptr;
    const auto name = fs::path(mount.source).filename().string();
    if (const auto* device = find(name)) return device;
    for (const auto& [key, device] : devices_) {
        if (!device.dm_name.empty() && device.dm_name == name) return &device;
    }
    return nullptr;
}

const Mount* BlockTable::mount_of(const std::string& path) const {
    const Mount* best = nullptr;
    for (const auto& mount : mounts_) {
        const std::string stem = mount.point == "/" ? "/" : mount.point + "/";
        if (path != mount.point && !path.starts_with(stem)) continue;
        if (best == nullptr || mount.point.size() > best->point.size()) best = &mount;
    }
    return best;
}

std::set<std::string> BlockTable::disks_under(const std::string& name) const {
    std::set<std::string> disks;
    std::set<std::string> seen;
    std::vector<std::string> todo{name};
    while (!todo.empty()) {
        const auto next = todo.back();
        todo.pop_back();
        const auto* device = find(next);
        if (device == nullptr || !seen.insert(next).second) continue;
        if (device->physical) disks.insert(next);
        if (!device->parent.empty()) todo.push_back(device->parent);
        todo.insert(todo.end(), device->slaves.begin(), device->slaves.end());
    }
    return disks;
}

std::set<std::string> BlockTable::made_of(const std::string& name) const {
    std::set<std::string> found;
    std::vector<std::string> todo{name};
    while (!todo.empty()) {
        const auto next = todo.back();
        todo.pop_back();
        const auto* device = find(next);
        if (device == nullptr || !found.insert(next).second) continue;
        todo.insert(todo.end(), device->holders.begin(), device->holders.end());
        for (const auto& [key, other] : devices_) {
            if (other.parent == next) todo.push_back(key);
        }
    }
    return found;
}

const BlockDevice* BlockTable::multipath_of(const BlockDevice& device) const {
    for (const auto& name : device.holders) {
        const auto* holder = find(name);
        if (holder != nullptr && holder->dm_uuid.starts_with("mpath-")) return holder;
    }
    return nullptr;
}

std::optional<PciFunction> BlockTable::pci_of(const BlockDevice& device) const {
    for (fs::path at = device.path; at.has_relative_path() && at != paths_.sys;
         at = at.parent_path()) {
        if (link_name(at / "subsystem") != "pci") continue;
        PciFunction pci;
        pci.address = at.filename();
        pci.vendor = static_cast<std::uint32_t>(number_of(first_line(at / "vendor"), 16));
        pci.device = static_cast<std::uint32_t>(number_of(first_line(at / "device"), 16));
        pci.driver = link_name(at / "driver");
        return pci;
    }
    return std::nullopt;
}

std::string BlockTable::node(const BlockDevice& device) const {
    std::string name = device.name;
    std::ranges::replace(name, '!', '/');  // sysfs writes cciss/c0d0 so
    return paths_.dev + "/" + name;
}

}  // namespace ebb::platform
