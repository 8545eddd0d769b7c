// SPDX-License-Identifier: Apache-2.0
#include "platform/replica_marks.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>

#include "platform/file_store.h"

namespace ebb::platform {

namespace {

// What udev puts for $attr{wwid}: characters that it does not trust in a path become '_'.
std::string name_of(const std::string& wwid) {
    std::string name;
    for (const char c : wwid) {
        const auto u = static_cast<unsigned char>(c);
        const bool kept = (u < 128 && std::isalnum(u) != 0) ||
                          std::string_view("#+-.:=@_/ $%?,").find(c) != std::string_view::npos;
        name += kept ? c : '_';
    }
    return name;
}

// The first line of a mark.
std::string protection_of(const std::filesystem::path& mark) {
    std::ifstream in(mark);
    std::string line;
    std::getline(in, line);
    return line;
}

// As if the disk had changed: udev reads the rules anew for it and for its partitions. Where this
// fails there is no udev to ask.
void look_again(const BlockTable& table, const BlockDevice& disk) {
    for (const auto& [name, device] : table.devices()) {
        if (name == disk.name || device.parent == disk.name)
            std::ofstream(device.path + "/uevent") << "change\n" << std::flush;
    }
}

}  // namespace

ReplicaMarks::ReplicaMarks(std::string folder, HostPaths paths)
    : folder_(std::move(folder)), paths_(std::move(paths)) {}

Status ReplicaMarks::add(const std::string& protection,
                         const std::vector<std::string>& nodes) const {
    auto table = BlockTable::load(paths_);
    if (!table) return std::unexpected(table.error());
    if (auto ok = make_directories(folder_, 0755); !ok) return ok;
    for (const auto& node : nodes) {
        const auto* disk = table->find(std::filesystem::path(node).filename());
        if (disk == nullptr || disk->wwid.empty())
            return fail(ErrorCode::not_found, node + " is gone, or has no id any more");
        if (auto ok = mark(protection, *table, *disk); !ok) return ok;
    }
    return {};
}

Status ReplicaMarks::mark(const std::string& protection, const BlockTable& table,
                          const BlockDevice& disk) const {
    const auto name = name_of(disk.wwid);
    if (name.find('/') != std::string::npos || name.front() == '.')
        return fail("E_DISK_NO_MARK", ErrorCode::refused,
                    "the id of " + disk.name + ", " + disk.wwid + ", cannot be a file's name",
                    "Attach the disk with a WWN");
    const auto path = folder_ + "/" + name;
    if (protection_of(path) == protection) return {};
    if (auto ok = replace_file(path, protection + "\n", public_mode); !ok) return ok;
    look_again(table, disk);
    return {};
}

template <class Unwanted>
Status ReplicaMarks::remove_if(const Unwanted& unwanted) const {
    std::error_code error;
    std::vector<std::string> names;
    auto entry = std::filesystem::directory_iterator(folder_, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        if (unwanted(protection_of(entry->path()))) names.push_back(entry->path());
    }
    Status status;
    for (const auto& name : names) {
        if (auto ok = remove_file(name); !ok) status = ok;
    }
    return status;
}

Status ReplicaMarks::remove(const std::string& protection) const {
    return remove_if([&](const std::string& id) { return id == protection; });
}

Status ReplicaMarks::keep(const std::set<std::string>& protections) const {
    return remove_if([&](const std::string& id) { return !protections.contains(id); });
}

}  // namespace ebb::platform
