// SPDX-License-Identifier: Apache-2.0
// Authenticated, ordered connections that carry whole frames of the wire protocol (TLS 1.3 in
// platform/). A connection may end at any moment and loses an arbitrary suffix of what was sent.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "env/env.h"

namespace ebb::env {

// A frame as it travels: header and payload, see docs/wire-protocol.md.
using Frame = std::vector<std::byte>;

class Connection {
public:
    virtual ~Connection() = default;
    // Name in the peer's certificate, verified.
    [[nodiscard]] virtual std::string peer() const = 0;
    // Queues the frame. After the end of the connection it does nothing.
    virtual void send(Frame frame) = 0;
    // Bytes queued and not yet taken by the network: callers stop sending above their window.
    [[nodiscard]] virtual std::size_t unsent() const = 0;
    // `drained` runs each time `unsent` has fallen to zero.
    virtual void on_drained(std::move_only_function<void()> drained) = 0;
    // Frames arrive only while a handler is set; `closed` runs once, at the end, whoever ended it.
    virtual void start(std::move_only_function<void(Frame)> frame,
                       std::move_only_function<void(Error)> closed) = 0;
    // Stops and resumes reading from the network (backpressure).
    virtual void pause() = 0;
    virtual void resume() = 0;
    // Ends it; frames that were queued before still go out if the network takes them soon.
    virtual void close() = 0;
};

class Connector {
public:
    virtual ~Connector() = default;
    virtual void connect(Callback<std::shared_ptr<Connection>> done) = 0;
};

}  // namespace ebb::env
