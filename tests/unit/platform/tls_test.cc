// SPDX-License-Identifier: Apache-2.0
// Connections over real sockets on the loopback interface.
#include "platform/tls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "format/message.h"
#include "platform/pki.h"

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;

constexpr Duration patience = std::chrono::seconds(60);

class Tls : public testing::Test {
protected:
    Tls() {
        std::string pattern = "/tmp/ebb-tls-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        auto authority = make_authority("test");
        authority_ = *authority;
        std::ofstream(top_ / "ca.pem") << authority_.certificate;
        auto handler = [this](std::shared_ptr<env::Connection> connection) {
            server_ = std::move(connection);
        };
        acceptor_ = std::move(
            *TlsAcceptor::open(loop_, context("target", TlsSide::server), "127.0.0.1", 0, handler));
        connector_ = std::make_unique<TlsConnector>(loop_, context("source", TlsSide::client),
                                                    "127.0.0.1", acceptor_->port(), "target");
        connector_->connect([this](Result<std::shared_ptr<env::Connection>> result) {
            if (result) client_ = std::move(*result);
        });
        (void)loop_.run_until([this] { return client_ && server_; }, patience);
    }
    ~Tls() override { fs::remove_all(top_); }

    TlsContext context(const std::string& name, TlsSide side) {
        auto request = make_request(name);
        auto certificate = sign_request(authority_, request->request, name);
        std::ofstream(top_ / (name + ".key")) << request->key;
        std::ofstream(top_ / (name + ".pem")) << certificate->certificate_pem;
        return *make_tls_context({(top_ / "ca.pem").string(), (top_ / (name + ".pem")).string(),
                                  (top_ / (name + ".key")).string()},
                                 side);
    }

    static env::Frame frame(std::uint64_t sequence, std::size_t payload) {
        env::Frame made(format::frame_header_bytes + payload);
        format::seal_frame(made, format::FrameType::extent, sequence);
        return made;
    }

    fs::path top_;
    KeyAndCertificate authority_;
    EventLoop loop_;
    std::unique_ptr<TlsAcceptor> acceptor_;
    std::unique_ptr<TlsConnector> connector_;
    std::shared_ptr<env::Connection> client_, server_;
};

TEST_F(Tls, WhatWasQueuedBeforeCloseArrives) {
    ASSERT_TRUE(client_ && server_);
    constexpr std::uint64_t frames = 12;
    std::uint64_t received = 0;
    bool client_closed = false, server_closed = false;
    client_->start([&](const env::Frame&) { ++received; },
                   [&](const Error&) { client_closed = true; });
    // The server reads nothing of what the client sends meanwhile.
    server_->start([](const env::Frame&) {}, [&](const Error&) { server_closed = true; });
    server_->pause();
    for (std::uint64_t i = 0; i < 4; ++i) client_->send(frame(i, 1 << 20));
    for (std::uint64_t i = 0; i < frames; ++i) server_->send(frame(i, 1 << 20));
    server_->close();
    server_->send(frame(frames, 1));
    EXPECT_FALSE(server_closed);  // never from inside the call
    ASSERT_TRUE(loop_.run_until([&] { return client_closed && server_closed; }, patience));
    EXPECT_EQ(received, frames);
}

TEST_F(Tls, ClosedBothWaysAtOnce) {
    ASSERT_TRUE(client_ && server_);
    int closed = 0;
    client_->start([](const env::Frame&) {}, [&](const Error&) { ++closed; });
    server_->start([](const env::Frame&) {}, [&](const Error&) { ++closed; });
    client_->close();
    server_->close();
    client_->close();
    ASSERT_TRUE(loop_.run_until([&] { return closed == 2; }, patience));
    // Nothing is left that holds them.
    std::weak_ptr<env::Connection> client = client_, server = server_;
    client_.reset();
    server_.reset();
    EXPECT_TRUE(loop_.run_until([&] { return client.expired() && server.expired(); }, patience));
}

TEST_F(Tls, AFrameHandlerMayClose) {
    ASSERT_TRUE(client_ && server_);
    int frames = 0;
    bool closed = false;
    server_->start(
        [&](const env::Frame&) {
            ++frames;
            server_->close();
        },
        [](const Error&) {});
    client_->start([](const env::Frame&) {}, [&](const Error&) { closed = true; });
    for (std::uint64_t i = 0; i < 3; ++i) client_->send(frame(i, 100));
    ASSERT_TRUE(loop_.run_until([&] { return closed; }, patience));
    EXPECT_EQ(frames, 1);
}

// No descriptor can be had while it lives, but those that were left.
class NoDescriptors {
public:
    NoDescriptors() {
        (void)::getrlimit(RLIMIT_NOFILE, &before_);
        const int next = ::dup(STDERR_FILENO);
        (void)::close(next);
        auto limit = before_;
        limit.rlim_cur = static_cast<rlim_t>(next);
        (void)::setrlimit(RLIMIT_NOFILE, &limit);
    }
    ~NoDescriptors() { (void)::setrlimit(RLIMIT_NOFILE, &before_); }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;

private:
    rlimit before_{};
};

TEST_F(Tls, OutOfDescriptorsItWaitsAndDoesNotSpin) {
    ASSERT_TRUE(client_ && server_);
    const int waiting = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_GE(waiting, 0);
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_port = htons(acceptor_->port());
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    {
        const NoDescriptors none;
        ASSERT_EQ(::connect(waiting, reinterpret_cast<sockaddr*>(&place), sizeof(place)), 0);
        // What is ready runs out at some time.
        int ran = 0;
        while (ran < 1000 && loop_.context().poll_one() != 0) ++ran;
        EXPECT_LT(ran, 1000);
    }
    (void)::close(waiting);
    server_.reset();
    connector_->connect([](const auto&) {});
    EXPECT_TRUE(loop_.run_until([&] { return server_ != nullptr; }, patience));
}

}  // namespace
}  // namespace ebb::platform
