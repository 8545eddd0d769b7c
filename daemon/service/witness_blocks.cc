// SPDX-License-Identifier: Apache-2.0
#include "service/witness_blocks.h"

#include <fcntl.h>
#include <linux/ebb.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>

#include "platform/file_descriptor.h"

namespace ebb::service {

namespace {

// The superblocks of ext4, xfs, LVM, md, FAT and swap are in the first two blocks, those that a
// mount writes in the first; that of btrfs is in the seventeenth. The most telling first.
constexpr std::array<std::uint64_t, 3> telling_blocks = {0, 16, 1};
constexpr const char* grub_environments[] = {"/boot/grub/grubenv", "/boot/grub2/grubenv"};
constexpr std::size_t extents_asked = 4;

// Where a file lies on the device of its file system.
std::vector<std::uint64_t> places_of(const std::string& file) {
    std::vector<std::uint64_t> places;
    const platform::FileDescriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return places;
    alignas(fiemap) std::array<char, sizeof(fiemap) + extents_asked * sizeof(fiemap_extent)>
        memory{};
    auto* map = reinterpret_cast<fiemap*>(memory.data());
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_extent_count = extents_asked;
    if (::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0) return places;
    for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
        const auto& extent = map->fm_extents[i];
        if ((extent.fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DATA_INLINE)) != 0) continue;
        places.push_back(extent.fe_physical);
    }
    return places;
}

// The blocks of one disk, each once, as they are found.
class Witnesses {
public:
    Witnesses(const platform::BlockTable& table, const platform::DmTables& tables,
              const platform::BlockDevice& disk)
        : table_(table), tables_(tables), disk_(disk) {}

    // The 4 KiB at `offset` of a device, which need not begin with a block of the disk.
    void add(const platform::BlockDevice& device, std::uint64_t offset) {
        for (const auto place : platform::places_on(table_, tables_, disk_, device, offset)) {
            add_block(place / block_bytes);
            if (place % block_bytes != 0) add_block(place / block_bytes + 1);
        }
    }

    [[nodiscard]] std::vector<Extent> extents() const {
        std::vector<Extent> extents;
        for (const auto block : blocks_) extents.push_back({block * block_bytes, block_bytes});
        std::ranges::sort(extents, {}, &Extent::offset);
        return extents;
    }

private:
    void add_block(std::uint64_t block) {
        if (blocks_.size() < EBB_WITNESSES_MAX && (block + 1) * block_bytes <= disk_.size &&
            std::ranges::find(blocks_, block) == blocks_.end())
            blocks_.push_back(block);
    }

    const platform::BlockTable& table_;
    const platform::DmTables& tables_;
    const platform::BlockDevice& disk_;
    std::vector<std::uint64_t> blocks_;
};

}  // namespace

std::vector<Extent> witness_blocks(const platform::BlockTable& table,
                                   const platform::DmTables& tables,
                                   const platform::BlockDevice& disk) {
    Witnesses witnesses(table, tables, disk);
    witnesses.add(disk, 0);
    if (disk.size >= block_bytes) witnesses.add(disk, (disk.size / block_bytes - 1) * block_bytes);
    for (const char* file : grub_environments) {
        const auto* mount = table.mount_of(file);
        const auto* device = mount == nullptr ? nullptr : table.under(*mount);
        if (device == nullptr) continue;
        for (const auto place : places_of(file)) witnesses.add(*device, place);
    }
    // What a foreign system is sure to touch comes first: where there are many volumes, not all
    // fit.
    std::vector<const platform::BlockDevice*> made;
    std::vector<const platform::BlockDevice*> above;
    for (const auto& name : table.made_of(disk.name)) {
        const auto* device = table.find(name);
        const bool below = name == disk.name || !device->parent.empty();
        if (!device->dm_uuid.ends_with("-cow")) (below ? made : above).push_back(device);
    }
    made.insert(made.end(), above.begin(), above.end());
    for (const auto block : telling_blocks) {
        for (const auto* device : made) witnesses.add(*device, block * block_bytes);
    }
    return witnesses.extents();
}

platform::Witnesses all_witnesses(const platform::BlockTable& table) {
    const auto tables = platform::load_dm_tables(table);
    platform::Witnesses witnesses;
    for (const auto& [name, device] : table.devices()) {
        if (device.parent.empty())
            witnesses[table.node(device)] = witness_blocks(table, tables, device);
    }
    return witnesses;
}

}  // namespace ebb::service
