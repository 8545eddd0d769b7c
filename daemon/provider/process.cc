// SPDX-License-Identifier: Apache-2.0
#include "provider/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "platform/file_descriptor.h"

extern "C" char** environ;

namespace ebb::provider {

namespace {

constexpr std::size_t words_kept = 4096;
constexpr int first_own = 3;  // descriptors below are standard input, output and error

// A machine that is started here lives long: it may hold nothing of ours open, or whoever is at the
// other end of a connection would never see its end.
void close_others(posix_spawn_file_actions_t& actions) {
#if __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&actions, first_own);
#else
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
        const int fd = std::atoi(entry.path().filename().c_str());
        if (fd >= first_own) posix_spawn_file_actions_addclose(&actions, fd);
    }
#endif
}

Result<pid_t> spawn(const std::vector<std::string>& arguments, int error_output) {
    std::vector<char*> argv;
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, error_output, 2);
    close_others(actions);
    pid_t pid = 0;
    const int rc = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) return fail(ErrorCode::io, "cannot run " + arguments[0] + ": " + strerror(rc));
    return pid;
}

// Until the process has ended; false when time is up.
bool wait_end(int pid_fd, std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) return false;
        pollfd item{.fd = pid_fd, .events = POLLIN, .revents = 0};
        if (::poll(&item, 1, static_cast<int>(left.count())) > 0) return true;
    }
}

// What the pipe holds by now: a daemon may keep its other end open.
std::string words(int fd) {
    std::string text(words_kept, '\0');
    const auto n = ::read(fd, text.data(), text.size());
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

}  // namespace

Status run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds patience) {
    if (arguments.empty()) return fail(ErrorCode::invalid, "no program is named");
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return fail(ErrorCode::io, std::string("pipe: ") + strerror(errno));
    const platform::FileDescriptor out(ends[0]);
    platform::FileDescriptor in(ends[1]);
    const auto pid = spawn(arguments, in.get());
    in.reset();
    if (!pid) return std::unexpected(pid.error());
    const platform::FileDescriptor watch(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
    const bool ended = watch.valid() && wait_end(watch.get(), patience);
    if (!ended) ::kill(*pid, SIGKILL);
    int status = 0;
    while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!ended) return fail(ErrorCode::timeout, arguments[0] + " took too long");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return fail(ErrorCode::refused, arguments[0] + " failed: " + words(out.get()));
}

}  // namespace ebb::provider
