// SPDX-License-Identifier: Apache-2.0
// The server with clients that others have written: nbdinfo, nbdcopy, qemu-img.
#include "platform/nbd_server.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;
constexpr Duration patience = std::chrono::seconds(120);
// More than is read for one client at once.
constexpr std::uint64_t size = (40 << 20) + 512;

class NbdServerTest : public testing::Test {
protected:
    NbdServerTest() {
        std::string pattern = (fs::temp_directory_path() / "ebb-nbd-XXXXXX").string();
        top_ = ::mkdtemp(pattern.data());
        for (std::size_t i = 0; i < content_.size(); ++i)
            content_[i] = static_cast<std::byte>((i * 7 + i / 512 * 13) % 251);
        server_ = std::make_unique<NbdServer>(
            loop_, NbdHandlers{[this] { return exports_; },
                               [this](const std::string& name, std::uint64_t offset,
                                      std::shared_ptr<Buffer> into, env::StatusCallback done) {
                                   read(name, offset, std::move(into), std::move(done));
                               }});
    }
    ~NbdServerTest() override {
        server_.reset();
        fs::remove_all(top_);
    }
    void read(const std::string& name, std::uint64_t offset, std::shared_ptr<Buffer> into,
              env::StatusCallback done) {
        EXPECT_EQ(name, "shop/a/0");
        ++reads_;
        clock_.schedule(delay_, [this, offset, into, done = std::move(done)]() mutable {
            if (failing_) return done(fail(*failing_, "made to fail"));
            std::memcpy(into->data(), content_.data() + offset, into->size());
            done({});
        });
    }
    // The exit status of a client, while the server serves.
    int client(const std::string& command) {
        std::optional<int> status;
        std::thread runs([&] {
            const int code = std::system((command + " >" + file("said") + " 2>&1").c_str());
            loop_.post([&status, code] { status = code; });
        });
        (void)loop_.run_until([&] { return status.has_value(); }, patience);
        runs.join();
        return status ? WEXITSTATUS(*status) : -1;
    }
    std::string said() const {
        std::ifstream in(file("said"));
        return {std::istreambuf_iterator<char>(in), {}};
    }
    std::string file(const std::string& name) const { return top_ / name; }
    std::string uri(const std::string& name) const {
        return "'nbd+unix:///" + name + "?socket=" + file("sock") + "'";
    }
    bool same(const std::string& name) const {
        std::ifstream in(file(name), std::ios::binary);
        const std::vector<char> all(std::istreambuf_iterator<char>(in), {});
        return all.size() == content_.size() &&
               std::memcmp(all.data(), content_.data(), all.size()) == 0;
    }

    EventLoop loop_;
    fs::path top_;
    std::vector<std::byte> content_ = std::vector<std::byte>(size);
    std::vector<format::NbdExport> exports_{{"shop/a/0", size}};
    std::optional<ErrorCode> failing_;
    std::size_t reads_ = 0;
    LoopClock clock_{loop_};
    Duration delay_{0};
    std::unique_ptr<NbdServer> server_;
};

TEST_F(NbdServerTest, ClientsOfOthersReadItAll) {
    ASSERT_TRUE(server_->listen_unix(file("sock")));
    EXPECT_EQ(fs::status(file("sock")).permissions() & fs::perms::all,
              fs::perms::owner_read | fs::perms::owner_write);
    EXPECT_EQ(client("nbdinfo --list " + uri("")), 0) << said();
    EXPECT_NE(said().find("shop/a/0"), std::string::npos) << said();
    EXPECT_NE(said().find("is_read_only: true"), std::string::npos) << said();
    ASSERT_EQ(client("nbdcopy " + uri("shop/a/0") + " " + file("copy")), 0) << said();
    EXPECT_TRUE(same("copy"));
    ASSERT_EQ(client("qemu-img convert -O raw " + uri("shop/a/0") + " " + file("converted")), 0)
        << said();
    EXPECT_TRUE(same("converted"));
    EXPECT_NE(client("nbdinfo " + uri("shop/b/0")), 0);
    EXPECT_EQ(server_->clients("shop/a/0"), 0U);
}

// Nothing is sent or received while as much is read for a client as may be.
TEST_F(NbdServerTest, SlowReadsEndNoConnection) {
    delay_ = std::chrono::milliseconds(50);
    ASSERT_TRUE(server_->listen_unix(file("sock")));
    ASSERT_EQ(client("nbdcopy " + uri("shop/a/0") + " " + file("copy")), 0) << said();
    EXPECT_TRUE(same("copy"));
}

TEST_F(NbdServerTest, NobodyWrites) {
    ASSERT_TRUE(server_->listen_unix(file("sock")));
    EXPECT_NE(client("qemu-io -f raw -c 'write 0 4096' " + uri("shop/a/0")), 0) << said();
    EXPECT_EQ(client("qemu-io -r -f raw -c 'read 1 3' " + uri("shop/a/0")), 0) << said();
    EXPECT_GT(reads_, 0U);
}

TEST_F(NbdServerTest, OnTcpWhereItIsAskedFor) {
    ASSERT_TRUE(server_->listen_tcp("127.0.0.1", 0));
    ASSERT_EQ(client("nbdcopy nbd://127.0.0.1:" + std::to_string(server_->port()) + "/shop/a/0 " +
                     file("copy")),
              0)
        << said();
    EXPECT_TRUE(same("copy"));
    EXPECT_EQ(server_->listen_tcp("nonsense", 1).error().code, ErrorCode::invalid);
}

TEST_F(NbdServerTest, WhatCannotBeReadIsAnErrorAndNoContent) {
    ASSERT_TRUE(server_->listen_unix(file("sock")));
    for (const auto code : {ErrorCode::io, ErrorCode::stale}) {
        failing_ = code;
        EXPECT_NE(client("nbdcopy " + uri("shop/a/0") + " " + file("copy")), 0);
    }
    failing_.reset();
    EXPECT_EQ(client("nbdcopy " + uri("shop/a/0") + " " + file("copy")), 0) << said();
}

TEST_F(NbdServerTest, ASocketOfOneThatWasKilledIsTakenOver) {
    ASSERT_TRUE(server_->listen_unix(file("sock")));
    NbdServer other(loop_, {});
    EXPECT_EQ(other.listen_unix(file("sock")).error().code, ErrorCode::busy);
    fs::rename(file("sock"), file("old"));
    server_.reset();
    fs::rename(file("old"), file("sock"));
    EXPECT_TRUE(other.listen_unix(file("sock")));
}

TEST_F(NbdServerTest, ClientsAreSentAway) {
    ASSERT_TRUE(server_->listen_unix(file("sock")));
    boost::asio::io_context context;
    boost::asio::local::stream_protocol::socket client(context);
    client.connect(boost::asio::local::stream_protocol::endpoint(file("sock")));
    // Flags; then NBD_OPT_GO.
    const std::string words("\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\16\0\0\0\10shop/a/0\0\0", 34);
    boost::asio::write(client, boost::asio::buffer(words));
    ASSERT_TRUE(loop_.run_until([&] { return server_->clients("shop/a/0") == 1; }, patience));
    server_->drop("shop/a/0");
    std::array<char, 4096> rest{};
    boost::system::error_code error;
    while (!error) client.read_some(boost::asio::buffer(rest), error);
    EXPECT_EQ(error, boost::asio::error::eof);
    (void)loop_.run_until([&] { return server_->clients("shop/a/0") == 0; }, patience);
    EXPECT_EQ(server_->clients("shop/a/0"), 0U);
}

}  // namespace
}  // namespace ebb::platform
