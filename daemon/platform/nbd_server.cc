// SPDX-License-Identifier: Apache-2.0
#include "platform/nbd_server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/asio/write.hpp>
#include <cstring>
#include <deque>

namespace ebb::platform {

namespace asio = boost::asio;
using asio::ip::tcp;
using LocalStream = asio::local::stream_protocol;

namespace {

constexpr std::size_t input_bytes = 64U << 10;
constexpr std::size_t connections_max = 64;
// Of one connection, at once.
constexpr std::size_t reads_max = 16;
constexpr std::size_t read_bytes_max = 64U << 20;
// For a client to choose an export.
constexpr auto choice_limit = std::chrono::seconds(15);
constexpr auto accept_pause = std::chrono::milliseconds(100);

format::NbdError error_of(const Status& status) {
    if (status) return format::NbdError::none;
    switch (status.error().code) {
        case ErrorCode::invalid: return format::NbdError::invalid;
        case ErrorCode::no_memory:
        case ErrorCode::stale:
        case ErrorCode::no_space:
        case ErrorCode::not_found: return format::NbdError::shutting_down;
        default: return format::NbdError::io;
    }
}

}  // namespace

class NbdServer::Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(EventLoop& loop, std::shared_ptr<Shared> shared)
        : socket_(loop.context()),
          timer_(loop.context()),
          shared_(std::move(shared)),
          session_([shared = shared_] {
              return shared->handlers.exports ? shared->handlers.exports()
                                              : std::vector<format::NbdExport>{};
          }) {}

    [[nodiscard]] Stream::socket& socket() { return socket_; }
    [[nodiscard]] const std::string& chosen() const { return session_.chosen(); }

    void start() {
        boost::system::error_code ignored;
        socket_.set_option(tcp::no_delay(true), ignored);  // of a Unix socket: there is no such
        timer_.expires_after(choice_limit);
        timer_.async_wait([weak = weak_from_this()](const auto& code) {
            const auto self = weak.lock();
            if (!code && self && self->chosen().empty()) self->close();
        });
        send({format::NbdSession::greeting(), nullptr, 0, 0});
        receive();
    }
    void close() {
        if (std::exchange(closed_, true)) return;
        boost::system::error_code ignored;
        timer_.cancel();
        socket_.close(ignored);
    }

private:
    struct Outgoing {
        format::Payload head;
        std::shared_ptr<Buffer> body;
        std::size_t from = 0;  // of the body
        std::size_t size = 0;
    };

    void receive() {
        if (closed_ || ending_ || receiving_ || full()) return;
        receiving_ = true;
        socket_.async_read_some(
            asio::buffer(input_), [self = shared_from_this()](const auto& code, std::size_t got) {
                self->receiving_ = false;
                if (code) return self->close();
                self->session_.take(std::as_bytes(std::span(self->input_)).first(got));
                self->go_on();
            });
    }
    [[nodiscard]] bool full() const { return reads_ >= reads_max || read_bytes_ >= read_bytes_max; }

    void go_on() {
        while (!closed_ && !ending_ && !full()) {
            auto step = session_.next();
            if (!step) break;
            ending_ = step->close;
            if (!step->send.empty()) send({std::move(step->send), nullptr, 0, 0});
            if (step->read) read(*step->read);
        }
        if (ending_ && !sending_ && reads_ == 0) return close();
        receive();
    }

    void read(const format::NbdRead& wanted) {
        if (!shared_->handlers.read) return close();
        const std::uint64_t from = wanted.offset / sector_bytes * sector_bytes;
        const std::uint64_t end =
            (wanted.offset + wanted.length + sector_bytes - 1) / sector_bytes * sector_bytes;
        auto into = std::make_shared<Buffer>(end - from);
        ++reads_;
        read_bytes_ += into->size();
        // While as much is read as may be, nothing else holds the connection.
        shared_->handlers.read(chosen(), from, into,
                               [self = shared_from_this(), wanted, into,
                                skip = wanted.offset - from](const Status& status) {
                                   --self->reads_;
                                   self->read_bytes_ -= into->size();
                                   const auto error = error_of(status);
                                   Outgoing out{format::NbdSession::reply(wanted.cookie, error),
                                                nullptr, 0, 0};
                                   if (error == format::NbdError::none) {
                                       out.body = into;
                                       out.from = skip;
                                       out.size = wanted.length;
                                   }
                                   self->send(std::move(out));
                                   self->go_on();
                               });
    }

    void send(Outgoing out) {
        if (closed_) return;
        outgoing_.push_back(std::move(out));
        if (!sending_) flush();
    }
    void flush() {
        sending_ = true;
        const Outgoing& out = outgoing_.front();
        std::array<asio::const_buffer, 2> parts{asio::buffer(out.head), asio::const_buffer()};
        if (out.body) parts[1] = asio::buffer(out.body->data() + out.from, out.size);
        asio::async_write(socket_, parts,
                          [self = shared_from_this()](const auto& code, std::size_t) {
                              self->sending_ = false;
                              if (code || self->closed_) return self->close();
                              self->outgoing_.pop_front();
                              if (!self->outgoing_.empty()) return self->flush();
                              if (self->ending_ && self->reads_ == 0) self->close();
                          });
    }

    Stream::socket socket_;
    asio::steady_timer timer_;
    std::shared_ptr<Shared> shared_;
    format::NbdSession session_;
    std::array<std::byte, input_bytes> input_{};
    std::deque<Outgoing> outgoing_;
    std::size_t reads_ = 0;
    std::size_t read_bytes_ = 0;
    bool receiving_ = false;
    bool sending_ = false;
    bool ending_ = false;
    bool closed_ = false;
};

NbdServer::NbdServer(EventLoop& loop, NbdHandlers handlers)
    : loop_(loop), shared_(std::make_shared<Shared>(std::move(handlers))) {}

NbdServer::~NbdServer() {
    shared_->handlers = {};
    boost::system::error_code ignored;
    if (local_) local_->close(ignored);
    if (tcp_) tcp_->close(ignored);
    for (const auto& weak : connections_) {
        if (const auto held = weak.lock()) held->close();
    }
    if (!path_.empty()) ::unlink(path_.c_str());
}

template <class Acceptor>
void NbdServer::accept(std::shared_ptr<Acceptor> acceptor) {
    auto connection = std::make_shared<Connection>(loop_, shared_);
    acceptor->async_accept(
        connection->socket(), [this, acceptor, connection, shared = shared_](const auto& code) {
            if (!shared->handlers.exports || code == asio::error::operation_aborted) return;
            std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
            if (!code && connections_.size() < connections_max) {
                connections_.push_back(connection);
                connection->start();
            }
            if (!code) return accept(acceptor);
            // Out of descriptors, most likely.
            auto timer = std::make_shared<asio::steady_timer>(loop_.context(), accept_pause);
            timer->async_wait([this, timer, acceptor, shared](const auto& failed) {
                if (!failed && shared->handlers.exports) accept(acceptor);
            });
        });
}

Status NbdServer::listen_unix(const std::string& path) {
    boost::system::error_code error;
    if (path.size() >= sizeof(sockaddr_un::sun_path))
        return fail(ErrorCode::invalid, path + ": too long for the path of a socket");
    LocalStream::socket probe(loop_.context());
    probe.connect(LocalStream::endpoint(path), error);
    if (!error) return fail(ErrorCode::busy, "somebody listens at " + path);
    if (error == asio::error::connection_refused) ::unlink(path.c_str());
    local_ = std::make_shared<LocalStream::acceptor>(loop_.context());
    local_->open(LocalStream(), error);
    const auto mask = ::umask(0177);
    if (!error) local_->bind(LocalStream::endpoint(path), error);
    ::umask(mask);
    if (!error) local_->listen(asio::socket_base::max_listen_connections, error);
    if (error) return fail(ErrorCode::io, "cannot listen at " + path + ": " + error.message());
    path_ = path;
    accept(local_);
    return {};
}

Status NbdServer::listen_tcp(const std::string& address, std::uint16_t port) {
    boost::system::error_code error;
    const tcp::endpoint place(asio::ip::make_address(address, error), port);
    if (error) return fail(ErrorCode::invalid, address + " is no address to listen on");
    tcp_ = std::make_shared<tcp::acceptor>(loop_.context());
    tcp_->open(place.protocol(), error);
    if (!error) tcp_->set_option(asio::socket_base::reuse_address(true), error);
    if (!error) tcp_->bind(place, error);
    if (!error) tcp_->listen(asio::socket_base::max_listen_connections, error);
    if (error) {
        return fail(ErrorCode::busy, "cannot listen on " + address + ":" + std::to_string(port) +
                                         ": " + error.message());
    }
    port_ = tcp_->local_endpoint().port();
    accept(tcp_);
    return {};
}

std::size_t NbdServer::clients(const std::string& name) const {
    std::size_t count = 0;
    for (const auto& weak : connections_) {
        const auto held = weak.lock();
        if (held && held->chosen() == name) ++count;
    }
    return count;
}

void NbdServer::drop(const std::string& name) {
    for (const auto& weak : connections_) {
        const auto held = weak.lock();
        if (held && held->chosen() == name) held->close();
    }
}

}  // namespace ebb::platform
