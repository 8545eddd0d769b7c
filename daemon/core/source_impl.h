// SPDX-License-Identifier: Apache-2.0
// Inside of core::Source: one loop (connect, reconcile, replicate). Callbacks only note what
// happened and wake it.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/buffer.h"
#include "core/ranges.h"
#include "core/source.h"
#include "core/task.h"
#include "format/map_cookie.h"
#include "format/message.h"
#include "format/source_note.h"

namespace ebb::core {

class Source::Impl : public std::enable_shared_from_this<Source::Impl> {
public:
    Impl(SourceConfig config, env::Tracker& tracker, env::Connector& connector, env::Clock& clock,
         env::Random& random, env::Cpus& cpus);
    ~Impl();

    void start();
    void checkpoint(CheckpointRequest request, env::Callback<CheckpointResult> done);
    void set_interval(Duration interval);
    void verify(VerifyRequest request, env::Callback<VerifyResult> done);
    void stop(env::StatusCallback done);
    [[nodiscard]] SourceStatus status() const;

private:
    struct Request {
        CheckpointRequest what;
        env::Callback<CheckpointResult> done;
        unsigned quiesced = 0;            // times
        std::optional<Error> degraded{};  // by the last of them
        bool met = false;                 // other machines, for a common cut: once
        std::optional<Error> alone{};     // that cut is not this one
        env::GateReport gate{};
        [[nodiscard]] bool stands_still() const { return what.quiesce || what.common; }
    };
    // What the target was asked, and has said, of a range.
    struct Comparison {
        format::Compare asked;
        bool answered = false;
        format::Compared answer;
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
        bool compare = false;  // before it is sent
        bool hashing = false;
        std::optional<format::Sha256> digest;  // of what is compared
        std::shared_ptr<Comparison> comparison;
    };
    struct Sent {
        DiskIndex disk = 0;
        Extent range;
        format::ExtentKind kind = format::ExtentKind::data;
        format::Digest128 digest{};
        bool compared = false;
    };
    // A verification, by disk. What was read of the source's disks and of the point, and found to
    // be equal or not, counts when it was not written between that point's cut and the next.
    struct Looked {
        std::vector<Ranges> equal, differs, unreadable, unreadable_there;
        [[nodiscard]] std::array<std::vector<Ranges>*, 4> all() {
            return {&equal, &differs, &unreadable, &unreadable_there};
        }
        [[nodiscard]] std::uint64_t bytes() const;
    };
    // Sent in the frozen pass: what the point that it closes must hold.
    struct Expected {
        DiskIndex disk = 0;
        Extent range;
        format::Sha256 digest{};
        std::vector<format::Sha256> blocks;
    };
    struct Verification {
        VerifyRequest what;
        env::Callback<VerifyResult> done;
        VerifyResult result;
        std::vector<Ranges> open;    // to be looked at
        std::vector<Ranges> singly;  // likewise, block by block
        Looked seen;                 // since the newest point
        Looked pending;              // and not written until the next cut; counts when that closes
        std::vector<Ranges> repaired;  // marked once
        std::vector<Ranges> to_mark;
        std::vector<Expected> expected;
        std::uint64_t total = 0;
        std::uint64_t examined = 0;
        std::uint64_t open_before = 0;
        unsigned stuck = 0;
        bool discarded = false;  // more was, than is known of `open`
        MonoTime begun;
    };
    // One of the ranges that are being looked at.
    struct Look {
        DiskIndex disk = 0;
        Extent range;
        std::shared_ptr<Buffer> content;  // none: of `expected`, as these
        format::Sha256 digest{};
        std::vector<format::Sha256> blocks;
        bool ready = false;  // read, and the digest is known
        Status status;
        std::shared_ptr<Comparison> comparison;
    };
    using Looks = std::deque<std::shared_ptr<Look>>;
    // One pass, of the tracker and on the wire; outlives connections.
    struct Pass {
        env::PassInfo info;
        bool begun = false;  // at the tracker
        MonoTime begun_at;
        format::PointKind point = format::PointKind::crash;
        std::uint32_t number = 0;
        bool announced = false;
        bool ended = false;    // at the tracker
        bool closing = false;  // its manifest may be sent
        bool voided = false;
        bool compared = false;  // some of it
        bool listed = false;    // for the verification
        std::string void_reason;
        std::deque<Sent> unacknowledged;
        std::uint64_t unacknowledged_bytes = 0;
        std::uint64_t acknowledged = 0;
        std::uint64_t bytes_done = 0;
        format::ManifestChain chain;  // over what is acknowledged
        std::vector<Ranges> to_release;
        std::vector<Ranges> released;  // of a frozen pass
        std::uint64_t unreadable_bytes = 0;
        bool ahead = false;            // of its cut; below: of the blocks that are sampled
        std::uint64_t sampled = 0;     // acknowledged
        std::uint64_t sent_again = 0;  // of them, for this cut
        std::size_t releases = 0;      // under way
        Status tracker_error;
        std::vector<Request> requests;
        [[nodiscard]] bool frozen() const { return info.kind == env::PassKind::frozen; }
        [[nodiscard]] std::uint64_t count() const { return acknowledged + unacknowledged.size(); }
    };
    // Where the target was in the open epoch when it acknowledged the last of what is relied on
    // without a pass that is open: none of it is sent again in this epoch.
    struct Brought {
        Uuid run;
        std::uint32_t pass = 0;
        std::uint64_t count = 0;
        std::uint64_t sent = 0;  // of a pass that was given up: beyond that
        format::Sha256 chain{};  // over `count`
        Uuid by;                 // that noted it: any other pass of this run came later
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
    [[nodiscard]] bool has_brought() const;
    // `may_resume`: what the target has of the open epoch can be relied on.
    [[nodiscard]] Task<Result<bool>> is_idle();
    [[nodiscard]] Task<Status> reconcile_fresh(bool may_resume);
    [[nodiscard]] Task<Status> reconcile_pass();
    [[nodiscard]] Task<Status> start_epoch_over();
    [[nodiscard]] Task<Status> mark_gaps(bool everything, std::string reason, bool compare);
    // source_restart.cc: maps that survive restarts.
    [[nodiscard]] Uuid lasting_incarnation(const Uuid& loaded) const;
    void find_stale_maps();
    [[nodiscard]] std::uint64_t newest_confirmed() const;
    void take_note();
    [[nodiscard]] std::string out_of_step() const;
    [[nodiscard]] Task<Status> leave_note(env::Cookie cookie, std::optional<Brought> brought);
    [[nodiscard]] std::optional<Brought> brought_by_pass() const;
    [[nodiscard]] Task<Status> end_pass();
    [[nodiscard]] bool in_step(const format::MapCookie& cookie) const;
    [[nodiscard]] env::Cookie cookie(std::uint64_t closed) const;
    [[nodiscard]] Task<Status> keep_cookie();
    // source_compare.cc: what the target has already is not sent.
    [[nodiscard]] bool can_compare() const;
    [[nodiscard]] bool wants_compare(DiskIndex disk, std::uint64_t begin, std::uint64_t end) const;
    void compare_all(DiskIndex disk);
    std::shared_ptr<Comparison> ask(std::uint32_t pass, DiskIndex disk, const Extent& range,
                                    const format::Sha256& digest);
    void start_hash(const std::shared_ptr<Chunk>& chunk);
    void ask_for_chunks(const std::shared_ptr<Cursor>& cursor);
    [[nodiscard]] bool take_compared(format::Compared message);
    void send_compared(const Chunk& chunk);
    // source_verify.cc
    [[nodiscard]] Task<Status> verify_slice();
    [[nodiscard]] bool slice_is_over(std::uint64_t before) const;
    [[nodiscard]] Duration ahead_of_rate() const;
    void start_looks(const std::shared_ptr<Looks>& looks);
    [[nodiscard]] std::shared_ptr<Look> next_look();
    void start_look(const std::shared_ptr<Look>& look);
    void hash_look(const std::shared_ptr<Look>& look);
    [[nodiscard]] bool take_looks(Looks& looks);
    void note(const Look& look);
    void note_expected(const Look& look);
    void note_read(const Look& look);
    void expect(const Chunk& chunk, const Extent& range, std::span<const std::byte> content);
    void found(DifferenceKind kind, DiskIndex disk, const Extent& range);
    [[nodiscard]] Task<Status> list_for_verification();
    [[nodiscard]] Task<Status> verification_closed();
    [[nodiscard]] Task<Status> mark_found();
    void look_again(Looked& looked, DiskIndex disk);
    void look_again();
    [[nodiscard]] bool verification_needs_cut() const;
    void end_verification();
    void leave_out_discarded();
    void verify_acknowledged(const Sent& sent);
    // source_ahead.cc
    [[nodiscard]] Task<Result<bool>> wait_for_cut();
    [[nodiscard]] std::uint64_t dirty_bytes() const;
    [[nodiscard]] bool wants_ahead(std::uint64_t dirty) const;
    void sample_ahead(const Sent& sent);
    void thin_samples();
    void ahead_ended();
    void forget_ahead();
    [[nodiscard]] Task<Status> replicate();
    [[nodiscard]] Task<Status> begin_pass();
    // source_cut.cc. Takes the cut, or begins a live pass; around it the applications of `request`
    // (null: nobody) stand still, and other machines are met.
    [[nodiscard]] Task<Result<env::PassInfo>> take_cut(env::PassKind kind, bool whole,
                                                       Request* request);
    [[nodiscard]] Task<Status> quiesce(Request* request);
    [[nodiscard]] Task<Result<env::PassInfo>> cut_with_others(bool whole, Request* request);
    [[nodiscard]] Task<Status> reach(Request* request, CutStage stage);
    [[nodiscard]] Task<Result<env::GateId>> close_gate(Duration limit);
    [[nodiscard]] Task<Result<env::PassInfo>> begin_at_tracker(env::PassKind kind, bool whole,
                                                               std::optional<env::GateId> gate);
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
    [[nodiscard]] static bool may_go(const Chunk& chunk);
    void send_chunk(const Chunk& chunk);
    void send_extent(const Chunk& chunk, const Extent& range, format::ExtentKind kind);
    void flush_extents();
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
    [[nodiscard]] Pace pace(Duration effective) const;
    void note_begun();
    void note_closed(const Pass& pass);
    void put_back_requests();
    void answer_all(const Error& error);
    void post(std::move_only_function<void()> action);

    SourceConfig config_;
    env::Tracker& tracker_;
    env::Connector& connector_;
    env::Clock& clock_;
    env::Cpus& cpus_;
    env::Random& random_;
    Uuid run_;
    Signal wake_;
    Task<void> loop_;
    bool stopping_ = false;
    env::StatusCallback stopped_;

    std::shared_ptr<env::Connection> connection_;
    std::uint64_t link_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t expected_ = 0;
    format::ExtentsWriter extents_;  // read, and not yet sent
    std::deque<env::Frame> inbox_;
    MonoTime heard_;
    MonoTime pinged_;
    std::optional<format::Welcome> welcome_;
    std::uint64_t closed_seen_ = 0;  // epoch of the newest EPOCH_CLOSED

    bool fresh_ = true;         // nothing that this run knows of the tracker counts
    bool starts_over_ = false;  // the open epoch; abandoning may have failed
    bool full_ = false;         // everything is to be marked
    Uuid loaded_;               // of the module's load
    Uuid incarnation_;          // by which the target knows us
    std::vector<env::TrackedDisk> tracked_;
    std::uint64_t epoch_ = 0;  // open; 0: none
    std::uint64_t confirmed_ = 0;
    bool has_point_ = false;
    std::uint32_t last_pass_ = 0;  // number on the wire
    std::optional<Brought> brought_;
    // Of the daemon before this one, until what it left has been looked at. `foreign_note_`: it
    // cannot be read, or is about another protection.
    std::optional<format::SourceNote> left_;
    bool foreign_note_ = false;
    std::shared_ptr<Pass> pass_;
    static constexpr std::uint64_t mismatches_named = 3;
    Error damaged_;  // from then on
    unsigned live_in_row_ = 0;
    unsigned voids_in_row_ = 0;
    MonoTime next_cut_;
    MonoTime next_look_;      // at what is dirty, ahead of it
    MonoTime dirty_since_;    // what is dirty now: the newest pass took all before
    bool ahead_ = false;      // the open epoch was begun ahead of its cut, and waits for it
    bool rewritten_ = false;  // what goes ahead of this cut is overwritten before it
    std::set<std::pair<DiskIndex, std::uint64_t>> sent_ahead_;  // of this cut: blocks, sampled
    std::uint64_t ahead_thinned_ = 1;  // one in so many of those that would be
    std::vector<Ranges> compare_;      // by disk: of what is to be sent, the target may have it
    bool marked_all_ = false;          // everything of a disk, in this epoch
    std::map<std::uint64_t, std::shared_ptr<Comparison>> comparisons_;  // not answered
    std::uint64_t compare_id_ = 0;                                      // the next one
    std::vector<Ranges> discarded_;  // by disk: at the target as zeroes, here as anything
    std::shared_ptr<Verification> verification_;
    std::optional<MonoTime> closed_cut_;    // when the cut of the newest closed epoch was taken
    Duration between_cuts_{0};              // of the two newest
    MonoTime epoch_begun_;                  // the open one, by us
    std::uint64_t bytes_before_epoch_ = 0;  // acknowledged
    bool voids_between_ = false;            // there were some
    bool quiescing_ = false;
    std::deque<Request> requests_;
    SourceStatus status_;
};

}  // namespace ebb::core
