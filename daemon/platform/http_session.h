// SPDX-License-Identifier: Apache-2.0
// One connection of an HTTP server, over any stream: the same for TLS, Unix sockets and tests.
#pragma once

#include <atomic>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <string>

#include "platform/http.h"

namespace ebb::platform {

// Told what a connection waits for, by whoever counts its time.
class HttpPace {
public:
    virtual ~HttpPace() = default;
    virtual void awaits_request(bool first) = 0;
    virtual void handles() = 0;
    virtual void answers() = 0;
};

// Who is at the other end, by its certificate.
struct HttpPeer {
    std::string name;
    std::string serial;
};

// A whole message, the head by itself first: read in one go, a body over the parser's limit is
// noticed by Beast 1.74 and then forgotten, and memory is reserved for all of it.
template <class Stream, class Buffer, class Parser>
void http_read(Stream& stream, Buffer& buffer, Parser& parser, boost::system::error_code& error) {
    boost::beast::http::read_header(stream, buffer, parser, error);
    if (!error) boost::beast::http::read(stream, buffer, parser, error);
}

// Answers request after request until the client or `stopping` ends it, or it sends no HTTP.
template <class Stream>
void http_serve(Stream& stream, const HttpPeer& peer, const std::atomic<bool>& stopping,
                const HttpServer::Handler& handler, HttpPace& pace) {
    namespace http = boost::beast::http;
    boost::beast::flat_buffer buffer;
    for (bool first = true; !stopping; first = false) {
        boost::system::error_code error;
        http::request_parser<http::string_body> parser;
        parser.body_limit(http_body_limit);
        pace.awaits_request(first);
        http_read(stream, buffer, parser, error);
        if (error) return;
        pace.handles();
        auto& message = parser.get();
        const auto answer =
            handler({std::string(message.method_string()), std::string(message.target()),
                     std::move(message.body()), peer.name, peer.serial});
        http::response<http::string_body> response{static_cast<http::status>(answer.status),
                                                   message.version()};
        response.set(http::field::content_type, "application/json");
        response.keep_alive(message.keep_alive());
        response.body() = answer.body;
        response.prepare_payload();
        pace.answers();
        http::write(stream, response, error);
        if (error || !message.keep_alive()) return;
    }
}

}  // namespace ebb::platform
