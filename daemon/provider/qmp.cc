// SPDX-License-Identifier: Apache-2.0
#include "provider/qmp.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ebb::provider {

namespace {

constexpr std::size_t message_limit = 16 << 20;

std::unexpected<Error> failed(const std::string& what) {
    return fail(ErrorCode::io, "QMP: " + what + ": " + std::strerror(errno));
}

// True when the socket is ready, E_TIMEOUT when time is up.
Status ready(int fd, short events, std::chrono::steady_clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) return fail(ErrorCode::timeout, "QEMU does not answer");
        pollfd item{.fd = fd, .events = events, .revents = 0};
        const int rc =
            ::poll(&item, 1, static_cast<int>(std::min<long long>(left.count(), 60'000)));
        if (rc > 0) return {};
        if (rc < 0 && errno != EINTR) return failed("poll");
    }
}

std::string text_in(const Json& object, const char* key) {
    if (!object.is_object() || !object.contains(key) || !object[key].is_string()) return {};
    return object[key].get<std::string>();
}

Error to_error(const Json& reply) {
    const auto kind = text_in(reply["error"], "class");
    const auto words = text_in(reply["error"], "desc");
    return Error{kind == "DeviceNotFound" ? ErrorCode::not_found : ErrorCode::refused,
                 "QEMU: " + (words.empty() ? kind : words),
                 {},
                 {}};
}

}  // namespace

Result<Qmp> Qmp::connect(const std::string& path, std::chrono::milliseconds patience) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path))
        return fail(ErrorCode::invalid, "the QMP socket's path is too long: " + path);
    std::ranges::copy(path, address.sun_path);
    platform::FileDescriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return failed("socket");
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        if (errno == ECONNREFUSED || errno == ENOENT)
            return fail(ErrorCode::not_found, "no QEMU listens at " + path);
        return failed("connect " + path);
    }
    Qmp qmp(std::move(fd), patience);
    const auto greeting = qmp.read(std::chrono::steady_clock::now() + patience);
    if (!greeting) return std::unexpected(greeting.error());
    if (!greeting->contains("QMP")) return fail(ErrorCode::protocol, path + " does not speak QMP");
    auto ok = qmp.run("qmp_capabilities");
    if (!ok) return std::unexpected(ok.error());
    return qmp;
}

Result<Json> Qmp::run(const std::string& command, Json arguments) {
    const auto deadline = std::chrono::steady_clock::now() + patience_;
    const auto id = next_id_++;
    const Json request{{"execute", command}, {"arguments", std::move(arguments)}, {"id", id}};
    if (auto ok = write(request.dump() + "\n", deadline); !ok) return std::unexpected(ok.error());
    for (;;) {
        auto reply = read(deadline);
        if (!reply) return reply;
        if (!reply->contains("id") || (*reply)["id"] != id) continue;  // an event
        if (reply->contains("error")) return std::unexpected(to_error(*reply));
        return reply->value("return", Json::object());
    }
}

Status Qmp::wait_for_end() {
    const auto deadline = std::chrono::steady_clock::now() + patience_;
    for (;;) {
        const auto message = read(deadline);
        if (message) continue;
        if (message.error().code == ErrorCode::closed) return {};
        return std::unexpected(message.error());
    }
}

Status Qmp::write(const std::string& text, Deadline deadline) {
    std::size_t done = 0;
    while (done < text.size()) {
        if (auto ok = ready(socket_.get(), POLLOUT, deadline); !ok) return ok;
        const auto n = ::send(socket_.get(), text.data() + done, text.size() - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return fail(ErrorCode::closed, "QEMU has ended");
        if (n < 0) return failed("send");
        done += static_cast<std::size_t>(n);
    }
    return {};
}

Result<Json> Qmp::read(Deadline deadline) {
    for (;;) {
        if (const auto end = received_.find('\n'); end != std::string::npos) {
            auto message = Json::parse(received_.substr(0, end), nullptr, false);
            received_.erase(0, end + 1);
            if (!message.is_object()) return fail(ErrorCode::protocol, "QMP: no JSON object");
            return message;
        }
        if (received_.size() > message_limit) return fail(ErrorCode::protocol, "QMP: too long");
        if (auto ok = ready(socket_.get(), POLLIN, deadline); !ok)
            return std::unexpected(ok.error());
        char data[4096];
        const auto n = ::recv(socket_.get(), data, sizeof(data), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return fail(ErrorCode::closed, "QEMU has ended");
        if (n < 0) return failed("recv");
        received_.append(data, static_cast<std::size_t>(n));
    }
}

}  // namespace ebb::provider
