// SPDX-License-Identifier: Apache-2.0
// A connection to QEMU's machine protocol on a Unix socket. Blocking; one thread at a time.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "platform/file_descriptor.h"

namespace ebb::provider {

using Json = nlohmann::json;

class Qmp {
public:
    // E_NOT_FOUND when nobody listens there: QEMU has ended, or was never started.
    static Result<Qmp> connect(const std::string& path, std::chrono::milliseconds patience);

    // The command's "return". E_NOT_FOUND for QEMU's DeviceNotFound, E_REFUSED for its other
    // errors, E_CLOSED when QEMU ends meanwhile.
    Result<Json> run(const std::string& command, Json arguments = Json::object());
    // Reads until QEMU ends the connection.
    Status wait_for_end();

private:
    using Deadline = std::chrono::steady_clock::time_point;

    Qmp(platform::FileDescriptor socket, std::chrono::milliseconds patience)
        : socket_(std::move(socket)), patience_(patience) {}
    Status write(const std::string& text, Deadline deadline);
    // The next message, events included.
    Result<Json> read(Deadline deadline);

    platform::FileDescriptor socket_;
    std::chrono::milliseconds patience_;  // for each command
    std::string received_;
    std::uint64_t next_id_ = 1;
};

}  // namespace ebb::provider
