// SPDX-License-Identifier: Apache-2.0
// The HTTP client against a server that answers what it likes.
#include <gtest/gtest.h>

#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "platform/file_store.h"
#include "platform/http.h"
#include "platform/pki.h"

namespace ebb::platform {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using asio::ip::tcp;

constexpr std::chrono::milliseconds patience{60'000};

class HttpAnswer : public testing::Test {
protected:
    HttpAnswer() {
        std::string pattern = "/tmp/ebb-http-XXXXXX";
        top_ = ::mkdtemp(pattern.data());
        const auto authority = *make_authority("test");
        write("ca.pem", authority.certificate);
        for (const std::string name : {"server", "client"}) {
            const auto request = *make_request(name);
            write(name + ".key", request.key);
            write(name + ".pem", sign_request(authority, request.request, name)->certificate_pem);
        }
    }
    ~HttpAnswer() override { fs::remove_all(top_); }

    void write(const std::string& name, const std::string& text) {
        ASSERT_TRUE(replace_file(top_ / name, text, private_mode));
    }

    [[nodiscard]] TlsContext context(const std::string& name, TlsSide side) const {
        return *make_tls_context({top_ / "ca.pem", top_ / (name + ".pem"), top_ / (name + ".key")},
                                 side);
    }

    // What the client makes of `bytes`, sent when it has asked and followed by the end.
    [[nodiscard]] Result<HttpResponse> take(const std::string& bytes) const {
        asio::io_context io{1};
        tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
        std::thread server([&] {
            const auto tls = context("server", TlsSide::server);
            asio::ssl::stream<tcp::socket> stream(acceptor.accept(), *tls);
            stream.handshake(asio::ssl::stream_base::server);
            std::string request;
            asio::read_until(stream, asio::dynamic_buffer(request), "{}");
            asio::write(stream, asio::buffer(bytes));
        });
        HttpClient client(context("client", TlsSide::client), "127.0.0.1",
                          acceptor.local_endpoint().port(), "server");
        auto answer = client.post("/", "{}", patience);
        server.join();
        return answer;
    }

    fs::path top_;
};

TEST_F(HttpAnswer, IsTaken) {
    const auto answer = take("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n[]");
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status, 409U);
    EXPECT_EQ(answer->body, "[]");
}

TEST_F(HttpAnswer, WithoutABodyIsTaken) {
    const auto answer = take("HTTP/1.1 204 No Content\r\n\r\n");
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "");
}

TEST_F(HttpAnswer, OfAnySizeTakesNoMemory) {
    EXPECT_FALSE(take("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{\"commands\":[]}"));
}

TEST_F(HttpAnswer, ThatIsNoHttpIsRefused) {
    EXPECT_FALSE(take("220 mail.example\r\n\r\n"));
}

}  // namespace
}  // namespace ebb::platform
