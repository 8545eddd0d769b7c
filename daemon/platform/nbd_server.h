// SPDX-License-Identifier: Apache-2.0
// NBD exports that can be read, on a Unix socket of root's and, if asked, on TCP. On the event
// loop.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "env/env.h"
#include "format/nbd.h"
#include "platform/event_loop.h"

namespace ebb::platform {

struct NbdHandlers {
    std::function<std::vector<format::NbdExport>()> exports;
    // Whole sectors within the export. `done` once, and not after the server has gone.
    std::function<void(const std::string& name, std::uint64_t offset, std::shared_ptr<Buffer> into,
                       env::StatusCallback done)>
        read;
};

class NbdServer {
public:
    NbdServer(EventLoop& loop, NbdHandlers handlers);
    ~NbdServer();
    NbdServer(const NbdServer&) = delete;
    NbdServer& operator=(const NbdServer&) = delete;

    // E_BUSY: somebody listens there; E_IO.
    Status listen_unix(const std::string& path);
    // E_INVALID: no address; E_BUSY.
    Status listen_tcp(const std::string& address, std::uint16_t port);
    [[nodiscard]] std::uint16_t port() const { return port_; }

    // Clients of that export.
    [[nodiscard]] std::size_t clients(const std::string& name) const;
    // Ends their connections.
    void drop(const std::string& name);

    class Connection;
    // What connections share with the server, and outlives it.
    struct Shared {
        NbdHandlers handlers;  // empty: the server has gone
    };

private:
    using Stream = boost::asio::generic::stream_protocol;
    template <class Acceptor>
    void accept(std::shared_ptr<Acceptor> acceptor);

    EventLoop& loop_;
    std::shared_ptr<Shared> shared_;
    std::list<std::weak_ptr<Connection>> connections_;
    std::shared_ptr<boost::asio::local::stream_protocol::acceptor> local_;
    std::shared_ptr<boost::asio::ip::tcp::acceptor> tcp_;
    std::string path_;
    std::uint16_t port_ = 0;
};

}  // namespace ebb::platform
