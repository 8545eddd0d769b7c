// SPDX-License-Identifier: Apache-2.0
// env::Tracker on the kernel module: commands by generic netlink, in order, on one thread; image
// devices read with O_DIRECT on a few.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>
#include <string>
#include <vector>

#include "platform/disk_tracker.h"
#include "platform/event_loop.h"
#include "platform/file_descriptor.h"
#include "platform/image_reader.h"
#include "platform/netlink.h"
#include "platform/worker.h"

namespace ebb::platform {

class NetlinkTracker final : public DiskTracker {
public:
    // As AttachDisks; disks that are there already under the same id stay as they are.
    static Result<std::unique_ptr<NetlinkTracker>> open(EventLoop& loop, std::uint32_t group,
                                                        const std::vector<TrackDisk>& disks,
                                                        std::shared_ptr<RestartRecord> restarts);
    ~NetlinkTracker() override;

    // Detaches what an earlier run has left attached to the group. Blocks; any thread.
    static Status detach_group(std::uint32_t group);

    void detach(env::StatusCallback done) override;
    void set_witnesses(Witnesses witnesses) override;
    void incarnation(env::Callback<Uuid> done) override;
    void disks(env::Callback<std::vector<env::TrackedDisk>> done) override;
    void mark_all(DiskIndex disk, bool compare, env::StatusCallback done) override;
    void mark(DiskIndex disk, std::span<const Extent> extents, env::StatusCallback done) override;
    void begin_pass(env::PassKind kind, bool whole, std::optional<env::GateId> gate,
                    env::Callback<env::PassInfo> done) override;
    void close_gate(Duration limit, env::Callback<env::GateId> done) override;
    void open_gate(env::GateId gate, env::Callback<env::GateReport> done) override;
    void get_pass(env::PassId pass, env::Callback<env::PassInfo> done) override;
    void pass_map(env::PassId pass, DiskIndex disk, std::uint64_t offset,
                  env::Callback<env::PassMap> done) override;
    void read(env::PassId pass, DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
              env::StatusCallback done) override;
    void read_disk(DiskIndex disk, std::uint64_t offset, std::span<std::byte> into,
                   env::StatusCallback done) override;
    void release(env::PassId pass, DiskIndex disk, std::span<const Extent> extents,
                 env::StatusCallback done) override;
    void end_pass(env::PassId pass, env::StatusCallback done) override;
    void keep(const env::Cookie& cookie, env::StatusCallback done) override;
    void leave_note(std::vector<std::byte> note, env::StatusCallback done) override;
    void confirm(const env::Cookie& cookie, env::StatusCallback done) override;
    void abandon(env::StatusCallback done) override;
    void on_event(std::move_only_function<void()> event) override { event_ = std::move(event); }

private:
    struct Attached {
        std::string stable_id;
        std::uint32_t id = 0;
        std::uint64_t size = 0;
        std::string node;
        FileDescriptor image;
        bool ours = false;              // attached by this object
        bool has_map = false;           // over restarts
        std::vector<Extent> witnesses;  // as the module has them
        std::string witness_error;      // of the last attempt to give it others
        Uuid map;                       // of the module; zeroes: none
    };

    NetlinkTracker(EventLoop& loop, std::uint32_t group, NetlinkClient commands,
                   NetlinkClient events, std::shared_ptr<RestartRecord> restarts);
    Status attach_all(const std::vector<TrackDisk>& disks);
    Result<Attached> attach(const TrackDisk& disk, const std::vector<NetlinkReply>& present);
    Result<NetlinkNest> attach_new(const TrackDisk& disk);
    void give_witnesses(Attached& disk, const std::vector<Extent>& witnesses);
    Result<env::TrackedDisk> look(const Attached& disk);
    void wait_for_events();
    void simple(NetlinkRequest request, env::StatusCallback done);
    [[nodiscard]] NetlinkRequest for_group(std::uint8_t command) const;
    void send_extents(NetlinkRequest base, std::span<const Extent> extents,
                      env::StatusCallback done);

    std::uint32_t group_;
    NetlinkClient commands_;  // used on command_ alone after open()
    NetlinkClient events_;
    std::vector<Attached> disks_;
    bool keeps_notes_ = false;  // on command_, since the module was asked what it is
    std::shared_ptr<RestartRecord> restarts_;
    std::move_only_function<void()> event_;
    boost::asio::posix::stream_descriptor event_wait_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    std::unique_ptr<Worker> command_;
    std::unique_ptr<ImageReader> images_;
    std::unique_ptr<Worker> disk_reader_;
};

}  // namespace ebb::platform
