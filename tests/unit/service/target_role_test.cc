// SPDX-License-Identifier: Apache-2.0
// The target's role on a machine made of files, with sources on the loopback interface.
#include "service/target_role.h"

#include <cstdlib>
#include <thread>

#include "base/uuid_text.h"
#include "format/message.h"
#include "unit/service/role_test.h"

namespace ebb::service {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class TargetRoleTest : public RoleTest<TargetRole, &api::ExchangeRequest::target> {
protected:
    TargetRoleTest() : RoleTest("target") {
        config_.target.retention = retention();
        config_.target.address = "127.0.0.1";
        config_.target.port = 0;
        fs::create_directories(retention());
        disk("sdb", "8:16", "naa.b");
        disk("sdc", "8:32", "naa.c", lsi, size);
        mount_retention();
    }

    std::string retention() const { return top_ / "retention"; }
    fs::path journal() const { return fs::path(retention()) / id; }
    void mount_retention() { mount("8:16", retention(), "xfs", "/dev/sdb"); }
    void unmount_retention() {
        write("proc/self/mountinfo", "");
        mount("0:20", "/", "overlay", "overlay");
    }
    void detach_disk() { fs::remove(top_ / "sys/class/block/sdc"); }
    void attach_disk() {
        fs::create_directory_symlink(
            top_ / "sys/devices/pci0000:00" / lsi / "host0/target0:0:0/sdc-dev/block/sdc",
            top_ / "sys/class/block/sdc");
    }

    TargetSurroundings surroundings(Duration retry) const {
        return {host_, platform::ReplicaMarks(marks(), host_.paths), retry};
    }
    std::string marks() const { return top_ / "marks"; }
    void start(Duration retry = never) { start_with(surroundings(retry)); }
    static api::TargetPrepareArgs args() {
        return {id, "shop", 1, "source", {}, false, {{0, "naa.s", "naa.c", size}}};
    }
    Result<api::Json> prepare() {
        auto all = args();
        all.retention = retention();
        return run(api::command::target_prepare, api::encode(all));
    }
    Result<api::Json> failover() {
        return run(api::command::target_failover,
                   api::encode(api::TargetFailoverArgs{id, 2, "latest"}));
    }

    bool becomes(api::TargetState state) {
        return loop_.run_until(
            [&] {
                const auto p = status();
                return p && p->state == state && !p->error;
            },
            patience);
    }
    // Prepared, and the daemon has ended.
    void was_prepared() {
        start();
        ASSERT_TRUE(prepare());
        role_.reset();
    }

    std::shared_ptr<env::Connection> connect(const std::string& name = "source") {
        const auto part = told();
        if (!part) return {};
        auto tls = platform::make_tls_context(Identities::of(identities_.folder(name)),
                                              platform::TlsSide::client);
        platform::TlsConnector connector(loop_, *tls, "127.0.0.1", part->data_address.port,
                                         "target");
        std::shared_ptr<env::Connection> made;
        connector.connect([&](auto result) {
            if (result) made = std::move(*result);
        });
        if (!loop_.run_until([&] { return made != nullptr; }, patience)) return {};
        frames_.clear();
        made->start([this](env::Frame frame) { frames_.push_back(std::move(frame)); },
                    [](const Error&) {});
        connections_.push_back(made);
        return made;
    }
    static format::Hello hello(std::uint64_t session = 1, const char* protection = id) {
        format::Hello hello;
        hello.protection = *parse_uuid(protection);
        hello.session = session;
        hello.disks = {{"naa.s", size}};
        return hello;
    }
    bool answered(std::size_t frames) {
        return loop_.run_until([&] { return frames_.size() >= frames; }, patience);
    }
    // The code by which a source is refused.
    std::string refusal(const format::Hello& hello, const std::string& name = "source") {
        auto connection = connect(name);
        if (!connection) return "no connection";
        connection->send(format::encode(hello, 0));
        if (!answered(1)) return "no answer";
        auto refused = format::decode_refused(frames_.front());
        words_ = refused ? refused->message : "";
        return refused ? std::string(code_name(refused->code)) : "not refused";
    }
    void make_point() {
        auto connection = connect();
        ASSERT_TRUE(connection);
        connection->send(format::encode(hello(), 0));
        connection->send(format::encode(format::EpochBegin{1, {}, true}, 1));
        connection->send(
            format::encode(format::PassBegin{1, 1, format::PassKind::frozen, {}, 0}, 2));
        connection->send(
            format::encode(format::PassEnd{1, 1, format::PassKind::frozen, 0, {}, {}, "one"}, 3));
        ASSERT_TRUE(answered(2));
        ASSERT_TRUE(format::decode_epoch_closed(frames_.back()));
    }

    std::vector<std::shared_ptr<env::Connection>> connections_;
    std::vector<env::Frame> frames_;
    std::string words_;
};

TEST(RetentionPolicy, EveryPointStaysUntilItIsKnownWhetherItIsACommonOne) {
    TargetSettings settings;
    EXPECT_EQ(retention_policy(settings).all_for, std::chrono::hours(2));
    EXPECT_EQ(retention_policy(settings).thinned_to, std::chrono::hours(1));
    EXPECT_EQ(retention_policy(settings).age, std::chrono::hours(24));
    settings.retention_all_hours = 0;
    settings.retention_limit_mib = 3;
    EXPECT_EQ(retention_policy(settings).all_for, std::chrono::minutes(10));
    EXPECT_EQ(retention_policy(settings).bytes, 3 << 20);
}

TEST_F(TargetRoleTest, AVolumeThatIsMountedLateIsOpenedByItself) {
    was_prepared();
    unmount_retention();
    start(soon);
    EXPECT_EQ(error(), "E_RETENTION_NOT_MOUNTED");
    EXPECT_EQ(refusal(hello()), "E_BUSY");
    EXPECT_THAT(words_, HasSubstr("E_RETENTION_NOT_MOUNTED"));
    mount_retention();
    EXPECT_TRUE(becomes(api::TargetState::waiting));
}

TEST_F(TargetRoleTest, ADiskThatComesLateIsOpenedAtRescan) {
    was_prepared();
    detach_disk();
    start();
    EXPECT_EQ(error(), "E_DISK_NOT_FOUND");
    EXPECT_EQ(run(api::command::target_points, {{"protection", id}}).error().name(),
              "E_DISK_NOT_FOUND");
    attach_disk();
    ASSERT_TRUE(run(api::command::target_rescan, api::Json::object()));
    EXPECT_TRUE(becomes(api::TargetState::waiting));
}

TEST_F(TargetRoleTest, PrepareAndFailoverOpenWhatIsShut) {
    start();
    ASSERT_TRUE(prepare());
    make_point();
    unmount_retention();
    start();
    EXPECT_EQ(error(), "E_RETENTION_NOT_MOUNTED");
    EXPECT_EQ(prepare().error().name(), "E_RETENTION_NOT_MOUNTED");
    EXPECT_EQ(failover().error().name(), "E_RETENTION_NOT_MOUNTED");
    mount_retention();
    EXPECT_TRUE(prepare());
    EXPECT_TRUE(becomes(api::TargetState::waiting));
    unmount_retention();
    start();
    EXPECT_EQ(error(), "E_RETENTION_NOT_MOUNTED");
    mount_retention();
    const auto value = failover();
    ASSERT_TRUE(value) << value.error().message;
    EXPECT_EQ((*value)["point"]["name"], "one");
    EXPECT_TRUE(becomes(api::TargetState::failed_over));
}

TEST_F(TargetRoleTest, AProtectionThatCannotBePreparedLeavesNothing) {
    start();
    detach_disk();
    EXPECT_EQ(prepare().error().name(), "E_DISK_NOT_FOUND");
    EXPECT_FALSE(status());
    attach_disk();
    put("sdc", 0, "data");
    EXPECT_EQ(prepare().error().name(), "E_DISK_HOLDS_DATA");
    start();
    EXPECT_FALSE(status());
}

TEST_F(TargetRoleTest, ALostJournalIsNotMadeAnew) {
    was_prepared();
    fs::rename(journal(), top_ / "elsewhere");  // another volume is mounted in its place
    start(soon);
    EXPECT_EQ(error(), "E_RETENTION_LOST");
    EXPECT_EQ(prepare().error().name(), "E_RETENTION_LOST");
    EXPECT_FALSE(fs::exists(journal()));
    fs::create_directory(journal());
    EXPECT_EQ(prepare().error().name(), "E_RETENTION_LOST");
    EXPECT_TRUE(fs::is_empty(journal()));
    // The right one.
    fs::remove(journal());
    fs::rename(top_ / "elsewhere", journal());
    EXPECT_TRUE(becomes(api::TargetState::waiting));
}

TEST_F(TargetRoleTest, AProtectionWithoutItsJournalCanBeDisabled) {
    was_prepared();
    fs::remove_all(journal());
    start();
    EXPECT_EQ(error(), "E_RETENTION_LOST");
    ASSERT_TRUE(run(api::command::target_disable, {{"protection", id}}));
    EXPECT_FALSE(status());
    ASSERT_TRUE(prepare());
    EXPECT_TRUE(becomes(api::TargetState::waiting));
}

TEST_F(TargetRoleTest, ASourceThatWasFailedOverFromIsTold) {
    start();
    EXPECT_EQ(refusal(hello()), "E_NOT_FOUND");
    ASSERT_TRUE(prepare());
    EXPECT_EQ(refusal(hello(), "stranger"), "E_NOT_FOUND");
    make_point();
    ASSERT_TRUE(failover());
    EXPECT_EQ(refusal(hello(1)), "E_FENCED");
    EXPECT_EQ(refusal(hello(2)), "E_BUSY");
    start();
    EXPECT_EQ(refusal(hello(1)), "E_FENCED");
    // For ever: also when there is nothing left of the protection.
    ASSERT_TRUE(run(api::command::target_commit, {{"protection", id}}));
    EXPECT_FALSE(status());
    EXPECT_EQ(refusal(hello(1)), "E_FENCED");
    start();
    EXPECT_EQ(refusal(hello(1)), "E_FENCED");
}

TEST_F(TargetRoleTest, AConnectionThatIsFailedOverFromHearsIt) {
    start();
    ASSERT_TRUE(prepare());
    make_point();
    frames_.clear();
    ASSERT_TRUE(failover());
    ASSERT_TRUE(answered(1));
    const auto refused = format::decode_refused(frames_.front());
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->code, ErrorCode::fenced);
}

TEST_F(TargetRoleTest, AFailoverThatWasNotNotedCanBeTakenBack) {
    start();
    ASSERT_TRUE(prepare());
    make_point();
    const auto before = platform::read_file(config_.state + "/target.json");
    ASSERT_TRUE(before);
    ASSERT_TRUE(failover());
    // The daemon died before it had saved what it did.
    ASSERT_TRUE(
        platform::replace_file(config_.state + "/target.json", *before, platform::private_mode));
    start();
    EXPECT_TRUE(becomes(api::TargetState::failed_over));
    EXPECT_EQ(refusal(hello(1)), "E_FENCED");
    ASSERT_TRUE(run(api::command::target_resume, {{"protection", id}}));
    EXPECT_TRUE(becomes(api::TargetState::waiting));
}

TEST_F(TargetRoleTest, APointIsServedAndEnded) {
    config_.target.nbd.socket = top_ / "run/nbd.sock";
    start();
    ASSERT_TRUE(prepare());
    const auto serve = [&](const std::string& name, const std::string& point = "latest") {
        return run(api::command::target_serve, api::encode(api::ServeArgs{id, name, point}));
    };
    const auto unserve = [&](const std::string& name) {
        return run(api::command::target_unserve, api::encode(api::UnserveArgs{id, name, "kept"}));
    };
    EXPECT_EQ(serve("a").error().name(), "E_NO_POINT");
    EXPECT_FALSE(fs::exists(config_.target.nbd.socket));
    make_point();
    const auto value = serve("a");
    ASSERT_TRUE(value) << value.error().message;
    const auto served = api::decode<api::ServeValue>(*value);
    ASSERT_TRUE(served && served->exports.size() == 1);
    EXPECT_EQ(served->point.epoch, 1U);
    EXPECT_EQ(served->exports[0].size, size);
    EXPECT_EQ(served->exports[0].uri, "nbd+unix:///shop/a/0?socket=" + config_.target.nbd.socket);
    std::optional<int> copied;
    std::thread client([&] {
        const int code = std::system(("nbdcopy '" + served->exports[0].uri + "' " +
                                      (top_ / "copy").string() + " 2>/dev/null")
                                         .c_str());
        loop_.post([&copied, code] { copied = code; });
    });
    (void)loop_.run_until([&] { return copied.has_value(); }, patience);
    client.join();
    EXPECT_EQ(copied, 0);
    EXPECT_EQ(fs::file_size(top_ / "copy"), size);
    ASSERT_TRUE(serve("kept", "1"));
    EXPECT_EQ(status()->served.size(), 2U);
    ASSERT_TRUE(unserve(""));
    ASSERT_EQ(status()->served.size(), 1U);
    EXPECT_EQ(status()->served[0].name, "kept");
    EXPECT_FALSE(status()->served[0].error);
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(unserve("kept"));
    EXPECT_TRUE(status()->served.empty());
    // A failover, and the end of the protection, end it as well.
    ASSERT_TRUE(serve("a"));
    ASSERT_TRUE(failover());
    EXPECT_EQ(serve("a").error().code, ErrorCode::refused);
    EXPECT_TRUE(unserve("a"));
    EXPECT_TRUE(run(api::command::target_disable, {{"protection", id}}));
    EXPECT_TRUE(unserve("a"));
}

TEST_F(TargetRoleTest, WhetherAPointIsStillServedIsTold) {
    config_.target.nbd.socket = top_ / "run/nbd.sock";
    start();
    ASSERT_TRUE(prepare());
    make_point();
    const auto serve = [&] {
        const auto value = run(api::command::target_serve, api::encode(api::ServeArgs{id, "a"}));
        return value ? api::decode<api::ServeValue>(*value)->serving : "";
    };
    const auto ask = [&](const std::string& name, const char* of = id) {
        return run(api::command::target_served, api::encode(api::ServedArgs{of, name}));
    };
    // Its id.
    const auto served = [&] {
        const auto value = ask("a");
        if (!value) return std::string(value.error().name());
        const auto told = api::decode<api::ServedPoint>(*value);
        return told->error ? told->error->code : told->serving;
    };
    EXPECT_EQ(served(), "E_POINT_NOT_SERVED");
    EXPECT_EQ(ask("a b").error().code, ErrorCode::invalid);
    EXPECT_EQ(ask("a", "5f0c1a52-93d4-4d1e-8a67-0b1c2d3e4f50").error().name(),
              "E_POINT_NOT_SERVED");
    const auto first = serve();
    EXPECT_FALSE(first.empty());
    EXPECT_EQ(served(), first);
    EXPECT_EQ(status()->served.at(0).serving, first);
    EXPECT_EQ(ask("b").error().name(), "E_POINT_NOT_SERVED");
    const auto second = serve();
    EXPECT_NE(second, first);
    EXPECT_EQ(served(), second);
    // A daemon that is started anew serves nothing, and never under an id that was there.
    role_.reset();
    start();
    EXPECT_TRUE(becomes(api::TargetState::waiting));
    EXPECT_EQ(served(), "E_POINT_NOT_SERVED");
    const auto third = serve();
    EXPECT_FALSE(third.empty() || third == first || third == second);
    EXPECT_EQ(served(), third);
    ASSERT_TRUE(failover());
    EXPECT_EQ(served(), "E_POINT_NOT_SERVED");
}

TEST_F(TargetRoleTest, APointIsOfACommonCut) {
    start();
    ASSERT_TRUE(prepare());
    const std::string cut = "5f0c1a52-93d4-4d1e-8a67-0b1c2d3e4f50";
    const auto mark = [&](std::uint64_t epoch, const std::string& of, std::int64_t time) {
        return run(api::command::target_common, api::encode(api::CommonArgs{id, epoch, of, time}));
    };
    EXPECT_EQ(mark(1, cut, 7).error().name(), "E_NO_POINT");
    make_point();
    EXPECT_EQ(mark(1, "none", 7).error().code, ErrorCode::invalid);
    EXPECT_FALSE(status()->newest_point->common);
    for (int i = 0; i < 2; ++i) {
        const auto value = mark(1, cut, 7);
        ASSERT_TRUE(value) << value.error().message;
        const auto common = api::decode<api::NameValue>(*value)->point.common;
        ASSERT_TRUE(common);
        EXPECT_EQ(common->cut, cut);
        EXPECT_EQ(common->time_ns, 7);
    }
    // Also for who asks later, after a restart, and while the machine is failed over.
    const auto shown = [&] {
        const auto value = run(api::command::target_points, {{"protection", id}});
        if (!value) return false;
        const auto listed = api::decode<api::PointsValue>(*value);
        const auto newest = status()->newest_point;
        return newest && newest->common && newest->common->cut == cut && listed &&
               listed->points.size() == 1 && listed->points[0].common &&
               listed->points[0].common->cut == cut;
    };
    EXPECT_TRUE(shown());
    role_.reset();
    start();
    EXPECT_TRUE(shown());
    ASSERT_TRUE(failover());
    EXPECT_TRUE(shown());
}

TEST_F(TargetRoleTest, DevicesAreNotAskedOnTheLoop) {
    std::atomic<unsigned> asked = 0;
    std::atomic<unsigned> on_the_loop = 0;
    host_.usage = [&, loop = std::this_thread::get_id()](const std::string&) {
        ++asked;
        if (std::this_thread::get_id() == loop) ++on_the_loop;
        return platform::VolumeUsage{100 << 20, 50 << 20, true};
    };
    was_prepared();
    start();
    EXPECT_TRUE(becomes(api::TargetState::waiting));
    ASSERT_TRUE(run(api::command::target_rescan, api::Json::object()));
    auto all = args();
    all.retention = retention();
    ASSERT_TRUE(run(api::command::target_check, api::encode(all)));
    EXPECT_GT(asked, 3U);
    EXPECT_EQ(on_the_loop, 0U);
}

}  // namespace
}  // namespace ebb::service
