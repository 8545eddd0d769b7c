// SPDX-License-Identifier: Apache-2.0
#include "uevents.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "platform/system_error.h"

namespace ebb::attach {

namespace {

constexpr unsigned kernel_group = 1;
// A device may be there a moment after the last word about it (its node, its size).
constexpr std::chrono::milliseconds look_again{500};

}  // namespace

Result<Uevents> Uevents::listen() {
    platform::FileDescriptor fd(
        ::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    if (!fd.valid()) return platform::system_fail(errno, "listening to the kernel's events");
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = kernel_group;
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return platform::system_fail(errno, "listening to the kernel's events");
    return Uevents(std::move(fd));
}

bool Uevents::wait(std::chrono::steady_clock::time_point until) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd poll{fd_.get(), POLLIN, 0};
    if (::poll(&poll, 1, static_cast<int>(std::min(left, look_again).count())) > 0) {
        std::array<char, 8192> waste{};
        while (::recv(fd_.get(), waste.data(), waste.size(), MSG_DONTWAIT) > 0) {
        }
    }
    return true;
}

}  // namespace ebb::attach
