// SPDX-License-Identifier: Apache-2.0
// Frames over TLS 1.3, both ends authenticated by certificates of Ebb's own authority; the peer's
// name is the common name in its certificate.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "env/net.h"
#include "platform/event_loop.h"

namespace ebb::platform {

// Paths of PEM files.
struct TlsIdentity {
    std::string ca;
    std::string certificate;
    std::string key;
};

enum class TlsSide { client, server };

// Serial numbers, as hexadecimal digits, of certificates that are not valid any more. Any thread.
class RevokedCertificates {
public:
    // Whether there are any that were not there before.
    bool replace(std::set<std::string> serials);
    [[nodiscard]] bool contains(const std::string& serial) const;

private:
    mutable std::mutex mutex_;
    std::set<std::string> serials_;
};

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

// TLS 1.3 alone. A server without `demand_peer` lets clients in that show no certificate. E_IO,
// E_INVALID: a file cannot be read, or does not fit the others. `revoked`: whom neither side lets
// in; null: nobody.
Result<TlsContext> make_tls_context(const TlsIdentity& identity, TlsSide side,
                                    bool demand_peer = true,
                                    std::shared_ptr<const RevokedCertificates> revoked = {});

// For a first look at a server's certificates, and nothing else: it verifies nothing.
TlsContext make_unverified_context();

// Common name of the peer of a handshaken connection; empty: it showed no certificate.
[[nodiscard]] std::string peer_name(SSL* ssl);
// Serial number of its certificate, as hexadecimal digits.
[[nodiscard]] std::string peer_serial(SSL* ssl);

// Connects, as often as it is asked, to one place.
class TlsConnector final : public env::Connector {
public:
    // `name`: the common name that the other side must have.
    TlsConnector(EventLoop& loop, TlsContext context, std::string host, std::uint16_t port,
                 std::string name);
    void connect(env::Callback<std::shared_ptr<env::Connection>> done) override;
    // Ends the connection that is there, so that the peer is looked at anew.
    void drop();

private:
    EventLoop& loop_;
    TlsContext context_;
    std::string host_, port_, name_;
    std::shared_ptr<std::weak_ptr<env::Connection>> last_ =
        std::make_shared<std::weak_ptr<env::Connection>>();
};

// Listens; every connection that has shown a valid certificate is handed over.
class TlsAcceptor {
public:
    using Handler = std::function<void(std::shared_ptr<env::Connection>)>;

    // E_BUSY: the port is taken.
    static Result<std::unique_ptr<TlsAcceptor>> open(EventLoop& loop, TlsContext context,
                                                     const std::string& address, std::uint16_t port,
                                                     Handler handler);
    ~TlsAcceptor();
    // Ends all connections, so that the peers are looked at anew.
    void drop();
    [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

private:
    TlsAcceptor(EventLoop& loop, TlsContext context, Handler handler);
    void accept();
    void accept_later();

    EventLoop& loop_;
    TlsContext context_;
    std::shared_ptr<Handler> handler_;
    std::vector<std::weak_ptr<env::Connection>> connections_;
    boost::asio::ip::tcp::acceptor acceptor_;
};

}  // namespace ebb::platform
