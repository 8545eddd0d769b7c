// SPDX-License-Identifier: Apache-2.0
#include "ctl/connection.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "api/error.h"

namespace ebb::ctl {

namespace {

std::unexpected<Error> closed(const std::string& what) {
    return fail("E_CONTROLLER", ErrorCode::closed, what + ": " + std::strerror(errno),
                "See whether the controller runs (systemctl status ebbd), and as whom you are");
}

struct Socket {
    int fd = -1;
    ~Socket() {
        if (fd >= 0) ::close(fd);
    }
};

// Headers and body; the server closes the connection at the end.
Result<std::string> converse(int fd, const std::string& request) {
    for (std::size_t done = 0; done < request.size();) {
        const auto n = ::send(fd, request.data() + done, request.size() - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return closed("sending to the controller");
        done += static_cast<std::size_t>(n);
    }
    std::string response;
    char data[16384];
    for (;;) {
        const auto n = ::recv(fd, data, sizeof(data), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return closed("the controller's answer");
        if (n == 0) return response;
        response.append(data, static_cast<std::size_t>(n));
    }
}

}  // namespace

Result<api::Json> parse_response(std::string_view response) {
    constexpr std::string_view version = "HTTP/1.1 ";
    const auto end = response.find("\r\n\r\n");
    if (!response.starts_with(version) || end == std::string_view::npos)
        return fail(ErrorCode::protocol, "the controller's answer is no HTTP");
    unsigned status = 0;
    std::from_chars(response.data() + version.size(), response.data() + end, status);
    return api::take_answer(status, response.substr(end + 4));
}

Result<api::Json> call(const std::string& socket, const std::string& path, const api::Json& args) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket.size() >= sizeof(address.sun_path))
        return fail(ErrorCode::invalid, "the socket's path is too long");
    std::ranges::copy(socket, address.sun_path);
    const Socket connection{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (connection.fd < 0 ||
        ::connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return closed("no controller at " + socket);
    const std::string body = api::dump(args);
    auto response = converse(connection.fd, "POST " + path +
                                                " HTTP/1.1\r\nHost: ebb\r\nConnection: close\r\n"
                                                "Content-Length: " +
                                                std::to_string(body.size()) + "\r\n\r\n" + body);
    if (!response) return std::unexpected(response.error());
    return parse_response(*response);
}

}  // namespace ebb::ctl
