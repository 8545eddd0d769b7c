// SPDX-License-Identifier: Apache-2.0
#include "platform/netlink_tracker.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "base/buffer.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

constexpr unsigned disk_threads = 16;
constexpr std::size_t extents_per_message = 1024;
constexpr std::uint32_t sectors_max = 1U << 30;
constexpr int memory_retries = 20;

std::string node_of(std::uint64_t device) {
    std::ifstream in("/sys/dev/block/" + std::to_string(device >> 32) + ":" +
                     std::to_string(device & 0xffffffff) + "/uevent");
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("DEVNAME=")) return "/dev/" + line.substr(8);
    }
    return {};
}

Result<std::uint64_t> device_of(const std::string& node) {
    struct stat status = {};
    if (::stat(node.c_str(), &status) != 0) return system_fail(errno, "looking at " + node);
    if (!S_ISBLK(status.st_mode)) return fail(ErrorCode::invalid, node + " is no block device");
    return std::uint64_t{major(status.st_rdev)} << 32 | minor(status.st_rdev);
}

const char* void_reason(std::uint64_t reason) {
    static const char* const names[] = {"none",      "deadline",     "pool-full", "preserve-error",
                                        "disk-gone", "owner",        "abandoned", "detached",
                                        "cut-race",  "gate-deadline"};
    return reason < std::size(names) ? names[reason] : "unknown";
}

env::PassInfo to_pass(const NetlinkNest& nest) {
    env::PassInfo info;
    info.id = nest.number(EBB_PASS_A_ID);
    info.kind =
        nest.number(EBB_PASS_A_KIND) == EBB_PASS_LIVE ? env::PassKind::live : env::PassKind::frozen;
    switch (nest.number(EBB_PASS_A_STATE)) {
        case EBB_PASS_READY: info.state = env::PassState::ready; break;
        case EBB_PASS_VOID: info.state = env::PassState::voided; break;
        case EBB_PASS_ENDED: info.state = env::PassState::ended; break;
        default: info.state = env::PassState::draining; break;
    }
    if (info.state == env::PassState::voided)
        info.void_reason = void_reason(nest.number(EBB_PASS_A_VOID_REASON));
    info.generation = nest.number(EBB_PASS_A_GENERATION);
    info.cut_time = {static_cast<std::int64_t>(nest.number(EBB_PASS_A_CUT_REALTIME_NS))};
    info.cut_duration =
        Duration{static_cast<std::int64_t>(nest.number(EBB_PASS_A_CUT_DURATION_NS))};
    info.blocks = nest.number(EBB_PASS_A_BLOCKS);
    info.blocks_left = nest.number(EBB_PASS_A_BLOCKS_LEFT);
    info.preserved = nest.number(EBB_PASS_A_PRESERVED);
    info.held = nest.number(EBB_PASS_A_HELD);
    info.held_max = Duration{static_cast<std::int64_t>(nest.number(EBB_PASS_A_HELD_NS_MAX))};
    return info;
}

Result<env::PassInfo> pass_of(Result<NetlinkReply> reply) {
    if (!reply) return std::unexpected(reply.error());
    return to_pass(reply->pass);
}

std::vector<ebb_extent> to_kernel(std::span<const Extent> extents) {
    std::vector<ebb_extent> list;
    for (const auto& extent : extents) {
        std::uint64_t sector = extent.offset / sector_bytes;
        std::uint64_t left = (extent.length + sector_bytes - 1) / sector_bytes;
        while (left > 0) {
            const auto count =
                static_cast<std::uint32_t>(std::min<std::uint64_t>(left, sectors_max));
            list.push_back({sector, count, 0});
            sector += count;
            left -= count;
        }
    }
    return list;
}

// Through memory of our own where the caller's is not aligned for direct I/O.
Status read_whole(int fd, std::uint64_t offset, std::span<std::byte> into) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(into.data()) % sector_bytes == 0;
    Buffer bounce(aligned ? 0 : into.size());
    std::byte* at = aligned ? into.data() : bounce.data();
    std::size_t done = 0;
    while (done < into.size()) {
        const ssize_t got =
            ::pread(fd, at + done, into.size() - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_fail(errno, "reading the disk");
        if (got == 0) return fail(ErrorCode::io, "the disk ends too early");
        done += static_cast<std::size_t>(got);
    }
    if (!aligned) std::memcpy(into.data(), at, into.size());
    return {};
}

Uuid map_of(const NetlinkNest& nest) {
    Uuid map;
    const auto bytes = nest.text(EBB_DISK_A_MAP_UUID);
    if (bytes.size() == map.bytes.size()) std::memcpy(map.bytes.data(), bytes.data(), bytes.size());
    return map;
}

std::vector<Uuid> sessions_of(const NetlinkNest& nest) {
    const auto bytes = nest.text(EBB_DISK_A_BOOTS);
    std::vector<Uuid> sessions(bytes.size() / EBB_UUID_LEN);
    for (std::size_t i = 0; i < sessions.size(); ++i)
        std::memcpy(sessions[i].bytes.data(), bytes.data() + i * EBB_UUID_LEN, EBB_UUID_LEN);
    return sessions;
}

}  // namespace

NetlinkTracker::NetlinkTracker(EventLoop& loop, std::uint32_t group, NetlinkClient commands,
                               NetlinkClient events, std::shared_ptr<RestartRecord> restarts)
    : group_(group),
      commands_(std::move(commands)),
      events_(std::move(events)),
      restarts_(std::move(restarts)),
      event_wait_(loop.context(), events_.fd()) {}

NetlinkTracker::~NetlinkTracker() {
    event_wait_.release();  // the descriptor belongs to events_
    command_.reset();
    images_.reset();
    disk_reader_.reset();
}

Result<std::unique_ptr<NetlinkTracker>> NetlinkTracker::open(
    EventLoop& loop, std::uint32_t group, const std::vector<TrackDisk>& disks,
    std::shared_ptr<RestartRecord> restarts) {
    auto commands = NetlinkClient::open();
    if (!commands) return std::unexpected(commands.error());
    auto events = NetlinkClient::open();
    if (!events) return std::unexpected(events.error());
    if (auto ok = events->subscribe(); !ok) return std::unexpected(ok.error());
    auto images = ImageReader::open(loop);
    if (!images) return std::unexpected(images.error());
    std::unique_ptr<NetlinkTracker> tracker(new NetlinkTracker(
        loop, group, std::move(*commands), std::move(*events), std::move(restarts)));
    if (auto ok = tracker->attach_all(disks); !ok) return std::unexpected(ok.error());
    tracker->command_ = std::make_unique<Worker>(loop, 1, "ebb-netlink");
    tracker->images_ = std::move(*images);
    tracker->disk_reader_ = std::make_unique<Worker>(loop, disk_threads, "ebb-disk");
    tracker->wait_for_events();
    return tracker;
}

Status NetlinkTracker::attach_all(const std::vector<TrackDisk>& disks) {
    auto present = commands_.call({.command = EBB_CMD_DISK_GET, .dump = true});
    if (!present) return std::unexpected(present.error());
    Status failed;
    for (const auto& disk : disks) {
        auto attached = attach(disk, *present);
        if (!attached) {
            failed = std::unexpected(attached.error());
            break;
        }
        disks_.push_back(std::move(*attached));
    }
    if (failed) return {};
    for (auto& disk : disks_) {
        disk.image.reset();
        if (!disk.ours) continue;
        (void)commands_.call({.command = EBB_CMD_DISK_DETACH, .u32 = {{EBB_A_DISK_ID, disk.id}}});
    }
    return failed;
}

Result<NetlinkTracker::Attached> NetlinkTracker::attach(const TrackDisk& disk,
                                                        const std::vector<NetlinkReply>& present) {
    Attached attached;
    attached.stable_id = disk.stable_id;
    attached.node = disk.node;
    NetlinkNest nest;
    for (const auto& other : present) {
        const auto id = other.disk.text(EBB_DISK_A_STABLE_ID);
        if (id.substr(0, id.find('\0')) != disk.stable_id) continue;
        if (other.disk.number(EBB_DISK_A_GROUP) != group_)
            return fail(ErrorCode::busy, disk.stable_id + " is tracked for somebody else");
        nest = other.disk;
    }
    const bool has_map = nest.number(EBB_DISK_A_LOG_STATE) != EBB_LOG_NONE;
    if (!nest.numbers.empty() && has_map != disk.area.has_value()) {
        // The mode was changed: what is known of the disk does not go over.
        const auto id = static_cast<std::uint32_t>(nest.number(EBB_DISK_A_ID));
        auto gone = commands_.call({.command = EBB_CMD_DISK_DETACH, .u32 = {{EBB_A_DISK_ID, id}}});
        if (!gone) return std::unexpected(gone.error());
        nest = {};
    }
    if (nest.numbers.empty()) {
        auto made = attach_new(disk);
        if (!made) return std::unexpected(made.error());
        nest = *made;
        attached.ours = true;
    }
    attached.map = map_of(nest);
    attached.id = static_cast<std::uint32_t>(nest.number(EBB_DISK_A_ID));
    attached.size = nest.number(EBB_DISK_A_SECTORS) * sector_bytes;
    const auto image = node_of(nest.number(EBB_DISK_A_IMAGE_DEV));
    attached.image = FileDescriptor(::open(image.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (attached.image.valid()) {
        attached.has_map = disk.area.has_value();
        give_witnesses(attached, disk.witnesses);
        return attached;
    }
    const int number = errno;
    if (attached.ours) {
        (void)commands_.call(
            {.command = EBB_CMD_DISK_DETACH, .u32 = {{EBB_A_DISK_ID, attached.id}}});
    }
    return system_fail(number, "opening the image " + image);
}

// With a new map: what was written before is not known.
Result<NetlinkNest> NetlinkTracker::attach_new(const TrackDisk& disk) {
    const auto device = device_of(disk.node);
    if (!device) return std::unexpected(device.error());
    auto area = disk.area;
    if (area) area->create = true;
    auto reply = commands_.call_one({.command = EBB_CMD_DISK_ATTACH,
                                     .u32 = {{EBB_A_GROUP, group_}},
                                     .u64 = {{EBB_A_DEV, *device}},
                                     .stable_id = disk.stable_id,
                                     .log = area});
    if (!reply) return std::unexpected(reply.error());
    return std::move(reply->disk);
}

void NetlinkTracker::wait_for_events() {
    event_wait_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                           [this, alive = std::weak_ptr<char>(alive_)](const auto& error) {
                               if (error || alive.expired()) return;
                               events_.drain_events();
                               wait_for_events();
                               if (event_) event_();
                           });
}

NetlinkRequest NetlinkTracker::for_group(std::uint8_t command) const {
    return {.command = command, .u32 = {{EBB_A_GROUP, group_}}};
}

void NetlinkTracker::simple(NetlinkRequest request, env::StatusCallback done) {
    command_->submit<void>(
        [this, request = std::move(request)]() -> Status {
            auto replies = commands_.call(request);
            if (!replies) return std::unexpected(replies.error());
            return {};
        },
        std::move(done));
}

void NetlinkTracker::detach(env::StatusCallback done) {
    command_->submit<void>(
        [this]() -> Status {
            Status result;
            for (auto& disk : disks_) {
                disk.image.reset();
                auto gone = commands_.call(
                    {.command = EBB_CMD_DISK_DETACH, .u32 = {{EBB_A_DISK_ID, disk.id}}});
                if (!gone && gone.error().code != ErrorCode::not_found)
                    result = std::unexpected(gone.error());
            }
            return result;
        },
        std::move(done));
}

// Without them only the cookies tell: no reason not to track. What failed is tried again with the
// next choice, and said once.
void NetlinkTracker::give_witnesses(Attached& disk, const std::vector<Extent>& witnesses) {
    if (!disk.has_map || witnesses.empty() || witnesses == disk.witnesses) return;
    auto set = commands_.call({.command = EBB_CMD_DISK_WITNESS,
                               .u32 = {{EBB_A_DISK_ID, disk.id}},
                               .extents = to_kernel(witnesses)});
    const auto error = set ? std::string() : set.error().message;
    if (set) disk.witnesses = witnesses;
    if (error != disk.witness_error && !error.empty())
        std::cerr << "ebbd: witness blocks of " << disk.stable_id << ": " << error << "\n";
    disk.witness_error = error;
}

void NetlinkTracker::set_witnesses(Witnesses witnesses) {
    command_->submit<void>(
        [this, witnesses = std::move(witnesses)]() -> Status {
            for (auto& disk : disks_) {
                const auto of_disk = witnesses.find(disk.node);
                if (of_disk != witnesses.end()) give_witnesses(disk, of_disk->second);
            }
            return {};
        },
        [](const Status&) {});
}

Status NetlinkTracker::detach_group(std::uint32_t group) {
    auto commands = NetlinkClient::open();
    if (!commands) return std::unexpected(commands.error());
    auto present = commands->call({.command = EBB_CMD_DISK_GET, .dump = true});
    if (!present) return std::unexpected(present.error());
    Status result;
    for (const auto& disk : *present) {
        if (disk.disk.number(EBB_DISK_A_GROUP) != group) continue;
        const auto id = static_cast<std::uint32_t>(disk.disk.number(EBB_DISK_A_ID));
        auto gone = commands->call({.command = EBB_CMD_DISK_DETACH, .u32 = {{EBB_A_DISK_ID, id}}});
        if (!gone && gone.error().code != ErrorCode::not_found)
            result = std::unexpected(gone.error());
    }
    return result;
}

void NetlinkTracker::incarnation(env::Callback<Uuid> done) {
    command_->submit<Uuid>(
        [this]() -> Result<Uuid> {
            auto reply = commands_.call_one({.command = EBB_CMD_INFO});
            if (!reply) return std::unexpected(reply.error());
            const auto bytes = reply->top.text(EBB_A_INCARNATION);
            Uuid uuid;
            if (bytes.size() != uuid.bytes.size())
                return fail(ErrorCode::protocol, "the module ebb gave no incarnation");
            std::memcpy(uuid.bytes.data(), bytes.data(), bytes.size());
            keeps_notes_ = (reply->top.number(EBB_A_FEATURES) & EBB_FEATURE_NOTE) != 0;
            return uuid;
        },
        std::move(done));
}

void NetlinkTracker::disks(env::Callback<std::vector<env::TrackedDisk>> done) {
    command_->submit<std::vector<env::TrackedDisk>>(
        [this]() -> Result<std::vector<env::TrackedDisk>> {
            std::vector<env::TrackedDisk> list;
            for (const auto& disk : disks_) {
                auto tracked = look(disk);
                if (!tracked) return std::unexpected(tracked.error());
                list.push_back(std::move(*tracked));
            }
            return list;
        },
        std::move(done));
}

Result<env::TrackedDisk> NetlinkTracker::look(const Attached& disk) {
    auto reply =
        commands_.call_one({.command = EBB_CMD_DISK_GET, .u32 = {{EBB_A_DISK_ID, disk.id}}});
    if (!reply) return std::unexpected(reply.error());
    const auto& nest = reply->disk;
    env::TrackedDisk tracked;
    tracked.stable_id = disk.stable_id;
    tracked.size = nest.number(EBB_DISK_A_SECTORS) * sector_bytes;
    tracked.dirty_blocks = nest.number(EBB_DISK_A_DIRTY_BLOCKS);
    tracked.gone = nest.number(EBB_DISK_A_STATE) == EBB_DISK_GONE;
    tracked.resync_reasons = resync_reasons(nest.number(EBB_DISK_A_RESYNC_REASONS));
    const auto note = nest.text(EBB_DISK_A_NOTE);
    const auto bytes = std::as_bytes(std::span(note.data(), note.size()));
    tracked.note.assign(bytes.begin(), bytes.end());
    const auto state = nest.number(EBB_DISK_A_LOG_STATE);
    if (state == EBB_LOG_NONE || !restarts_) return tracked;
    if (state == EBB_LOG_FAILED) {
        if (auto ok = restarts_->distrust(map_of(nest)); !ok) return std::unexpected(ok.error());
        return tracked;
    }
    tracked.cookie.emplace();
    const auto cookie = nest.text(EBB_DISK_A_COOKIE);
    std::memcpy(tracked.cookie->data(), cookie.data(),
                std::min(cookie.size(), tracked.cookie->size()));
    const bool known = nest.number(EBB_DISK_A_RECOVERY) != EBB_RECOVERY_NONE;
    for (auto& reason : restarts_->gaps(disk.stable_id, map_of(nest), sessions_of(nest), known))
        tracked.resync_reasons.push_back(std::move(reason));
    // New, and not for the first time: nobody attached it before it could be written to.
    if (std::ranges::find(tracked.resync_reasons, "new") != tracked.resync_reasons.end() &&
        restarts_->knew(disk.stable_id))
        tracked.resync_reasons.emplace_back("not-attached-at-boot");
    return tracked;
}

void NetlinkTracker::mark_all(DiskIndex disk, bool compare, env::StatusCallback done) {
    NetlinkRequest request{.command = EBB_CMD_DISK_MARK_ALL,
                           .u32 = {{EBB_A_DISK_ID, disks_.at(disk).id}}};
    if (compare) request.u32[EBB_A_MARK_FLAGS] = EBB_MARK_F_COMPARE;
    command_->submit<void>(
        [this, disk, request = std::move(request)]() -> Status {
            auto replies = commands_.call(request);
            if (!replies) return std::unexpected(replies.error());
            if (!restarts_) return {};
            const auto& attached = disks_.at(disk);
            return restarts_->settle(attached.stable_id, attached.map);
        },
        std::move(done));
}

void NetlinkTracker::send_extents(NetlinkRequest base, std::span<const Extent> extents,
                                  env::StatusCallback done) {
    command_->submit<void>(
        [this, base = std::move(base), list = to_kernel(extents)]() mutable -> Status {
            int retries = memory_retries;
            for (std::size_t at = 0; at < list.size();) {
                const auto count = std::min(extents_per_message, list.size() - at);
                const auto first = list.begin() + static_cast<std::ptrdiff_t>(at);
                base.extents.assign(first, first + static_cast<std::ptrdiff_t>(count));
                auto replies = commands_.call(base);
                // Done in part: the whole may be asked for again.
                if (!replies && replies.error().code == ErrorCode::no_memory && retries-- > 0)
                    continue;
                if (!replies) return std::unexpected(replies.error());
                at += count;
            }
            return {};
        },
        std::move(done));
}

void NetlinkTracker::mark(DiskIndex disk, std::span<const Extent> extents,
                          env::StatusCallback done) {
    send_extents({.command = EBB_CMD_DISK_MARK, .u32 = {{EBB_A_DISK_ID, disks_.at(disk).id}}},
                 extents, std::move(done));
}

void NetlinkTracker::begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                                env::Callback<env::PassInfo> done) {
    auto request = for_group(EBB_CMD_PASS_BEGIN);
    request.u32[EBB_A_PASS_KIND] = kind == env::PassKind::live ? EBB_PASS_LIVE : EBB_PASS_FROZEN;
    if (whole) request.u32[EBB_A_PASS_FLAGS] = EBB_PASS_F_WHOLE;
    if (gate) request.u64[EBB_A_GATE_ID] = *gate;
    command_->submit<env::PassInfo>(
        [this, request = std::move(request)] { return pass_of(commands_.call_one(request)); },
        std::move(done));
}

void NetlinkTracker::close_gate(Duration limit, env::Callback<env::GateId> done) {
    auto request = for_group(EBB_CMD_GATE_CLOSE);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
    request.u32[EBB_A_GATE_DEADLINE_MS] = static_cast<std::uint32_t>(ms);
    command_->submit<env::GateId>(
        [this, request = std::move(request)]() -> Result<env::GateId> {
            auto reply = commands_.call_one(request);
            if (!reply) return std::unexpected(reply.error());
            return reply->top.number(EBB_A_GATE_ID);
        },
        std::move(done));
}

void NetlinkTracker::open_gate(env::GateId gate, env::Callback<env::GateReport> done) {
    auto request = for_group(EBB_CMD_GATE_OPEN);
    request.u64[EBB_A_GATE_ID] = gate;
    command_->submit<env::GateReport>(
        [this, request = std::move(request)]() -> Result<env::GateReport> {
            auto reply = commands_.call_one(request);
            if (!reply) return std::unexpected(reply.error());
            const auto ns = static_cast<std::int64_t>(reply->top.number(EBB_A_GATE_NS));
            return env::GateReport{reply->top.number(EBB_A_GATE_HELD), Duration{ns}};
        },
        std::move(done));
}

void NetlinkTracker::get_pass(env::PassId pass, env::Callback<env::PassInfo> done) {
    auto request = for_group(EBB_CMD_PASS_GET);
    if (pass != 0) request.u64[EBB_A_PASS_ID] = pass;
    command_->submit<env::PassInfo>(
        [this, request = std::move(request)] { return pass_of(commands_.call_one(request)); },
        std::move(done));
}

void NetlinkTracker::pass_map(env::PassId pass, DiskIndex disk, std::uint64_t offset,
                              env::Callback<env::PassMap> done) {
    NetlinkRequest request{.command = EBB_CMD_PASS_MAP,
                           .u32 = {{EBB_A_DISK_ID, disks_.at(disk).id}},
                           .u64 = {{EBB_A_PASS_ID, pass}, {EBB_A_SECTOR, offset / sector_bytes}}};
    command_->submit<env::PassMap>(
        [this, request = std::move(request)]() -> Result<env::PassMap> {
            auto reply = commands_.call_one(request);
            if (!reply) return std::unexpected(reply.error());
            env::PassMap map;
            for (const auto& extent : reply->extents) {
                map.extents.push_back({extent.sector * sector_bytes,
                                       std::uint64_t{extent.nr_sectors} * sector_bytes,
                                       (extent.flags & EBB_EXTENT_DISCARDED) != 0});
            }
            map.more = reply->top.numbers.contains(EBB_A_NEXT_SECTOR);
            map.next_offset = reply->top.number(EBB_A_NEXT_SECTOR) * sector_bytes;
            return map;
        },
        std::move(done));
}

void NetlinkTracker::read(env::PassId /*pass*/, DiskIndex disk, std::uint64_t offset,
                          std::span<std::byte> into, env::StatusCallback done) {
    images_->read(disks_.at(disk).image.get(), offset, into, std::move(done));
}

// Opened for each read: nobody who wants the disk for himself finds it in use.
void NetlinkTracker::read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                               env::StatusCallback done) {
    disk_reader_->submit<void>(
        [node = disks_.at(disk).node, offset, into]() -> Status {
            const FileDescriptor file(::open(node.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
            if (!file.valid()) return system_fail(errno, "opening " + node);
            return read_whole(file.get(), offset, into);
        },
        std::move(done));
}

void NetlinkTracker::release(env::PassId pass, DiskIndex disk, std::span<const Extent> extents,
                             env::StatusCallback done) {
    send_extents({.command = EBB_CMD_PASS_RELEASE,
                  .u32 = {{EBB_A_DISK_ID, disks_.at(disk).id}},
                  .u64 = {{EBB_A_PASS_ID, pass}}},
                 extents, std::move(done));
}

void NetlinkTracker::end_pass(env::PassId pass, env::StatusCallback done) {
    auto request = for_group(EBB_CMD_PASS_END);
    request.u64[EBB_A_PASS_ID] = pass;
    simple(std::move(request), std::move(done));
}

void NetlinkTracker::keep(const env::Cookie& cookie, env::StatusCallback done) {
    auto request = for_group(EBB_CMD_COOKIE_SET);
    request.cookie.assign(reinterpret_cast<const char*>(cookie.data()), cookie.size());
    simple(std::move(request), std::move(done));
}

void NetlinkTracker::leave_note(std::vector<std::byte> note, env::StatusCallback done) {
    auto request = for_group(EBB_CMD_COOKIE_SET);
    request.note.assign(reinterpret_cast<const char*>(note.data()), note.size());
    command_->submit<void>(
        [this, request = std::move(request)]() -> Status {
            if (!keeps_notes_) return {};
            auto replies = commands_.call(request);
            if (!replies) return std::unexpected(replies.error());
            return {};
        },
        std::move(done));
}

void NetlinkTracker::confirm(const env::Cookie& cookie, env::StatusCallback done) {
    auto request = for_group(EBB_CMD_EPOCH_CONFIRM);
    request.cookie.assign(reinterpret_cast<const char*>(cookie.data()), cookie.size());
    simple(std::move(request), std::move(done));
}

void NetlinkTracker::abandon(env::StatusCallback done) {
    simple(for_group(EBB_CMD_EPOCH_ABANDON), std::move(done));
}

}  // namespace ebb::platform
