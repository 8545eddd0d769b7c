// SPDX-License-Identifier: Apache-2.0
// The HTTP server against clients that mean well, and those that do not.
#include "platform/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "platform/file_descriptor.h"
#include "platform/file_store.h"
#include "platform/pki.h"

namespace ebb::platform {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::milliseconds;

constexpr milliseconds patience{60'000};
// So short that whoever is silent lets it pass.
constexpr milliseconds instant{50};

class Http : public testing::Test {
protected:
    Http() {
        std::string pattern = "/tmp/ebb-http-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        authority_ = *make_authority("test");
        write("ca.pem", authority_.certificate);
        server_serial_ = make("server");
        client_serial_ = make("client");
    }
    ~Http() override {
        server_.reset();
        fs::remove_all(top_);
    }

    void write(const std::string& name, const std::string& text) {
        ASSERT_TRUE(replace_file(top_ / name, text, private_mode));
    }

    std::string make(const std::string& name) {
        const auto request = *make_request(name);
        const auto made = *sign_request(authority_, request.request, name);
        write(name + ".key", request.key);
        write(name + ".pem", made.certificate_pem);
        return made.serial_hex;
    }

    [[nodiscard]] TlsIdentity identity(const std::string& name) const {
        return {top_ / "ca.pem", top_ / (name + ".pem"), top_ / (name + ".key")};
    }

    void serve(const HttpLimits& limits) {
        const auto tls = make_tls_context(identity("server"), TlsSide::server, false, revoked_);
        ASSERT_TRUE(tls);
        auto server = HttpServer::listen_tls(
            *tls, "127.0.0.1", 0,
            [](const HttpRequest& r) { return HttpResponse{200, r.peer + " " + r.serial}; },
            limits);
        ASSERT_TRUE(server);
        server_ = std::move(*server);
    }

    [[nodiscard]] HttpClient client() const {
        return {*make_tls_context(identity("client"), TlsSide::client), "127.0.0.1",
                server_->port(), "server"};
    }

    // Says nothing.
    [[nodiscard]] FileDescriptor silent() const {
        FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in place{};
        place.sin_family = AF_INET;
        place.sin_port = htons(server_->port());
        place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof(place)),
                  0);
        return socket;
    }

    // Waits until the server has ended it.
    static void expect_end(const FileDescriptor& socket) {
        char byte = 0;
        EXPECT_LE(::recv(socket.get(), &byte, 1, 0), 0);
    }

    fs::path top_;
    KeyAndCertificate authority_;
    std::string server_serial_, client_serial_;
    std::shared_ptr<RevokedCertificates> revoked_ = std::make_shared<RevokedCertificates>();
    std::unique_ptr<HttpServer> server_;
};

TEST_F(Http, TellsWhoAsks) {
    serve({});
    auto http = client();
    for (int i = 0; i < 3; ++i) {
        const auto answer = http.post("/", "{}", patience);
        ASSERT_TRUE(answer) << answer.error().message;
        EXPECT_EQ(answer->body, "client " + client_serial_);
    }
}

TEST_F(Http, StrangersMakePlaceForStrangersAlone) {
    serve({.first = hours(1), .next = hours(1), .answer = hours(1), .strangers = 8});
    auto known = client();
    ASSERT_TRUE(known.post("/", "{}", patience));
    std::vector<FileDescriptor> strangers;
    for (int i = 0; i < 30; ++i) strangers.push_back(silent());
    auto late = client();
    const auto answer = late.post("/", "{}", patience);
    ASSERT_TRUE(answer) << answer.error().message;
    // The oldest have gone; who has shown a certificate has not, on the connection it has.
    for (int i = 0; i < 20; ++i) expect_end(strangers[static_cast<std::size_t>(i)]);
    const auto seen = known.authority_seen();
    EXPECT_FALSE(seen.empty());
    EXPECT_TRUE(known.post("/", "{}", patience));
}

TEST_F(Http, NoMoreThanTheLimitAreServed) {
    serve({.first = hours(1), .next = hours(1), .answer = hours(1), .strangers = 8, .clients = 2});
    auto one = client();
    auto two = client();
    ASSERT_TRUE(one.post("/", "{}", patience));
    ASSERT_TRUE(two.post("/", "{}", patience));
    auto three = client();
    EXPECT_FALSE(three.post("/", "{}", patience));
    EXPECT_TRUE(one.post("/", "{}", patience));
}

TEST_F(Http, WhoDoesNotGreetIsEnded) {
    serve({.first = instant});
    expect_end(silent());
}

TEST_F(Http, WhoAsksNothingMoreIsEnded) {
    const std::string path = top_ / "socket";
    const auto server =
        HttpServer::listen_unix(path, [](const HttpRequest&) { return HttpResponse{200, "done"}; },
                                {.first = hours(1), .next = instant});
    ASSERT_TRUE(server);
    const FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un place{};
    place.sun_family = AF_UNIX;
    path.copy(place.sun_path, sizeof(place.sun_path) - 1);
    ASSERT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&place), sizeof(place)), 0);
    const std::string request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    ASSERT_EQ(::send(socket.get(), request.data(), request.size(), 0),
              static_cast<ssize_t>(request.size()));
    std::string answer;
    char data[512];
    for (;;) {
        const auto n = ::recv(socket.get(), data, sizeof(data), 0);
        if (n <= 0) break;
        answer.append(data, static_cast<std::size_t>(n));
    }
    EXPECT_TRUE(answer.ends_with("done")) << answer;
}

TEST_F(Http, RevokedCertificatesAreRefused) {
    serve({});
    EXPECT_TRUE(revoked_->replace({client_serial_}));
    EXPECT_FALSE(revoked_->replace({client_serial_}));
    auto http = client();
    const auto answer = http.post("/", "{}", patience);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().name(), "E_REVOKED");
    EXPECT_FALSE(revoked_->replace({}));
    auto again = client();
    EXPECT_TRUE(again.post("/", "{}", patience));
}

TEST_F(Http, AClientRefusesARevokedServer) {
    serve({});
    auto list = std::make_shared<RevokedCertificates>();
    (void)list->replace({server_serial_});
    HttpClient http(*make_tls_context(identity("client"), TlsSide::client, true, list), "127.0.0.1",
                    server_->port(), "server");
    const auto answer = http.post("/", "{}", patience);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::denied);
}

}  // namespace
}  // namespace ebb::platform
