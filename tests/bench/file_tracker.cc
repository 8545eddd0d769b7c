// SPDX-License-Identifier: Apache-2.0
#include "file_tracker.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ebb::bench {

namespace {

constexpr unsigned reader_threads = 16;  // as NetlinkTracker
constexpr std::size_t extents_at_once = 4096;

WallTime wall_now() {
    return {
        std::chrono::duration_cast<Duration>(std::chrono::system_clock::now().time_since_epoch())
            .count()};
}

}  // namespace

FileTracker::FileTracker(platform::EventLoop& loop, const Files& files)
    : loop_(loop), empty_(files.empty) {
    for (const std::string& path : files.paths) {
        auto disk = std::make_unique<Disk>();
        disk->path = path;
        disk->file = platform::FileDescriptor(
            ::open(path.c_str(), O_RDWR | O_CLOEXEC | (files.cached ? 0 : O_DIRECT)));
        struct stat info{};
        if (!disk->file.valid() || ::fstat(disk->file.get(), &info) != 0) {
            std::perror(path.c_str());
            std::exit(1);
        }
        disk->is_new = files.are_new;
        disk->size = static_cast<std::uint64_t>(info.st_size);
        disks_.push_back(std::move(disk));
    }
    reader_ = std::make_unique<platform::Worker>(loop, reader_threads, "bench-image");
}

void FileTracker::write(DiskIndex index, std::uint64_t block, const Buffer& content) {
    const std::lock_guard lock(mutex_);
    Disk& disk = *disks_[index];
    const std::uint64_t offset = block * block_bytes;
    if (pass_ && pass_->kind == env::PassKind::frozen && !disk.preserved.contains(offset) &&
        !disk.left.common(offset, offset + block_bytes).empty()) {
        Buffer old(block_bytes);
        if (::pread(disk.file.get(), old.data(), old.size(), static_cast<off_t>(offset)) !=
            static_cast<ssize_t>(old.size())) {
            std::perror("keeping a block");
            std::exit(1);
        }
        disk.preserved.emplace(offset, std::move(old));
        ++pass_->preserved;
    }
    disk.dirty.add(offset, offset + block_bytes);
    if (::pwrite(disk.file.get(), content.data(), block_bytes, static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(block_bytes)) {
        std::perror("the load");
        std::exit(1);
    }
}

template <class T>
void FileTracker::answer(env::Callback<T> done, Result<T> result) {
    loop_.post([done = std::move(done), result = std::move(result)]() mutable {
        done(std::move(result));
    });
}

void FileTracker::incarnation(env::Callback<Uuid> done) {
    Uuid load;
    load.bytes.fill(std::byte{9});
    answer<Uuid>(std::move(done), load);
}

void FileTracker::disks(env::Callback<std::vector<env::TrackedDisk>> done) {
    const std::lock_guard lock(mutex_);
    std::vector<env::TrackedDisk> all;
    for (const auto& disk : disks_) {
        env::TrackedDisk tracked;
        tracked.stable_id = disk->path;
        tracked.size = disk->size;
        tracked.dirty_blocks = disk->dirty.bytes() / block_bytes;
        if (disk->is_new) tracked.resync_reasons = {"new"};
        all.push_back(std::move(tracked));
    }
    answer<std::vector<env::TrackedDisk>>(std::move(done), std::move(all));
}

void FileTracker::mark_all(DiskIndex disk, bool /*compare*/, env::StatusCallback done) {
    const std::lock_guard lock(mutex_);
    if (!empty_) disks_[disk]->dirty.add(0, disks_[disk]->size);
    disks_[disk]->is_new = false;
    answer<void>(std::move(done), {});
}

void FileTracker::mark(DiskIndex disk, std::span<const Extent> extents, env::StatusCallback done) {
    const std::lock_guard lock(mutex_);
    for (const Extent& extent : extents) disks_[disk]->dirty.add(extent.offset, extent.end());
    answer<void>(std::move(done), {});
}

void FileTracker::close_gate(Duration /*limit*/, env::Callback<env::GateId> done) {
    answer<env::GateId>(std::move(done), fail(ErrorCode::unsupported, "files have no gate"));
}

void FileTracker::open_gate(env::GateId /*gate*/, env::Callback<env::GateReport> done) {
    answer<env::GateReport>(std::move(done), fail(ErrorCode::stale, "there is none"));
}

void FileTracker::begin_pass(env::PassKind kind, bool /*whole*/,
                             std::optional<env::GateId> /*gate*/,
                             env::Callback<env::PassInfo> done) {
    const std::lock_guard lock(mutex_);
    env::PassInfo info;
    info.id = ++last_pass_;
    info.kind = kind;
    info.state = env::PassState::ready;  // no write is under way while we have the lock
    info.cut_time = wall_now();
    for (auto& disk : disks_) {
        disk->left = std::exchange(disk->dirty, {});
        for (const Extent& extent : disk->left.extents())
            disk->unconfirmed.add(extent.offset, extent.end());
        info.blocks += disk->left.bytes() / block_bytes;
    }
    pass_ = info;
    answer<env::PassInfo>(std::move(done), info);
}

void FileTracker::get_pass(env::PassId /*pass*/, env::Callback<env::PassInfo> done) {
    const std::lock_guard lock(mutex_);
    if (!pass_) return answer<env::PassInfo>(std::move(done), fail(ErrorCode::not_found, "ended"));
    answer<env::PassInfo>(std::move(done), *pass_);
}

void FileTracker::pass_map(env::PassId /*pass*/, DiskIndex disk, std::uint64_t offset,
                           env::Callback<env::PassMap> done) {
    const std::lock_guard lock(mutex_);
    env::PassMap map;
    for (const auto& [begin, end] : disks_[disk]->left.common(offset, disks_[disk]->size)) {
        map.more = map.extents.size() == extents_at_once;
        map.next_offset = begin;
        if (map.more) break;
        map.extents.push_back({begin, end - begin, false});
    }
    answer<env::PassMap>(std::move(done), std::move(map));
}

// A block that is overwritten meanwhile was kept before.
Status FileTracker::read_image(const Disk& disk, std::uint64_t offset, std::span<std::byte> into) {
    const auto got = ::pread(disk.file.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (got != static_cast<ssize_t>(into.size())) return fail(ErrorCode::io, "reading the image");
    const std::lock_guard lock(mutex_);
    for (auto at = disk.preserved.lower_bound(offset);
         at != disk.preserved.end() && at->first < offset + into.size(); ++at) {
        std::memcpy(into.data() + (at->first - offset), at->second.data(), block_bytes);
    }
    return {};
}

void FileTracker::read(env::PassId /*pass*/, DiskIndex disk, std::uint64_t offset,
                       std::span<std::byte> into, env::StatusCallback done) {
    reader_->submit<void>(
        [this, &from = *disks_[disk], offset, into] { return read_image(from, offset, into); },
        std::move(done));
}

void FileTracker::read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                            env::StatusCallback done) {
    read(0, disk, offset, into, std::move(done));
}

void FileTracker::release(env::PassId /*pass*/, DiskIndex index, std::span<const Extent> extents,
                          env::StatusCallback done) {
    const std::lock_guard lock(mutex_);
    Disk& disk = *disks_[index];
    for (const Extent& extent : extents) {
        disk.left.remove(extent.offset, extent.end());
        disk.preserved.erase(disk.preserved.lower_bound(extent.offset),
                             disk.preserved.lower_bound(extent.end()));
    }
    answer<void>(std::move(done), {});
}

void FileTracker::end_pass(env::PassId /*pass*/, env::StatusCallback done) {
    const std::lock_guard lock(mutex_);
    pass_.reset();
    answer<void>(std::move(done), {});
}

void FileTracker::keep(const env::Cookie& /*cookie*/, env::StatusCallback done) {
    answer<void>(std::move(done), {});
}

void FileTracker::leave_note(std::vector<std::byte> /*note*/, env::StatusCallback done) {
    answer<void>(std::move(done), {});
}

void FileTracker::confirm(const env::Cookie& /*cookie*/, env::StatusCallback done) {
    const std::lock_guard lock(mutex_);
    for (auto& disk : disks_) disk->unconfirmed.clear();
    answer<void>(std::move(done), {});
}

void FileTracker::abandon(env::StatusCallback done) {
    const std::lock_guard lock(mutex_);
    for (auto& disk : disks_) {
        for (const Extent& extent : disk->unconfirmed.extents())
            disk->dirty.add(extent.offset, extent.end());
        disk->unconfirmed.clear();
        disk->left.clear();
        disk->preserved.clear();
    }
    pass_.reset();
    answer<void>(std::move(done), {});
}

}  // namespace ebb::bench
