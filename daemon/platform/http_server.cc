// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/local/stream_protocol.hpp>
#include <condition_variable>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#include "platform/http.h"
#include "platform/http_session.h"

namespace ebb::platform {

namespace asio = boost::asio;
using asio::ip::tcp;
using LocalStream = asio::local::stream_protocol;

class HttpServer::Impl {
public:
    Impl(Handler handler, const HttpLimits& limits)
        : handler_(std::move(handler)), limits_(limits), watch_thread_([this] { watch(); }) {}

    ~Impl() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            changed_.notify_all();
        }
        if (accept_fd_ >= 0) ::shutdown(accept_fd_, SHUT_RDWR);
        if (accept_thread_.joinable()) accept_thread_.join();
        watch_thread_.join();
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
    using Clock = std::chrono::steady_clock;

    struct Client {
        int fd = -1;
        bool ended = false;
        bool known = false;                                     // has shown a certificate
        bool served = false;                                    // its request is being answered
        bool given_up = false;                                  // was told to end
        Clock::time_point deadline = Clock::time_point::max();  // for what it is to do next
        std::thread thread;

        void give_up() {
            given_up = true;
            deadline = Clock::time_point::max();
            ::shutdown(fd, SHUT_RDWR);  // its thread then ends by itself
        }
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
        std::unique_lock lock(mutex_);
        reap();
        if (!make_room(lock)) return;  // the socket closes
        auto& client = clients_.emplace_back();
        client.fd = socket.native_handle();
        client.deadline = Clock::now() + limits_.first;
        changed_.notify_all();
        try {
            client.thread = std::thread([this, &client, socket = std::move(socket)]() mutable {
                serve(client, socket);
                const std::lock_guard end(mutex_);
                client.ended = true;  // before the descriptor's number can belong to another
                changed_.notify_all();
                boost::system::error_code ignored;
                socket.close(ignored);
            });
        } catch (const std::system_error&) {  // no thread to be had
            clients_.pop_back();
        }
    }

    void reap() {
        for (auto it = clients_.begin(); it != clients_.end();) {
            if (!it->ended) {
                ++it;
                continue;
            }
            it->thread.join();
            it = clients_.erase(it);
        }
    }

    // False: no more can be served now.
    bool make_room(std::unique_lock<std::mutex>& lock) {
        std::size_t all = 0;
        std::size_t strangers = 0;
        Client* oldest = nullptr;
        for (auto& client : clients_) {
            if (client.ended || client.given_up) continue;
            ++all;
            if (client.known) continue;
            ++strangers;
            if (oldest == nullptr && !client.served) oldest = &client;
        }
        if (all < limits_.clients && strangers < limits_.strangers) return true;
        if (oldest == nullptr) return false;
        oldest->give_up();
        // Not faster than they end, or there would be more threads than the limit says.
        changed_.wait(lock, [&] { return oldest->ended || stopping_; });
        return !stopping_;
    }

    // Ends clients that let their time pass.
    void watch() {
        std::unique_lock lock(mutex_);
        while (!stopping_) {
            auto next = Clock::time_point::max();
            const auto now = Clock::now();
            for (auto& client : clients_) {
                if (client.ended) continue;
                if (client.deadline <= now) client.give_up();
                next = std::min(next, client.deadline);
            }
            if (next == Clock::time_point::max())
                changed_.wait(lock);
            else
                changed_.wait_until(lock, next);
        }
    }

    // Gives a client its time for each thing that it is to do.
    class Pace final : public HttpPace {
    public:
        Pace(Impl& server, Client& client) : server_(server), client_(client) {}

        void awaits_request(bool first) override {
            expect(first ? server_.limits_.first : server_.limits_.next);
        }
        // From here on it is we who take our time.
        void handles() override {
            const std::lock_guard lock(server_.mutex_);
            client_.served = true;
            client_.deadline = Clock::time_point::max();
        }
        void answers() override { expect(server_.limits_.answer); }

    private:
        void expect(std::chrono::milliseconds limit) {
            const std::lock_guard lock(server_.mutex_);
            if (client_.given_up) return;
            client_.served = false;
            client_.deadline = Clock::now() + limit;
            server_.changed_.notify_all();
        }

        Impl& server_;
        Client& client_;
    };

    void serve(Client& client, LocalStream::socket& socket) {
        Pace pace(*this, client);
        http_serve(socket, {}, stopping_, handler_, pace);
    }

    void serve(Client& client, tcp::socket& socket) {
        boost::system::error_code error;
        socket.set_option(tcp::no_delay(true), error);
        asio::ssl::stream<tcp::socket&> stream(socket, *tls_);
        stream.handshake(asio::ssl::stream_base::server, error);
        if (error) return;
        const HttpPeer peer{peer_name(stream.native_handle()), peer_serial(stream.native_handle())};
        {
            const std::lock_guard lock(mutex_);
            client.known = !peer.name.empty();
        }
        Pace pace(*this, client);
        http_serve(stream, peer, stopping_, handler_, pace);
    }

    const Handler handler_;
    const HttpLimits limits_;
    TlsContext tls_;
    std::string path_;
    std::uint16_t port_ = 0;
    asio::io_context context_{1};
    std::atomic<bool> stopping_ = false;
    int accept_fd_ = -1;
    std::thread accept_thread_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::list<Client> clients_;  // under mutex_, in order of arrival
    std::thread watch_thread_;   // last: it uses all above
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::listen_tls(TlsContext context,
                                                           const std::string& address,
                                                           std::uint16_t port, Handler handler,
                                                           const HttpLimits& limits) {
    auto impl = std::make_unique<Impl>(std::move(handler), limits);
    if (auto ok = impl->listen_tls(std::move(context), address, port); !ok)
        return std::unexpected(ok.error());
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen_unix(const std::string& path,
                                                            Handler handler,
                                                            const HttpLimits& limits) {
    auto impl = std::make_unique<Impl>(std::move(handler), limits);
    if (auto ok = impl->listen_unix(path); !ok) return std::unexpected(ok.error());
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const {
    return impl_->port();
}

}  // namespace ebb::platform
