// SPDX-License-Identifier: Apache-2.0
// Inside of core::Source: one loop (connect, reconcile, replicate). Callbacks only note what
// happened and wake it.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "base/buffer.h"
#include "core/ranges.h"
#include "core/source.h"
#include "core/task.h"
#include "format/map_cookie.h"
#include "format/message.h"

namespace ebb::core {

class Source::Impl : public std::enable_shared_from_this<Source::Impl> {
public:
    Impl(SourceConfig config, env::Tracker& tracker, env::Connector& connector, env::Clock& clock,
         env::Random& random);
    ~Impl();

    void start();
    void checkpoint(CheckpointRequest request, env::Callback<CheckpointResult> done);
    void set_interval(Duration interval);
    void stop(env::StatusCallback done);
    [[nodiscard]] SourceStatus status() const;

private:
    struct Request {
        CheckpointRequest what;
        env::Callback<CheckpointResult> done;
    };
    // A piece of a pass on its way from the image to the wire.
    struct Chunk {
        DiskIndex disk = 0;
        Extent range;
        format::ExtentKind kind = format::ExtentKind::data;
        std::shared_ptr<Buffer> content;
        bool started = false;
        bool done = false;
        unsigned tries = 0;
        Status status;
    };
    struct Sent {
        DiskIndex disk = 0;
        Extent range;
        format::ExtentKind kind = format::ExtentKind::data;
        format::Digest128 digest{};
    };
    // One pass, of the tracker and on the wire; outlives connections.
    struct Pass {
        env::PassInfo info;
        std::uint32_t number = 0;
        bool announced = false;
        bool ended = false;    // at the tracker
        bool closing = false;  // its manifest may be sent
        bool voided = false;
        std::string void_reason;
        std::deque<Sent> unacknowledged;
        std::uint64_t unacknowledged_bytes = 0;
        std::uint64_t acknowledged = 0;
        std::uint64_t bytes_done = 0;
        format::ManifestChain chain;  // over what is acknowledged
        std::vector<Ranges> to_release;
        std::vector<Ranges> released;  // of a frozen pass
        std::uint64_t unreadable_bytes = 0;
        std::size_t releases = 0;  // under way
        Status tracker_error;
        std::vector<Request> requests;
        [[nodiscard]] bool frozen() const { return info.kind == env::PassKind::frozen; }
        [[nodiscard]] std::uint64_t count() const { return acknowledged + unacknowledged.size(); }
    };
    // Where the reading of a pass stands; begins anew with each connection.
    struct Cursor {
        DiskIndex disk = 0;
        std::uint64_t offset = 0;
        bool listed = false;
        std::deque<std::shared_ptr<Chunk>> chunks;
        std::size_t reading = 0;
        std::uint64_t bytes = 0;  // of chunks
    };

    [[nodiscard]] Task<void> loop();
    [[nodiscard]] Task<Status> connect();
    [[nodiscard]] Task<Status> receive_welcome();
    [[nodiscard]] Task<Status> look_at_tracker();
    [[nodiscard]] Task<Status> reconcile();
    [[nodiscard]] bool in_step() const;
    // `may_resume`: what the target has of the open epoch can be relied on.
    [[nodiscard]] Task<Status> reconcile_fresh(bool may_resume);
    [[nodiscard]] Task<Status> reconcile_pass();
    [[nodiscard]] Task<Status> mark_gaps(bool everything, std::string reason, bool compare);
    // source_restart.cc: maps that survive restarts.
    [[nodiscard]] Uuid lasting_incarnation(const Uuid& loaded) const;
    void find_stale_maps();
    [[nodiscard]] bool in_step(const format::MapCookie& cookie) const;
    [[nodiscard]] env::Cookie cookie(std::uint64_t closed) const;
    [[nodiscard]] Task<Status> keep_cookie();
    [[nodiscard]] Task<Status> replicate();
    [[nodiscard]] Task<Status> begin_pass();
    [[nodiscard]] Task<Status> run_pass();
    [[nodiscard]] Task<Status> wait_ready();
    [[nodiscard]] Task<Status> pump();
    [[nodiscard]] Task<Status> list_more(std::shared_ptr<Cursor> cursor);
    [[nodiscard]] Task<Status> send_ready(std::shared_ptr<Cursor> cursor);
    [[nodiscard]] Task<Status> read_failed(std::shared_ptr<Cursor> cursor);
    [[nodiscard]] Task<Status> finish_frozen();
    [[nodiscard]] Task<Status> export_image();
    [[nodiscard]] Task<Status> await_closed();
    [[nodiscard]] Task<Status> closed();
    // The pass counts for nothing; its bits go back.
    [[nodiscard]] Task<Status> give_up_pass();
    [[nodiscard]] Task<Status> mark_released();
    [[nodiscard]] Task<Status> return_rest();
    [[nodiscard]] Task<void> wait_until(MonoTime when);
    [[nodiscard]] Task<Status> shut_down();

    void start_reads(const std::shared_ptr<Cursor>& cursor);
    void start_read(const std::shared_ptr<Cursor>& cursor, const std::shared_ptr<Chunk>& chunk);
    void start_releases();
    void send_chunk(const Chunk& chunk);
    void announce_pass();
    void send_pass_end();
    void fold(std::uint64_t count);
    [[nodiscard]] Status take_frames();
    [[nodiscard]] Status take_frame(const env::Frame& frame, format::FrameType type);
    [[nodiscard]] Status on_refused(const format::Refused& refused);
    [[nodiscard]] bool cut_due() const;
    [[nodiscard]] bool wants_live(std::uint64_t dirty_bytes) const;
    void on_frame(std::uint64_t link, env::Frame frame);
    void drop_connection();
    void send(env::Frame frame);
    void wake();
    void tick();
    void look_at_pass();
    void take_requests(Pass& pass, bool whole_chosen);
    void put_back_requests();
    void answer_all(const Error& error);
    void post(std::move_only_function<void()> action);

    SourceConfig config_;
    env::Tracker& tracker_;
    env::Connector& connector_;
    env::Clock& clock_;
    Uuid run_;
    Signal wake_;
    Task<void> loop_;
    bool stopping_ = false;
    env::StatusCallback stopped_;

    std::shared_ptr<env::Connection> connection_;
    std::uint64_t link_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t expected_ = 0;
    std::deque<env::Frame> inbox_;
    MonoTime heard_;
    MonoTime pinged_;
    std::optional<format::Welcome> welcome_;
    std::uint64_t closed_seen_ = 0;  // epoch of the newest EPOCH_CLOSED

    bool fresh_ = true;  // nothing that this run knows of the tracker counts
    bool full_ = false;  // everything is to be marked
    Uuid loaded_;        // of the module's load
    Uuid incarnation_;   // by which the target knows us
    std::vector<env::TrackedDisk> tracked_;
    std::uint64_t epoch_ = 0;  // open; 0: none
    std::uint64_t confirmed_ = 0;
    bool has_point_ = false;
    std::uint32_t last_pass_ = 0;  // number on the wire, in the open epoch
    std::shared_ptr<Pass> pass_;
    unsigned live_in_row_ = 0;
    unsigned voids_in_row_ = 0;
    MonoTime next_cut_;
    std::deque<Request> requests_;
    SourceStatus status_;
};

}  // namespace ebb::core
