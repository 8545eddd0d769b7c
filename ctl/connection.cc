// SPDX-License-Identifier: Apache-2.0
#include "ctl/connection.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "api/error.h"

namespace ebb::ctl {

namespace {

// Longer than the controller waits for any agent before it answers.
constexpr long patience_seconds = 180;

std::unexpected<Refusal> unreachable(std::string code, const std::string& what,
                                     const std::string& remedy) {
    return std::unexpected(
        Refusal{{Error{ErrorCode::closed, what, remedy, std::move(code)}}, true});
}

std::unexpected<Refusal> not_connected(const std::string& socket, int error) {
    const std::string why = socket + ": " + std::strerror(error);
    if (error == EACCES || error == EPERM) {
        return unreachable("E_CONTROLLER_DENIED",
                           "no permission to speak to the controller at " + why,
                           "Run ebbctl as root (sudo)");
    }
    return unreachable("E_CONTROLLER", "no controller listens at " + why,
                       "Start it here (systemctl start ebbd-controller), or run ebbctl on its "
                       "machine; --socket names another socket");
}

std::unexpected<Refusal> broken(const std::string& what) {
    return unreachable("E_CONTROLLER", what,
                       "See whether the controller runs (systemctl status ebbd-controller), and "
                       "what has become of the command (ebbctl jobs)");
}

struct Socket {
    int fd = -1;
    ~Socket() {
        if (fd >= 0) ::close(fd);
    }
};

// Whether headers and, as long as these say, the body have come. The controller always says.
bool whole(std::string_view response) {
    constexpr std::string_view name = "\r\nContent-Length: ";
    const auto end = response.find("\r\n\r\n");
    const auto length = response.find(name);
    if (end == std::string_view::npos || length == std::string_view::npos || length > end)
        return false;
    std::size_t size = 0;
    std::from_chars(response.data() + length + name.size(), response.data() + end, size);
    return response.size() - end - 4 >= size;
}

// Headers and body.
std::expected<std::string, Refusal> converse(int fd, const std::string& request) {
    const timeval patience{patience_seconds, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    for (std::size_t done = 0; done < request.size();) {
        const auto n = ::send(fd, request.data() + done, request.size() - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return broken(std::string("the controller ended the connection: ") + strerror(errno));
        done += static_cast<std::size_t>(n);
    }
    std::string response;
    char data[16384];
    for (;;) {
        const auto n = ::recv(fd, data, sizeof(data), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return broken("the controller has not answered for " +
                          std::to_string(patience_seconds) + " s");
        }
        if (n < 0)
            return broken(std::string("the controller ended the connection: ") + strerror(errno));
        if (n == 0) return response;
        response.append(data, static_cast<std::size_t>(n));
        if (whole(response)) return response;
    }
}

Error error_of(const api::Json& json) {
    auto info = api::decode<api::ErrorInfo>(json);
    return info ? api::from_info(*info) : info.error();
}

Answer refused(const api::Json& body) {
    Refusal refusal;
    if (body.is_object() && body.contains("reasons") && body["reasons"].is_array()) {
        for (const auto& reason : body["reasons"]) refusal.reasons.push_back(error_of(reason));
    }
    if (refusal.reasons.empty()) {
        refusal.reasons.push_back(
            error_of(body.is_object() ? body.value("error", api::Json()) : api::Json()));
    }
    return std::unexpected(std::move(refusal));
}

}  // namespace

Answer parse_response(std::string_view response) {
    constexpr std::string_view version = "HTTP/1.1 ";
    const auto end = response.find("\r\n\r\n");
    if (!response.starts_with(version) || end == std::string_view::npos)
        return broken("who answers is no controller");
    if (!whole(response)) return broken("the controller's answer was cut short");
    unsigned status = 0;
    std::from_chars(response.data() + version.size(), response.data() + end, status);
    auto json = api::parse(response.substr(end + 4));
    if (!json) return broken("the controller's answer was cut short");
    if (status == 200) return std::move(*json);
    return refused(*json);
}

Answer call(const std::string& socket, const std::string& path, const api::Json& args) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket.empty() || socket.size() >= sizeof(address.sun_path)) {
        return unreachable("E_CONTROLLER", "\"" + socket + "\" cannot be the path of a socket",
                           "Give --socket a path of 1 to " +
                               std::to_string(sizeof(address.sun_path) - 1) + " characters");
    }
    std::ranges::copy(socket, address.sun_path);
    const Socket connection{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (connection.fd < 0 ||
        ::connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return not_connected(socket, errno);
    const std::string body = api::dump(args);
    auto response = converse(connection.fd, "POST " + path +
                                                " HTTP/1.1\r\nHost: ebb\r\nConnection: close\r\n"
                                                "Content-Length: " +
                                                std::to_string(body.size()) + "\r\n\r\n" + body);
    if (!response) return std::unexpected(response.error());
    if (response->empty()) return broken("the controller ended the connection without an answer");
    return parse_response(*response);
}

}  // namespace ebb::ctl
