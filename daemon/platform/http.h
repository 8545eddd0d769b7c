// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 with bodies of JSON: a client over TLS, servers over TLS and on a Unix socket.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "platform/tls.h"

namespace ebb::platform {

inline constexpr std::size_t http_body_limit = 16 << 20;

struct HttpRequest {
    std::string method;
    std::string target;
    std::string body;
    std::string peer;    // common name of the client's certificate; empty: none
    std::string serial;  // of that certificate
};

struct HttpResponse {
    unsigned status = 200;
    std::string body;
};

// One connection, kept open between calls and made anew when it has ended. Blocking; one thread
// at a time, but for interrupt().
class HttpClient {
public:
    // `name`: common name that the server must have; empty: the caller checks certificate().
    HttpClient(TlsContext context, std::string host, std::uint16_t port, std::string name);
    ~HttpClient();

    // E_CLOSED, E_TIMEOUT, E_DENIED. Any status of the answer is a success here.
    Result<HttpResponse> post(const std::string& target, const std::string& body,
                              std::chrono::milliseconds patience);
    // Connects now; authority_seen() is known afterwards.
    Status connect(std::chrono::milliseconds patience);
    // Makes a call under way, or the next one, end with E_CANCELLED. Any thread.
    void interrupt();
    // PEM of the chain's last certificate as the server sent it; empty: not connected.
    [[nodiscard]] std::string authority_seen() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

// How much a server bears with. Who has shown no certificate is a stranger: when there are too many
// of them, the one that has been here longest without asking for anything makes place for the next.
struct HttpLimits {
    std::chrono::milliseconds first{15'000};  // to greet (TLS), and again to send the first request
    std::chrono::milliseconds next{60'000};   // until a further request has come whole
    std::chrono::milliseconds answer{60'000};  // for the client to take an answer
    std::size_t strangers = 256;
    std::size_t clients = 1024;  // strangers included
};

// Serves each connection on a thread of its own; a handler may block.
class HttpServer {
public:
    using Handler = std::function<HttpResponse(const HttpRequest&)>;

    static Result<std::unique_ptr<HttpServer>> listen_tls(TlsContext context,
                                                          const std::string& address,
                                                          std::uint16_t port, Handler handler,
                                                          const HttpLimits& limits = {});
    // The socket is made with mode 0600; one that nobody listens on any more is replaced.
    static Result<std::unique_ptr<HttpServer>> listen_unix(const std::string& path, Handler handler,
                                                           const HttpLimits& limits = {});
    // Ends all connections and waits for the handlers under way.
    ~HttpServer();
    [[nodiscard]] std::uint16_t port() const;

private:
    class Impl;
    explicit HttpServer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ebb::platform
