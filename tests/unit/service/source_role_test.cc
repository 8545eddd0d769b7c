// SPDX-License-Identifier: Apache-2.0
// The source's role on a machine made of files, with a module that comes and goes.
#include "service/source_role.h"

#include <atomic>
#include <thread>

#include "unit/service/role_test.h"

namespace ebb::service {
namespace {

namespace fs = std::filesystem;

// Attached disks of which nothing can be had.
class IdleTracker final : public platform::DiskTracker {
public:
    explicit IdleTracker(platform::EventLoop& loop) : loop_(loop) {}
    void detach(env::StatusCallback done) override { answer(std::move(done)); }
    void set_witnesses(platform::Witnesses witnesses) override { last_ = std::move(witnesses); }
    [[nodiscard]] const platform::Witnesses& witnesses() const { return last_; }
    void incarnation(env::Callback<Uuid> done) override { refuse(std::move(done)); }
    void disks(env::Callback<std::vector<env::TrackedDisk>> done) override {
        refuse(std::move(done));
    }
    void mark_all(DiskIndex, bool, env::StatusCallback done) override { refuse(std::move(done)); }
    void mark(DiskIndex, std::span<const Extent>, env::StatusCallback done) override {
        refuse(std::move(done));
    }
    void begin_pass(env::PassKind, bool, std::optional<env::GateId>,
                    env::Callback<env::PassInfo> done) override {
        refuse(std::move(done));
    }
    void close_gate(Duration, env::Callback<env::GateId> done) override { refuse(std::move(done)); }
    void open_gate(env::GateId, env::Callback<env::GateReport> done) override {
        refuse(std::move(done));
    }
    void get_pass(env::PassId, env::Callback<env::PassInfo> done) override {
        refuse(std::move(done));
    }
    void pass_map(env::PassId, DiskIndex, std::uint64_t,
                  env::Callback<env::PassMap> done) override {
        refuse(std::move(done));
    }
    void read(env::PassId, DiskIndex, std::uint64_t, std::span<std::byte>,
              env::StatusCallback done) override {
        refuse(std::move(done));
    }
    void read_disk(DiskIndex, std::uint64_t, std::span<std::byte>,
                   env::StatusCallback done) override {
        refuse(std::move(done));
    }
    void release(env::PassId, DiskIndex, std::span<const Extent>,
                 env::StatusCallback done) override {
        refuse(std::move(done));
    }
    void end_pass(env::PassId, env::StatusCallback done) override { refuse(std::move(done)); }
    void keep(const env::Cookie&, env::StatusCallback done) override { refuse(std::move(done)); }
    void leave_note(std::vector<std::byte>, env::StatusCallback done) override {
        refuse(std::move(done));
    }
    void confirm(const env::Cookie&, env::StatusCallback done) override { refuse(std::move(done)); }
    void abandon(env::StatusCallback done) override { answer(std::move(done)); }
    void on_event(std::move_only_function<void()>) override {}

private:
    void answer(env::StatusCallback done) {
        loop_.post([done = std::move(done)]() mutable { done({}); });
    }
    template <class T>
    void refuse(env::Callback<T> done) {
        loop_.post([done = std::move(done)]() mutable {
            done(fail(ErrorCode::busy, "nothing is tracked here"));
        });
    }
    platform::EventLoop& loop_;
    platform::Witnesses last_;
};

class SourceRoleTest : public RoleTest<SourceRole, &api::ExchangeRequest::source> {
protected:
    SourceRoleTest() : RoleTest("source") {
        disk("sda", "8:0", "naa.s", lsi, size);
        surroundings_.paths = host_.paths;
        surroundings_.attach = [this, test = std::this_thread::get_id()](
                                   platform::EventLoop& loop, std::uint32_t,
                                   const std::vector<platform::TrackDisk>& disks,
                                   const std::shared_ptr<platform::RestartRecord>&)
            -> Result<std::unique_ptr<platform::DiskTracker>> {
            if (std::this_thread::get_id() == test) ++attached_on_the_loop_;
            if (!loaded_)
                return fail("E_MODULE_NOT_LOADED", ErrorCode::not_found, "it is not loaded");
            attached_ = disks.size();
            with_map_ = static_cast<std::size_t>(std::ranges::count_if(
                disks, [](const auto& disk) { return disk.area.has_value(); }));
            auto tracker = std::make_unique<IdleTracker>(loop);
            tracker_ = tracker.get();
            return tracker;
        };
        surroundings_.detach_group = [this](std::uint32_t) -> Status {
            ++groups_detached_;
            return {};
        };
    }
    ~SourceRoleTest() override { role_.reset(); }

    void start(Duration retry = never) {
        surroundings_.retry = retry;
        start_with(surroundings_);
    }
    Result<api::Json> protect(std::uint64_t session = 1, const char* protection = id) {
        const api::SourceProtectArgs args{
            protection, session, {{0, "naa.s", size}}, {"127.0.0.1", 1, "target"}, 0, false};
        return run(api::command::source_protect, api::encode(args));
    }
    Result<api::Json> fence(std::uint64_t session, const char* protection = id) {
        return run(api::command::source_fence, api::encode(api::FenceArgs{protection, session}));
    }
    std::string kept() {
        auto text = platform::read_file(config_.state + "/source.json");
        return text ? *text : "";
    }
    // Protected, and the daemon has ended.
    void was_protected() {
        start();
        ASSERT_TRUE(protect());
        role_.reset();
        attached_ = 0;
    }

    SourceSurroundings surroundings_;
    std::atomic<IdleTracker*> tracker_ = nullptr;  // the last one
    std::atomic<bool> loaded_ = true;
    std::atomic<std::size_t> attached_ = 0;
    std::atomic<std::size_t> with_map_ = 0;  // of them
    std::atomic<unsigned> attached_on_the_loop_ = 0;
    std::atomic<unsigned> groups_detached_ = 0;
};

TEST_F(SourceRoleTest, AModuleThatIsLoadedLateIsTakenUpByItself) {
    was_protected();
    loaded_ = false;
    start(soon);
    EXPECT_EQ(error(), "E_MODULE_NOT_LOADED");
    loaded_ = true;
    EXPECT_TRUE(loop_.run_until([&] { return attached_ == 1; }, patience));
    EXPECT_TRUE(loop_.run_until(
        [&] {
            const auto p = status();
            return p && (!p->error || p->error->code != "E_MODULE_NOT_LOADED");
        },
        patience));
}

TEST_F(SourceRoleTest, WhatCannotBeginIsNotForgotten) {
    was_protected();
    loaded_ = false;
    start();
    EXPECT_EQ(error(), "E_MODULE_NOT_LOADED");
    // Anything that is saved is saved with it.
    ASSERT_TRUE(fence(1, other));
    EXPECT_THAT(kept(), testing::HasSubstr(id));
    ASSERT_TRUE(run(api::command::source_interval, api::encode(api::IntervalArgs{id, 7000, {}})));
    start();
    EXPECT_EQ(error(), "E_MODULE_NOT_LOADED");
    EXPECT_THAT(kept(), testing::HasSubstr("7000"));
    EXPECT_EQ(run(api::command::source_checkpoint, api::encode(api::CheckpointArgs{id, "x", ""}))
                  .error()
                  .name(),
              "E_MODULE_NOT_LOADED");
}

TEST_F(SourceRoleTest, ADiskThatIsLateOrResizedIsNamed) {
    was_protected();
    fs::rename(top_ / "sys/class/block/sda", top_ / "sda");
    start(soon);
    EXPECT_EQ(error(), "E_DISK_NOT_FOUND");
    fs::rename(top_ / "sda", top_ / "sys/class/block/sda");
    EXPECT_TRUE(loop_.run_until([&] { return attached_ == 1; }, patience));
    write("sys/class/block/sda/size", std::to_string(2 * size / 512) + "\n");
    start(soon);
    EXPECT_EQ(error(), "E_DISK_RESIZED");
}

TEST_F(SourceRoleTest, WhatIsMadeOnADiskMeanwhileBearsWitnessToo) {
    block("sys/devices/virtual/block/map", "7:0", 64 * mib);
    config_.source.map = top_ / "dev/map";
    surroundings_.map_config = top_ / "map.conf";
    surroundings_.choose_again = Duration::zero();
    start();
    ASSERT_TRUE(protect()) << protect().error().message;
    const std::string node = top_ / "dev/sda";
    const auto bears = [&](std::uint64_t offset) {
        const auto& witnesses = tracker_.load()->witnesses();
        const auto found = witnesses.find(node);
        return found != witnesses.end() &&
               std::ranges::count(found->second, offset, &Extent::offset) == 1;
    };
    const auto will_bear = [&](std::uint64_t offset) {
        return loop_.run_until([&] { return told() && bears(offset); }, patience);
    };
    EXPECT_TRUE(will_bear(0));
    EXPECT_FALSE(bears(mib + 64 * 1024));
    partition("sys/class/block/sda", "sda1", "8:1");
    write("sys/class/block/sda/sda1/start", "2048\n");
    EXPECT_TRUE(will_bear(mib + 64 * 1024));
    // The same partition in another place.
    write("sys/class/block/sda/sda1/start", "4096\n");
    EXPECT_TRUE(will_bear(2 * mib + 64 * 1024));
}

// `tracking` of a disk: intent-log wherever there is a map device, checksum where it is asked for.
TEST_F(SourceRoleTest, ADiskOfChecksumHasNoMap) {
    block("sys/devices/virtual/block/map", "7:0", 64 * mib);
    config_.source.map = top_ / "dev/map";
    surroundings_.map_config = top_ / "map.conf";
    const auto restarted = [&](std::vector<SourceDiskSettings> disks) {
        config_.source.disks = std::move(disks);
        start(soon);
        attached_ = 0;
        EXPECT_TRUE(loop_.run_until([&] { return attached_ == 1; }, patience));
        const auto text = platform::read_file(top_ / "map.conf");
        return std::pair(with_map_.load(), text && text->contains("naa.s"));
    };
    start();
    ASSERT_TRUE(protect()) << protect().error().message;
    EXPECT_EQ(with_map_, 1U);
    // Nor is it attached in the initramfs.
    EXPECT_EQ(restarted({{"naa.s", "checksum"}}), (std::pair<std::size_t, bool>(0, false)));
    EXPECT_EQ(restarted({{"naa.other", "checksum"}}), (std::pair<std::size_t, bool>(1, true)));
    EXPECT_EQ(restarted({{"naa.s", "intent-log"}}), (std::pair<std::size_t, bool>(1, true)));
}

TEST_F(SourceRoleTest, ADiskThatHasBecomeAPathIsNamed) {
    was_protected();
    mapped("dm-0", "253:0", "mpatha", "sys/class/block/sda");
    write("sys/class/block/dm-0/dm/uuid", "mpath-3600508b4000156d700012000000b0000\n");
    start(soon);
    EXPECT_EQ(error(), "E_DISK_MULTIPATH");
}

TEST_F(SourceRoleTest, ProtectBeginsWhatRests) {
    was_protected();
    loaded_ = false;
    start();
    EXPECT_EQ(error(), "E_MODULE_NOT_LOADED");
    EXPECT_EQ(protect().error().name(), "E_MODULE_NOT_LOADED");
    EXPECT_TRUE(status());
    loaded_ = true;
    EXPECT_TRUE(protect());
    EXPECT_EQ(attached_, 1U);
}

TEST_F(SourceRoleTest, OneThatNeverBeganLeavesNothing) {
    loaded_ = false;
    start();
    EXPECT_EQ(protect().error().name(), "E_MODULE_NOT_LOADED");
    EXPECT_FALSE(status());
    start();
    EXPECT_FALSE(status());
}

TEST_F(SourceRoleTest, StoppingWhatRestsDetachesWhatWasLeft) {
    was_protected();
    loaded_ = false;
    start();
    EXPECT_EQ(error(), "E_MODULE_NOT_LOADED");
    ASSERT_TRUE(run(api::command::source_stop, {{"protection", id}}));
    EXPECT_EQ(groups_detached_, 1U);
    EXPECT_FALSE(status());
    start();
    EXPECT_FALSE(status());
}

TEST_F(SourceRoleTest, AFenceHoldsOverARestart) {
    start();
    ASSERT_TRUE(fence(3));
    start();
    EXPECT_EQ(protect(3).error().name(), "E_FENCED");
    const auto fenced = status();
    ASSERT_TRUE(fenced);
    EXPECT_EQ(fenced->state, api::SourceState::fenced);
    EXPECT_TRUE(protect(4));
    ASSERT_TRUE(fence(4));
    start();
    EXPECT_EQ(status()->state, api::SourceState::fenced);
}

TEST_F(SourceRoleTest, AnInitramfsThatDoesNotAttachIsNamedUntilItIsMadeAnew) {
    const std::string wanted = "disk naa.s\n";
    surroundings_.map_config = top_ / "map.conf";
    surroundings_.initramfs = {top_ / "notes", top_ / "boot", top_ / "modules", "6.1"};
    config_.source.map = top_ / "map";
    const auto warned = [&](const std::string& code) {
        return loop_.run_until(
            [&] {
                const auto request = told();
                if (!request) return false;
                return request->warnings.empty() ? code.empty() : request->warnings[0].code == code;
            },
            patience);
    };
    start();
    EXPECT_TRUE(warned(""));
    write("map.conf", wanted);
    EXPECT_TRUE(warned("E_INITRAMFS_OLD"));
    EXPECT_THAT(told()->warnings[0].message, testing::HasSubstr("6.1"));
    write("notes/6.1", wanted);
    EXPECT_TRUE(warned(""));
}

// Nothing is tracked here, so that the cut never comes.
TEST_F(SourceRoleTest, ACommonCutIsLedByItsNumberAndEndsWithReplication) {
    start();
    ASSERT_TRUE(protect());
    const auto step = [&](const char* cut, api::CutStep wanted) {
        return run(api::command::source_cut, api::encode(api::CutArgs{id, cut, wanted}));
    };
    EXPECT_EQ(step(other, api::CutStep::leave).error().code, ErrorCode::not_found);
    std::vector<Result<api::Json>> answers;
    const auto ask = [&] {
        api::CheckpointArgs args{id, "common", ""};
        args.common = api::CommonCutArgs{};
        args.common->cut = other;
        role_->run({2, api::command::source_checkpoint, api::encode(args)},
                   [&](Result<api::Json> value) { answers.push_back(std::move(value)); });
    };
    ask();
    ask();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].error().name(), "E_BUSY");
    EXPECT_EQ(step(id, api::CutStep::ready).error().code, ErrorCode::not_found);
    EXPECT_TRUE(step(other, api::CutStep::leave));
    EXPECT_EQ(step(other, api::CutStep::ready).error().code, ErrorCode::cancelled);
    ASSERT_TRUE(run(api::command::source_stop, {{"protection", id}}));
    EXPECT_TRUE(loop_.run_until([&] { return answers.size() == 2; }, patience));
    EXPECT_EQ(answers[1].error().code, ErrorCode::cancelled);
    EXPECT_FALSE(role_->writes(api::command::source_cut));
    EXPECT_TRUE(role_->writes(api::command::source_checkpoint));
}

TEST_F(SourceRoleTest, DisksAreNotAttachedOnTheLoop) {
    start();
    ASSERT_TRUE(protect());
    EXPECT_EQ(attached_, 1U);
    EXPECT_EQ(attached_on_the_loop_, 0U);
}

}  // namespace
}  // namespace ebb::service
