// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

namespace ebb::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t piece = 64 << 10;
constexpr int buffered = 512 << 10;  // by the link itself, in each direction
// Time in which nothing came is not made up for beyond this.
constexpr auto burst = std::chrono::milliseconds(5);

[[noreturn]] void stop(const char* what) {
    std::perror(what);
    std::exit(1);
}

int new_socket() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) stop("socket");
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffered, sizeof buffered);
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffered, sizeof buffered);
    return fd;
}

sockaddr_in local(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

void pass_on(int from, int to, std::uint64_t bytes_per_s, std::atomic<std::uint64_t>& count) {
    std::vector<char> memory(piece);
    auto free_at = Clock::now();
    for (;;) {
        const ssize_t got = ::recv(from, memory.data(), memory.size(), 0);
        if (got <= 0) break;
        count += static_cast<std::uint64_t>(got);
        for (ssize_t done = 0; done < got;) {
            const auto left = static_cast<std::size_t>(got - done);
            const ssize_t sent = ::send(to, memory.data() + done, left, MSG_NOSIGNAL);
            if (sent <= 0) return (void)::shutdown(from, SHUT_RDWR);
            done += sent;
        }
        if (bytes_per_s == 0) continue;
        free_at = std::max(free_at, Clock::now() - burst);
        free_at +=
            std::chrono::nanoseconds(static_cast<std::uint64_t>(got) * 1'000'000'000 / bytes_per_s);
        std::this_thread::sleep_until(free_at);
    }
    ::shutdown(to, SHUT_RDWR);
}

[[noreturn]] void run(int listener, std::uint16_t port, std::uint64_t rate, LinkCounts& counts) {
    for (;;) {
        const int near = ::accept(listener, nullptr, nullptr);
        if (near < 0) stop("accept");
        const int far = new_socket();
        const sockaddr_in address = local(port);
        if (::connect(far, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
            const int on = 1;
            for (const int fd : {near, far})
                ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            std::thread back([&] { pass_on(far, near, 0, counts.back); });
            pass_on(near, far, rate, counts.there);
            back.join();
        }
        ::close(near);
        ::close(far);
    }
}

}  // namespace

Link::Link(std::uint16_t target_port, std::uint64_t bytes_per_s) {
    void* shared = ::mmap(nullptr, sizeof(LinkCounts), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) stop("mmap");
    counts_ = new (shared) LinkCounts;
    const int listener = new_socket();
    sockaddr_in address = local(0);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener, any, size) != 0 || ::listen(listener, 4) != 0 ||
        ::getsockname(listener, any, &size) != 0) {
        stop("the link's port");
    }
    port_ = ntohs(address.sin_port);
    process_ = ::fork();
    if (process_ < 0) stop("fork");
    if (process_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(listener, target_port, bytes_per_s, *counts_);
    }
    ::close(listener);
}

Link::~Link() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    ::munmap(counts_, sizeof(LinkCounts));
}

}  // namespace ebb::bench
