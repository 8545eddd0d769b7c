// SPDX-License-Identifier: Apache-2.0
#include "platform/tls.h"

#include <openssl/bn.h>
#include <openssl/x509.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <deque>

#include "format/frame.h"

namespace ebb::platform {

namespace asio = boost::asio;
using asio::ip::tcp;
using Stream = asio::ssl::stream<tcp::socket>;

namespace {

constexpr auto handshake_limit = std::chrono::seconds(15);
constexpr auto accept_pause = std::chrono::milliseconds(100);
// For what is queued when a connection is closed to go out, and for the peer to take it.
constexpr auto linger_limit = std::chrono::seconds(3);
constexpr std::size_t read_bytes = 256 << 10;
// Frames are gathered up to this before they are encrypted and sent as one.
constexpr std::size_t write_bytes = 1 << 20;

Error network_error(const boost::system::error_code& code, const std::string& what) {
    return Error{ErrorCode::closed, what + ": " + code.message(), {}, {}};
}

class TlsConnection final : public env::Connection,
                            public std::enable_shared_from_this<TlsConnection> {
public:
    TlsConnection(EventLoop& loop, TlsContext context)
        : loop_(loop),
          context_(std::move(context)),
          stream_(loop.context(), *context_),
          linger_(loop.context()) {}

    Stream& stream() { return stream_; }
    tcp::socket& socket() { return stream_.next_layer(); }
    void established() {
        peer_ = peer_name(stream_.native_handle());
        boost::system::error_code ignored;
        socket().set_option(tcp::no_delay(true), ignored);
        socket().set_option(asio::socket_base::keep_alive(true), ignored);
    }

    [[nodiscard]] std::string peer() const override { return peer_; }
    [[nodiscard]] std::size_t unsent() const override { return unsent_; }
    void on_drained(std::move_only_function<void()> drained) override {
        drained_ = std::move(drained);
    }

    void send(env::Frame frame) override {
        if (ended_ || closing_) return;
        unsent_ += frame.size();
        queue_.push_back(std::move(frame));
        if (writing_.empty()) {
            // Not from inside the call: further frames may follow at once.
            if (!write_scheduled_)
                loop_.post([self = shared_from_this()] {
                    self->write_scheduled_ = false;
                    self->write();
                });
            write_scheduled_ = true;
        }
    }

    void start(std::move_only_function<void(env::Frame)> frame,
               std::move_only_function<void(Error)> closed) override {
        frame_ = std::move(frame);
        closed_ = std::move(closed);
        loop_.post([self = shared_from_this()] { self->deliver(); });
    }

    void pause() override { paused_ = true; }
    void resume() override {
        if (!paused_) return;
        paused_ = false;
        loop_.post([self = shared_from_this()] { self->deliver(); });
    }

    // The word of a refusal is in the queue as often as not. Closing at once would drop it, and so
    // would leaving unread what the peer has sent: the kernel answers that with a reset.
    void close() override {
        if (ended_ || closing_) return;
        closing_ = true;
        error_ = Error{ErrorCode::closed, "the connection was closed on this side", {}, {}};
        linger_.expires_after(linger_limit);
        linger_.async_wait([self = shared_from_this()](const auto& code) {
            if (!code) self->end(self->error_);
        });
        loop_.post([self = shared_from_this()] {
            self->report();
            self->write();
            if (!self->reading_ && !self->ended_) self->read();
        });
    }

private:
    // Whole frames to the handler, then on reading.
    void deliver() {
        while (!paused_ && !ended_ && !closing_ && frame_) {
            auto next = splitter_.next();
            if (!next) return end(next.error());
            if (!*next) break;
            frame_(std::move(**next));
        }
        if (ended_) return report();
        if (!paused_ && !closing_ && frame_ && !reading_) read();
    }

    void read() {
        reading_ = true;
        input_.resize(read_bytes);
        stream_.async_read_some(asio::buffer(input_),
                                [self = shared_from_this()](const auto& code, std::size_t size) {
                                    self->reading_ = false;
                                    if (code) return self->end(network_error(code, "reading"));
                                    if (self->closing_) return self->read();
                                    self->splitter_.push(std::span(self->input_).first(size));
                                    self->deliver();
                                });
    }

    void write() {
        if (ended_ || !writing_.empty()) return;
        if (queue_.empty()) {
            boost::system::error_code ignored;
            if (closing_) socket().shutdown(tcp::socket::shutdown_send, ignored);
            return;
        }
        while (!queue_.empty() && (writing_.empty() || writing_.size() < write_bytes)) {
            auto& frame = queue_.front();
            if (writing_.empty())
                writing_ = std::move(frame);
            else
                writing_.insert(writing_.end(), frame.begin(), frame.end());
            queue_.pop_front();
        }
        asio::async_write(stream_, asio::buffer(writing_),
                          [self = shared_from_this()](const auto& code, std::size_t) {
                              if (code) return self->end(network_error(code, "sending"));
                              self->unsent_ -= self->writing_.size();
                              self->writing_.clear();
                              self->write();
                              if (self->unsent_ == 0 && self->drained_ && !self->ended_)
                                  self->drained_();
                          });
    }

    void end(Error error) {
        if (ended_) return;
        ended_ = true;
        error_ = std::move(error);
        queue_.clear();
        linger_.cancel();
        boost::system::error_code ignored;
        socket().shutdown(tcp::socket::shutdown_both, ignored);
        socket().close(ignored);
        loop_.post([self = shared_from_this()] { self->report(); });
    }

    // Once, as soon as there is somebody to tell.
    void report() {
        if (!closed_) return;
        auto closed = std::exchange(closed_, nullptr);
        frame_ = nullptr;
        drained_ = nullptr;
        closed(error_);
    }

    EventLoop& loop_;
    TlsContext context_;
    Stream stream_;
    std::string peer_;
    std::deque<env::Frame> queue_;
    env::Frame writing_;
    std::size_t unsent_ = 0;
    bool write_scheduled_ = false;
    std::vector<std::byte> input_;
    format::FrameSplitter splitter_;
    bool reading_ = false;
    bool paused_ = false;
    bool closing_ = false;  // on this side: what is queued goes out, nothing comes in
    bool ended_ = false;
    asio::steady_timer linger_;
    Error error_;
    std::move_only_function<void(env::Frame)> frame_;
    std::move_only_function<void(Error)> closed_;
    std::move_only_function<void()> drained_;
};

// Closes the socket when the handshake takes too long: what waits for it then fails.
std::shared_ptr<asio::steady_timer> guard(EventLoop& loop,
                                          const std::shared_ptr<TlsConnection>& connection) {
    auto timer = std::make_shared<asio::steady_timer>(loop.context(), handshake_limit);
    timer->async_wait([timer, weak = std::weak_ptr(connection)](const auto& code) {
        const auto held = weak.lock();
        if (code || !held) return;
        boost::system::error_code ignored;
        held->socket().close(ignored);
    });
    return timer;
}

std::string serial_of(X509* certificate) {
    const std::unique_ptr<BIGNUM, decltype(&BN_free)> number(
        ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr), BN_free);
    char* hex = number ? BN_bn2hex(number.get()) : nullptr;
    std::string text = hex == nullptr ? "" : hex;
    OPENSSL_free(hex);
    return text;
}

// Asked for each certificate of a chain; those of authorities are not revoked one by one.
bool is_revoked(const RevokedCertificates& revoked, X509_STORE_CTX* chain) {
    if (X509_STORE_CTX_get_error_depth(chain) != 0) return false;
    auto* certificate = X509_STORE_CTX_get_current_cert(chain);
    if (certificate == nullptr || !revoked.contains(serial_of(certificate))) return false;
    X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_REVOKED);
    return true;
}

using Done = std::shared_ptr<env::Callback<std::shared_ptr<env::Connection>>>;

void finish(const Done& done, Result<std::shared_ptr<env::Connection>> result) {
    auto call = std::exchange(*done, nullptr);
    if (call) call(std::move(result));
}

}  // namespace

std::string peer_name(SSL* ssl) {
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl),
                                                                  X509_free);
    if (!certificate) return {};
    char name[256];
    const int size = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()),
                                               NID_commonName, name, sizeof(name));
    return size > 0 ? std::string(name, static_cast<std::size_t>(size)) : std::string{};
}

std::string peer_serial(SSL* ssl) {
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl),
                                                                  X509_free);
    return certificate ? serial_of(certificate.get()) : std::string{};
}

bool RevokedCertificates::replace(std::set<std::string> serials) {
    const std::lock_guard lock(mutex_);
    const bool more = !std::ranges::includes(serials_, serials);
    serials_ = std::move(serials);
    return more;
}

bool RevokedCertificates::contains(const std::string& serial) const {
    const std::lock_guard lock(mutex_);
    return serials_.contains(serial);
}

Result<TlsContext> make_tls_context(const TlsIdentity& identity, TlsSide side, bool demand_peer,
                                    std::shared_ptr<const RevokedCertificates> revoked) {
    auto context = std::make_shared<asio::ssl::context>(side == TlsSide::client
                                                            ? asio::ssl::context::tlsv13_client
                                                            : asio::ssl::context::tlsv13_server);
    boost::system::error_code error;
    const auto failed = [&](const std::string& what) {
        return fail(ErrorCode::invalid, what + ": " + error.message());
    };
    context->load_verify_file(identity.ca, error);
    if (error) return failed("the authority's certificate " + identity.ca);
    if (!identity.certificate.empty()) {
        context->use_certificate_chain_file(identity.certificate, error);
        if (error) return failed("the certificate " + identity.certificate);
        context->use_private_key_file(identity.key, asio::ssl::context::pem, error);
        if (error) return failed("the key " + identity.key);
    }
    auto mode = asio::ssl::verify_peer;
    if (side == TlsSide::server && demand_peer) mode |= asio::ssl::verify_fail_if_no_peer_cert;
    context->set_verify_mode(mode, error);
    if (error) return failed("TLS");
    // Every connection shows its certificate: a session that is taken up again would not.
    SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context->native_handle(), 0);
    if (revoked) {
        context->set_verify_callback(
            [revoked](bool good, asio::ssl::verify_context& chain) {
                return good && !is_revoked(*revoked, chain.native_handle());
            },
            error);
    }
    if (error) return failed("TLS");
    return context;
}

TlsContext make_unverified_context() {
    auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tlsv13_client);
    context->set_verify_mode(asio::ssl::verify_none);
    return context;
}

TlsConnector::TlsConnector(EventLoop& loop, TlsContext context, std::string host,
                           std::uint16_t port, std::string name)
    : loop_(loop),
      context_(std::move(context)),
      host_(std::move(host)),
      port_(std::to_string(port)),
      name_(std::move(name)) {}

void TlsConnector::connect(env::Callback<std::shared_ptr<env::Connection>> callback) {
    auto done =
        std::make_shared<env::Callback<std::shared_ptr<env::Connection>>>(std::move(callback));
    auto connection = std::make_shared<TlsConnection>(loop_, context_);
    auto timer = guard(loop_, connection);
    auto resolver = std::make_shared<tcp::resolver>(loop_.context());
    const std::string place = host_ + ":" + port_;
    auto handshaken = [connection, timer, done, place, name = name_,
                       last = last_](const auto& code) {
        timer->cancel();
        if (code) return finish(done, std::unexpected(network_error(code, "TLS with " + place)));
        connection->established();
        if (connection->peer() != name) {
            return finish(done, fail(ErrorCode::denied,
                                     place + " is " + connection->peer() + ", expected " + name));
        }
        *last = connection;
        finish(done, connection);
    };
    auto connected = [connection, timer, done, place, handshaken](const auto& code, const auto&) {
        if (code) {
            timer->cancel();
            return finish(done, std::unexpected(network_error(code, "connecting to " + place)));
        }
        connection->stream().async_handshake(asio::ssl::stream_base::client, handshaken);
    };
    resolver->async_resolve(host_, port_, [=](const auto& code, const auto& places) {
        if (code) {
            timer->cancel();
            return finish(done, std::unexpected(network_error(code, "resolving " + place)));
        }
        asio::async_connect(
            connection->socket(), places,
            [connected, resolver](const auto& c, const auto& e) { connected(c, e); });
    });
}

void TlsConnector::drop() {
    if (const auto held = last_->lock()) held->close();
}

TlsAcceptor::TlsAcceptor(EventLoop& loop, TlsContext context, Handler handler)
    : loop_(loop),
      context_(std::move(context)),
      handler_(std::make_shared<Handler>(std::move(handler))),
      acceptor_(loop.context()) {}

TlsAcceptor::~TlsAcceptor() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    *handler_ = nullptr;
}

Result<std::unique_ptr<TlsAcceptor>> TlsAcceptor::open(EventLoop& loop, TlsContext context,
                                                       const std::string& address,
                                                       std::uint16_t port, Handler handler) {
    std::unique_ptr<TlsAcceptor> acceptor(
        new TlsAcceptor(loop, std::move(context), std::move(handler)));
    boost::system::error_code error;
    const auto ip = asio::ip::make_address(address, error);
    if (error) return fail(ErrorCode::invalid, address + " is no address to listen on");
    const tcp::endpoint place(ip, port);
    auto& socket = acceptor->acceptor_;
    socket.open(place.protocol(), error);
    if (!error) socket.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) socket.bind(place, error);
    if (!error) socket.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
        return fail(ErrorCode::busy, "cannot listen on " + address + ":" + std::to_string(port) +
                                         ": " + error.message());
    }
    acceptor->accept();
    return acceptor;
}

void TlsAcceptor::drop() {
    for (const auto& weak : std::exchange(connections_, {})) {
        if (const auto held = weak.lock()) held->close();
    }
}

// Out of descriptors, most likely: the one that waits would be found again at once, and again.
void TlsAcceptor::accept_later() {
    auto timer = std::make_shared<asio::steady_timer>(loop_.context(), accept_pause);
    timer->async_wait([this, timer, handler = handler_](const auto& code) {
        if (!code && *handler) accept();
    });
}

void TlsAcceptor::accept() {
    auto connection = std::make_shared<TlsConnection>(loop_, context_);
    acceptor_.async_accept(connection->socket(), [this, connection, &loop = loop_,
                                                  handler = handler_](const auto& code) {
        if (!*handler || code == asio::error::operation_aborted) return;
        if (code) return accept_later();
        accept();
        auto timer = guard(loop, connection);
        connection->stream().async_handshake(
            asio::ssl::stream_base::server, [this, connection, timer, handler](const auto& failed) {
                timer->cancel();
                if (failed || !*handler) return;
                connection->established();
                std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
                connections_.push_back(connection);
                (*handler)(connection);
            });
    });
}

}  // namespace ebb::platform
