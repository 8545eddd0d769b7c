// SPDX-License-Identifier: Apache-2.0
// Inside of core::Target: one loop that does one thing at a time; everything that arrives is put
// into a queue and wakes it.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>

#include "core/applier.h"
#include "core/journal.h"
#include "core/point_reader.h"
#include "core/rewind.h"
#include "core/target.h"

namespace ebb::core {

// The pass that is being received. What is acknowledged of a frozen one that waits is in
// `waiting` alone; of any other it is on the disks.
struct ReceivedPass {
    std::uint32_t number = 0;
    Uuid run;
    format::PassKind kind = format::PassKind::live;
    bool in_memory = false;
    std::uint64_t count = 0;  // of the chain: received
    format::ManifestChain chain;
    std::uint64_t acknowledged = 0;
};

class Target::Impl : public std::enable_shared_from_this<Target::Impl> {
public:
    Impl(TargetConfig config, std::vector<env::Disk*> disks, env::Volume& volume, env::Clock& clock,
         env::Cpus& cpus);
    ~Impl();

    void open(env::StatusCallback done);
    void accept(std::shared_ptr<env::Connection> connection, env::Frame first);
    // Runs `work` on the loop, between other things.
    void enqueue(std::function<Task<void>(Impl&)> work);
    [[nodiscard]] Task<void> failover(std::uint64_t session,
                                      std::shared_ptr<env::Callback<FailoverResult>> done);
    [[nodiscard]] Task<void> change_point(std::uint64_t epoch,
                                          std::shared_ptr<env::Callback<FailoverResult>> done);
    [[nodiscard]] Task<void> point_cost(std::uint64_t epoch,
                                        std::shared_ptr<env::Callback<std::uint64_t>> done);
    [[nodiscard]] Task<void> verify(std::shared_ptr<env::Callback<VerifiedJournal>> done);
    [[nodiscard]] Task<void> certify(std::uint64_t epoch, bool whole,
                                     std::shared_ptr<env::Callback<CertifiedPoint>> done);
    [[nodiscard]] Task<void> resume(std::shared_ptr<env::StatusCallback> done);
    [[nodiscard]] Task<void> mark_common(std::uint64_t epoch, format::CommonCut common,
                                         std::shared_ptr<env::Callback<Point>> done);
    [[nodiscard]] Task<void> name_point(std::uint64_t epoch, std::string name,
                                        std::shared_ptr<env::Callback<Point>> done);
    [[nodiscard]] Task<void> trim_now(std::shared_ptr<env::StatusCallback> done);
    [[nodiscard]] Task<void> serve(std::uint64_t epoch, std::shared_ptr<env::StatusCallback> ready);
    [[nodiscard]] Task<void> unserve(std::uint64_t epoch,
                                     std::shared_ptr<env::StatusCallback> done);
    void read_served(std::uint64_t epoch, DiskIndex disk, std::uint64_t offset,
                     std::shared_ptr<Buffer> into, std::shared_ptr<env::StatusCallback> done);
    [[nodiscard]] Task<void> close(std::shared_ptr<env::StatusCallback> done);
    [[nodiscard]] std::vector<Point> points() const;
    [[nodiscard]] TargetStatus status() const;

private:
    [[nodiscard]] Task<void> loop();
    [[nodiscard]] Task<Status> recover();
    [[nodiscard]] Task<void> handle(env::Frame frame);
    [[nodiscard]] Task<Status> on_hello(const env::Frame& frame);
    [[nodiscard]] Task<Status> on_epoch_begin(const env::Frame& frame);
    [[nodiscard]] Task<Status> on_pass_begin(const env::Frame& frame);
    [[nodiscard]] Task<Status> on_extent(const env::Frame& frame);
    [[nodiscard]] Task<Status> on_extents(const env::Frame& frame);
    // What it views is to outlive the task.
    [[nodiscard]] Task<Status> receive(format::ExtentView extent);
    [[nodiscard]] Task<Status> on_pass_end(const env::Frame& frame);
    // target_compare.cc
    [[nodiscard]] Task<Status> on_compare(const env::Frame& frame);
    [[nodiscard]] Status check_compare(const format::Compare& asked) const;
    void start_compare(const format::Compare& asked);
    void compared(std::uint64_t link, const format::Compare& asked, const Buffer& content,
                  const std::optional<format::Sha256>& digest);
    [[nodiscard]] Status check_compared(const format::ExtentHead& head);
    void forget_compared();
    // Applies what waits, makes the position durable and acknowledges it.
    [[nodiscard]] Task<Status> settle();
    [[nodiscard]] Task<Status> close_epoch(const format::PassEnd& end);
    // Of what waits, and has got to the disks.
    [[nodiscard]] Task<Status> note_manifest();
    // Repeats `step` while the volume is full: gives up the oldest point, or waits.
    [[nodiscard]] Task<Status> with_space(std::function<Task<Status>()> step);
    // False: there is none that can be.
    [[nodiscard]] Task<Result<bool>> give_up_oldest();
    // What reads the journal is to end, since points have to make room. False: none does, or none
    // can.
    [[nodiscard]] bool end_reading();
    // It is, and what reads the journal can do without it.
    [[nodiscard]] bool may_remove_oldest() const;
    [[nodiscard]] Task<Status> trim();
    [[nodiscard]] std::optional<RetentionStep> next_step() const;
    // Work on closed files beside the loop, one at a time; nothing else gives any up meanwhile.
    enum class Upkeep { none, merge, verify };
    void start_upkeep(Upkeep what, std::function<Task<void>()> work);
    [[nodiscard]] Task<void> stop_upkeep();
    [[nodiscard]] static std::unexpected<Error> reading_given_up();
    [[nodiscard]] Task<void> merge_beside(RetentionStep step);
    [[nodiscard]] Task<void> verify_beside(std::shared_ptr<env::Callback<VerifiedJournal>> done);
    // target_certify.cc
    struct Certifying;
    [[nodiscard]] Task<void> certify_beside(std::uint64_t epoch, bool whole,
                                            std::shared_ptr<env::Callback<CertifiedPoint>> done);
    [[nodiscard]] Task<Status> certify_point(Certifying& it);
    [[nodiscard]] Task<Status> certify_extents(Certifying& it,
                                               const std::vector<format::ManifestEntry>& extents);
    [[nodiscard]] Task<Status> find_longest(Certifying& it);
    [[nodiscard]] Task<Status> certify_chapters(Certifying& it);
    [[nodiscard]] Task<Status> certify_chapter(Certifying& it);
    [[nodiscard]] Task<Status> certify_epochs(Certifying& it);
    [[nodiscard]] Task<Result<std::vector<Ranges>>> places_certified(const Certifying& it);
    [[nodiscard]] Status check_places(const std::vector<Ranges>& places) const;
    [[nodiscard]] std::vector<std::uint64_t> certified_epochs(const CertifiedPoint& point) const;
    [[nodiscard]] Task<Status> begin_reads(Certifying& it);
    [[nodiscard]] Task<Status> read_back(Certifying& it, std::shared_ptr<PointReader> reader,
                                         std::vector<format::ManifestEntry> run);
    [[nodiscard]] Task<Status> room_for_read(Certifying& it, std::uint64_t bytes);
    [[nodiscard]] Task<Status> end_read(Certifying& it);
    // None is under way any more.
    [[nodiscard]] Task<Status> end_reads(Certifying& it);
    [[nodiscard]] Task<Status> certify_epoch(Certifying& it, std::uint64_t epoch);
    [[nodiscard]] Task<Status> index_certified(Certifying& it);
    // What the epoch has changed, which those before it have not at the point.
    [[nodiscard]] Task<Status> add_undo(Certifying& it, std::uint64_t epoch);
    [[nodiscard]] Result<ClosedEpoch> closed_epoch(std::uint64_t epoch) const;
    void upkeep_done();
    // A point that is served. Its tasks go before what they use.
    struct Served {
        std::shared_ptr<PointReader> reader;
        std::uint64_t number = 0;
        std::list<Task<void>> tasks;
        std::vector<std::shared_ptr<env::StatusCallback>> waiting;  // for it to be ready
    };
    void follow_journal();
    [[nodiscard]] std::vector<std::shared_ptr<PointReader>> readers() const;
    [[nodiscard]] Status may_serve(std::uint64_t epoch) const;
    [[nodiscard]] Task<void> build_served(std::uint64_t epoch, std::shared_ptr<PointReader> reader);
    [[nodiscard]] Task<void> read_one(std::shared_ptr<PointReader> reader, DiskIndex disk,
                                      std::uint64_t offset, std::shared_ptr<Buffer> into,
                                      std::shared_ptr<env::StatusCallback> done);
    void begin_task(Served& served, Task<void> task);
    [[nodiscard]] std::set<std::uint64_t> pinned_by_readers() const;
    // True: there was one that could be given up.
    [[nodiscard]] bool give_up_served(const Error& why, bool all);
    // What an unfinished merge means. E_CANCELLED: nothing.
    [[nodiscard]] Status after_merge(const Error& error);
    [[nodiscard]] bool may_merge() const { return !merge_error_ || clock_.now() >= merge_again_; }
    void merge_failed(const Error& error);
    [[nodiscard]] MergeLimits merge_limits() const {
        return {config_.batch_bytes, config_.merge_chapter_blocks};
    }
    [[nodiscard]] Task<Status> return_to_newest();
    [[nodiscard]] Point point_of(std::uint64_t epoch) const;
    [[nodiscard]] Status may_move() const;
    // Gives up old points where there is no room for it, but waits for none.
    [[nodiscard]] Task<Status> write_session(format::SessionFile session);
    [[nodiscard]] Task<Result<std::uint64_t>> take_back();
    [[nodiscard]] Task<void> run_work();
    [[nodiscard]] Status check_hello(const format::Hello& hello) const;
    [[nodiscard]] Status check_extent(const format::ExtentHead& head) const;
    [[nodiscard]] format::PositionRecord position() const;
    [[nodiscard]] format::Welcome welcome() const;
    void restore_pass();
    void on_frame(std::uint64_t link, env::Frame frame);
    void on_closed(std::uint64_t link);
    void watch_silence(std::uint64_t link);
    void acknowledge();
    void send_refusal(const Error& error);
    // Says so, if there is somebody to hear it, and ends the connection.
    void refuse(const Error& error);
    void drop_connection();
    void post(std::move_only_function<void()> action);
    void wake_later(Duration delay);
    void fail_with(const Error& error);
    void forget_waiting();
    [[nodiscard]] bool take_budget(std::uint64_t bytes);
    void give_budget_back();

    TargetConfig config_;
    std::vector<env::Disk*> disks_;
    env::Clock& clock_;
    env::Cpus& cpus_;
    Journal journal_;
    Applier applier_;
    Rewind rewind_;
    std::map<std::uint64_t, Served> served_;   // by epoch
    std::uint64_t servings_ = 0;               // so far
    std::shared_ptr<PointReader> certifying_;  // what is certified is read by it

    Signal wake_;
    Task<void> loop_;
    Task<void> upkeep_task_;
    Upkeep upkeep_ = Upkeep::none;
    EpochSpan giving_up_;  // by the merge that goes on: points
    bool upkeep_stop_ = false;
    bool upkeep_full_ = false;     // it was stopped for the room of what it reads
    std::uint64_t read_from_ = 0;  // what is read of the journal has to stay from this epoch on
    std::optional<Error> merge_error_;  // of the last one; nothing is merged until then:
    MonoTime merge_again_;
    Duration merge_pause_{0};
    Signal upkeep_end_;
    env::StatusCallback opened_;
    bool ready_ = false;   // recovered
    bool broken_ = false;  // to be recovered again
    bool closing_ = false;
    bool full_ = false;
    bool has_error_ = false;  // until something could be written again
    Error error_;
    std::deque<std::function<Task<void>(Impl&)>> work_;

    std::shared_ptr<env::Connection> connection_;
    std::uint64_t link_ = 0;  // number of the connection
    std::uint64_t sent_ = 0;
    std::uint64_t expected_ = 0;  // sequence of the next frame
    bool greeted_ = false;        // its HELLO is good: it may be told what is waited for
    bool welcomed_ = false;
    Uuid run_;
    std::uint16_t version_ = 0;  // of this connection
    MonoTime heard_;
    std::deque<env::Frame> inbox_;
    std::uint64_t inbox_bytes_ = 0;
    bool paused_ = false;

    std::optional<ReceivedPass> pass_;
    std::vector<Received> waiting_;  // received and not on the disks
    std::vector<Ranges> waiting_ranges_;
    std::uint64_t waiting_bytes_ = 0;  // memory it takes
    std::uint64_t budgeted_ = 0;       // of it, out of the budget for closings
    // Of the pass and connection: what is being compared, and what has been and not been sent.
    std::vector<Ranges> comparing_;
    std::vector<Ranges> compared_;
    std::uint64_t compare_id_ = 0;       // the next one
    std::uint64_t comparing_bytes_ = 0;  // being read, for whichever connection
    Signal compare_room_;
    bool lost_acks_ = false;  // something acknowledged in the open epoch may be gone
    bool frozen_began_ = false;
    std::uint64_t epoch_bytes_ = 0;
    std::vector<format::Unreadable> unreadable_;
    std::uint64_t unreadable_bytes_ = 0;
    std::uint64_t received_bytes_ = 0;
};

}  // namespace ebb::core
