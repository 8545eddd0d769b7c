// SPDX-License-Identifier: Apache-2.0
// Both ends of HTTP: a server's connection with whatever a client sends, the two clients with
// whatever a server answers.
#include <boost/beast/_experimental/test/stream.hpp>
#include <string_view>

#include "api/agent.h"
#include "api/error.h"
#include "ctl/connection.h"
#include "platform/http_session.h"

namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

ebb::platform::HttpResponse answer(const ebb::platform::HttpRequest& request) {
    const auto exchange = ebb::api::decode_text<ebb::api::ExchangeRequest>(request.body);
    return {exchange ? 200U : 400U, request.target};
}

class AnyPace final : public ebb::platform::HttpPace {
    void awaits_request(bool /*first*/) override {}
    void handles() override {}
    void answers() override {}
};

void serve(std::string_view text) {
    boost::asio::io_context context{1};
    beast::test::stream server(context);
    beast::test::stream client(context);
    server.connect(client);
    server.append({text.data(), text.size()});
    client.close();
    const std::atomic<bool> stopping = false;
    AnyPace pace;
    ebb::platform::http_serve(server, {"peer", "1"}, stopping, answer, pace);
}

void take_response(std::string_view text) {
    boost::asio::io_context context{1};
    beast::test::stream client(context);
    beast::test::stream server(context);
    client.connect(server);
    client.append({text.data(), text.size()});
    server.close();
    boost::system::error_code error;
    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(ebb::platform::http_body_limit);
    ebb::platform::http_read(client, buffer, parser, error);
    if (error) return;
    static_cast<void>(ebb::api::take_answer(parser.get().result_int(), parser.get().body()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    serve(text);
    take_response(text);
    static_cast<void>(ebb::ctl::parse_response(text));
    return 0;
}
