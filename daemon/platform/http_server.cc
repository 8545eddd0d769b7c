// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/local/stream_protocol.hpp>
#include <list>
#include <mutex>
#include <thread>

#include "platform/http.h"
#include "platform/http_session.h"

namespace ebb::platform {

namespace asio = boost::asio;
using asio::ip::tcp;
using LocalStream = asio::local::stream_protocol;

class HttpServer::Impl {
public:
    explicit Impl(Handler handler) : handler_(std::move(handler)) {}

    ~Impl() {
        stopping_ = true;
        if (accept_fd_ >= 0) ::shutdown(accept_fd_, SHUT_RDWR);
        if (accept_thread_.joinable()) accept_thread_.join();
        std::list<Client> clients;
        {
            const std::lock_guard lock(mutex_);
            for (auto& client : clients_) {
                if (!client.ended) ::shutdown(client.fd, SHUT_RDWR);
            }
            clients.splice(clients.end(), clients_);
        }
        for (auto& client : clients) client.thread.join();
        if (!path_.empty()) ::unlink(path_.c_str());
    }

    Status listen_tls(TlsContext tls, const std::string& address, std::uint16_t port) {
        tls_ = std::move(tls);
        boost::system::error_code error;
        const tcp::endpoint place(asio::ip::make_address(address, error), port);
        auto acceptor = std::make_shared<tcp::acceptor>(context_);
        if (!error) acceptor->open(place.protocol(), error);
        if (!error) acceptor->set_option(asio::socket_base::reuse_address(true), error);
        if (!error) acceptor->bind(place, error);
        if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
        if (error) {
            return fail(ErrorCode::busy, "cannot listen on " + address + ":" +
                                             std::to_string(port) + ": " + error.message());
        }
        port_ = acceptor->local_endpoint().port();
        accept_from<tcp>(acceptor);
        return {};
    }

    Status listen_unix(const std::string& path) {
        boost::system::error_code error;
        LocalStream::socket probe(context_);
        probe.connect(LocalStream::endpoint(path), error);
        if (!error) return fail(ErrorCode::busy, "somebody listens at " + path);
        if (error == asio::error::connection_refused) ::unlink(path.c_str());
        auto acceptor = std::make_shared<LocalStream::acceptor>(context_);
        acceptor->open(LocalStream(), error);
        const auto mask = ::umask(0177);
        if (!error) acceptor->bind(LocalStream::endpoint(path), error);
        ::umask(mask);
        if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
        if (error) return fail(ErrorCode::io, "cannot listen at " + path + ": " + error.message());
        path_ = path;
        accept_from<LocalStream>(acceptor);
        return {};
    }

    [[nodiscard]] std::uint16_t port() const { return port_; }

private:
    struct Client {
        int fd = -1;
        bool ended = false;
        std::thread thread;
    };

    template <class Protocol>
    void accept_from(std::shared_ptr<typename Protocol::acceptor> acceptor) {
        accept_fd_ = acceptor->native_handle();
        accept_thread_ = std::thread([this, acceptor] {
            while (!stopping_) {
                typename Protocol::socket socket(context_);
                boost::system::error_code error;
                acceptor->accept(socket, error);
                if (stopping_) return;
                if (error) {
                    // Out of descriptors, most likely: others must end first.
                    std::this_thread::sleep_for(std::chrono::milliseconds(100));
                    continue;
                }
                begin<Protocol>(std::move(socket));
            }
        });
    }

    template <class Protocol>
    void begin(typename Protocol::socket socket) {
        const std::lock_guard lock(mutex_);
        for (auto it = clients_.begin(); it != clients_.end();) {
            if (!it->ended) {
                ++it;
                continue;
            }
            it->thread.join();
            it = clients_.erase(it);
        }
        auto& client = clients_.emplace_back();
        client.fd = socket.native_handle();
        client.thread = std::thread([this, &client, socket = std::move(socket)]() mutable {
            serve(socket);
            const std::lock_guard end(mutex_);
            client.ended = true;  // before the descriptor's number can belong to another
            boost::system::error_code ignored;
            socket.close(ignored);
        });
    }

    void serve(LocalStream::socket& socket) { http_serve(socket, {}, stopping_, handler_); }

    void serve(tcp::socket& socket) {
        boost::system::error_code error;
        socket.set_option(tcp::no_delay(true), error);
        asio::ssl::stream<tcp::socket&> stream(socket, *tls_);
        stream.handshake(asio::ssl::stream_base::server, error);
        if (error) return;
        http_serve(stream, peer_name(stream.native_handle()), stopping_, handler_);
    }

    Handler handler_;
    TlsContext tls_;
    std::string path_;
    std::uint16_t port_ = 0;
    asio::io_context context_{1};
    std::atomic<bool> stopping_ = false;
    int accept_fd_ = -1;
    std::thread accept_thread_;
    std::mutex mutex_;
    std::list<Client> clients_;  // under mutex_
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::listen_tls(TlsContext context,
                                                           const std::string& address,
                                                           std::uint16_t port, Handler handler) {
    auto impl = std::make_unique<Impl>(std::move(handler));
    if (auto ok = impl->listen_tls(std::move(context), address, port); !ok)
        return std::unexpected(ok.error());
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen_unix(const std::string& path,
                                                            Handler handler) {
    auto impl = std::make_unique<Impl>(std::move(handler));
    if (auto ok = impl->listen_unix(path); !ok) return std::unexpected(ok.error());
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const {
    return impl_->port();
}

}  // namespace ebb::platform
