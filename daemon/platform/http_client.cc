// SPDX-License-Identifier: Apache-2.0
#include <openssl/pem.h>
#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "platform/http.h"

namespace ebb::platform {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

class HttpClient::Impl {
public:
    Impl(TlsContext tls, std::string host, std::uint16_t port, std::string name)
        : tls_(std::move(tls)),
          host_(std::move(host)),
          port_(std::to_string(port)),
          name_(std::move(name)) {}

    Result<HttpResponse> post(const std::string& target, const std::string& body,
                              std::chrono::milliseconds patience) {
        deadline_ = std::chrono::steady_clock::now() + patience;
        const bool reused = stream_ != nullptr;
        auto answer = try_post(target, body);
        // The server may have ended an idle connection meanwhile: once more on a new one.
        if (!answer && reused && answer.error().code == ErrorCode::closed)
            answer = try_post(target, body);
        return answer;
    }

    Status connect(std::chrono::milliseconds patience) {
        deadline_ = std::chrono::steady_clock::now() + patience;
        return connect();
    }

    void interrupt() {
        interrupted_ = true;
        context_.stop();
    }

    std::string authority_seen() const {
        if (!stream_) return {};
        const STACK_OF(X509)* chain = SSL_get_peer_cert_chain(stream_->native_handle());
        const int count = chain == nullptr ? 0 : sk_X509_num(chain);
        if (count == 0) return {};
        const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
        PEM_write_bio_X509(bio.get(), sk_X509_value(chain, count - 1));
        char* data = nullptr;
        const long size = BIO_get_mem_data(bio.get(), &data);
        return {data, static_cast<std::size_t>(size)};
    }

private:
    using Stream = asio::ssl::stream<tcp::socket>;

    // Runs one asynchronous operation to its end, the deadline, or an interruption.
    template <class Begin>
    Status run(const std::string& what, Begin begin) {
        boost::system::error_code outcome = asio::error::would_block;
        begin([&outcome](const boost::system::error_code& code, auto&&...) { outcome = code; });
        context_.restart();
        if (!interrupted_) {
            while (outcome == asio::error::would_block && context_.run_one_until(deadline_) > 0) {
            }
        }
        if (!outcome) return {};
        const bool pending = outcome == asio::error::would_block;
        abandon();
        if (interrupted_) return fail(ErrorCode::cancelled, "interrupted");
        if (pending) return fail(ErrorCode::timeout, what + " takes too long");
        if (outcome.category() == asio::error::get_ssl_category())
            return tls_failure(what, outcome);
        return fail(ErrorCode::closed, what + ": " + outcome.message());
    }

    // With TLS 1.3 the server's word on our certificate comes with its first answer.
    static Status tls_failure(const std::string& what, const boost::system::error_code& outcome) {
        const int reason = ERR_GET_REASON(static_cast<unsigned long>(outcome.value()));
        const std::string sentence = what + ": " + outcome.message();
        if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
            return fail("E_CERTIFICATE", ErrorCode::denied, sentence,
                        "The other end's certificate is expired or another authority's: see the "
                        "clocks of both, and whether this is the machine it should be");
        }
        if (reason == SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED) {
            return fail("E_REVOKED", ErrorCode::denied, sentence,
                        "Join this machine anew: ebbctl token create");
        }
        if (reason > SSL_AD_REASON_OFFSET) {
            return fail("E_CERTIFICATE", ErrorCode::denied, sentence,
                        "The other end refuses this machine's certificate, as expired or another "
                        "authority's: see the clocks of both, or join this machine anew");
        }
        return fail(ErrorCode::closed, sentence);
    }

    // Nothing of an operation may outlive the frame that it refers to.
    void abandon() {
        if (!stream_) return;
        boost::system::error_code ignored;
        stream_->next_layer().close(ignored);
        context_.restart();
        context_.poll();
        stream_.reset();
    }

    Status connect() {
        if (stream_) return {};
        const std::string place = host_ + ":" + port_;
        tcp::resolver resolver(context_);
        boost::system::error_code error;
        const auto places = resolver.resolve(host_, port_, error);
        if (error) return fail(ErrorCode::closed, "resolving " + place + ": " + error.message());
        stream_ = std::make_unique<Stream>(context_, *tls_);
        auto ok = run("connecting to " + place, [&](auto done) {
            asio::async_connect(stream_->next_layer(), places,
                                [done](const auto& code, const auto&) mutable { done(code); });
        });
        if (!ok) return ok;
        ok = run("TLS with " + place, [&](auto done) {
            stream_->async_handshake(asio::ssl::stream_base::client, done);
        });
        if (!ok) return ok;
        const auto peer = peer_name(stream_->native_handle());
        if (name_.empty() || peer == name_) return {};
        abandon();
        return fail(ErrorCode::denied, place + " is " + peer + ", expected " + name_);
    }

    Result<HttpResponse> try_post(const std::string& target, const std::string& body) {
        if (auto ok = connect(); !ok) return std::unexpected(ok.error());
        http::request<http::string_body> request{http::verb::post, target, 11};
        request.set(http::field::host, host_);
        request.set(http::field::content_type, "application/json");
        request.body() = body;
        request.prepare_payload();
        auto ok = run("sending to " + host_,
                      [&](auto done) { http::async_write(*stream_, request, done); });
        if (!ok) return std::unexpected(ok.error());
        beast::flat_buffer buffer;
        http::response_parser<http::string_body> parser;
        parser.body_limit(http_body_limit);
        // The head by itself first: see http_read().
        ok = run("the answer of " + host_,
                 [&](auto done) { http::async_read_header(*stream_, buffer, parser, done); });
        if (!ok) return std::unexpected(ok.error());
        ok = run("the answer of " + host_,
                 [&](auto done) { http::async_read(*stream_, buffer, parser, done); });
        if (!ok) return std::unexpected(ok.error());
        HttpResponse response{parser.get().result_int(), std::move(parser.get().body())};
        if (!parser.get().keep_alive()) abandon();
        return response;
    }

    asio::io_context context_{1};
    TlsContext tls_;
    std::string host_, port_, name_;
    std::unique_ptr<Stream> stream_;
    std::chrono::steady_clock::time_point deadline_;
    std::atomic<bool> interrupted_ = false;
};

HttpClient::HttpClient(TlsContext context, std::string host, std::uint16_t port, std::string name)
    : impl_(std::make_unique<Impl>(std::move(context), std::move(host), port, std::move(name))) {}

HttpClient::~HttpClient() = default;

Result<HttpResponse> HttpClient::post(const std::string& target, const std::string& body,
                                      std::chrono::milliseconds patience) {
    return impl_->post(target, body, patience);
}

Status HttpClient::connect(std::chrono::milliseconds patience) {
    return impl_->connect(patience);
}

void HttpClient::interrupt() {
    impl_->interrupt();
}

std::string HttpClient::authority_seen() const {
    return impl_->authority_seen();
}

}  // namespace ebb::platform
