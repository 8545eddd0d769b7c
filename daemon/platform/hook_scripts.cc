// SPDX-License-Identifier: Apache-2.0
#include "platform/hook_scripts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "platform/file_descriptor.h"
#include "platform/system_error.h"

extern "C" char** environ;

namespace ebb::platform {

namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int first_own = 3;
constexpr std::size_t printed_bytes = 64 << 10;  // of one call; the rest is dropped
constexpr std::size_t line_bytes = 1024;
constexpr milliseconds look_again{100};

bool left_behind(const std::string& name) {
    return name.starts_with(".") || name.ends_with("~") || name.ends_with(".bak") ||
           name.find(".dpkg-") != std::string::npos || name.find(".rpm") != std::string::npos;
}

Status check_owner(const std::string& path, const struct stat& info) {
    const bool ours = info.st_uid == 0 || info.st_uid == ::geteuid();
    if (ours && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
    return fail("E_APP_SCRIPT_UNSAFE", ErrorCode::refused,
                path + " may be changed by others than root",
                "chown root " + path + "; chmod go-w " + path);
}

// Descriptors of the daemon are none of a script's business.
void close_others(posix_spawn_file_actions_t& actions) {
#if __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&actions, first_own);
#else
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd", error)) {
        const int fd = std::atoi(entry.path().filename().c_str());
        if (fd >= first_own) posix_spawn_file_actions_addclose(&actions, fd);
    }
#endif
}

// In a process group of its own, with signals as a shell has them.
Result<pid_t> spawn(const HookCall& call, int output) {
    std::vector<std::string> words{call.path, call.phase};
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    auto more = call.environment;
    std::vector<char*> environment;
    for (char** one = environ; *one != nullptr; ++one) environment.push_back(*one);
    for (auto& one : more) environment.push_back(one.data());
    environment.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    close_others(actions);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    pid_t pid = 0;
    const int rc = ::posix_spawn(&pid, call.path.c_str(), &actions, &attributes, argv.data(),
                                 environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (rc != 0)
        return fail("E_APP_SCRIPT", ErrorCode::refused,
                    call.path + " cannot be run: " + std::strerror(rc),
                    "Correct it, or take away its execute permission");
    return pid;
}

// Its output, line by line.
class Lines {
public:
    Lines(const HookCall& call, int fd) : call_(call), fd_(fd) {}
    // False: there is nothing more for now.
    bool take() {
        char part[4096];
        const ssize_t got = ::read(fd_, part, sizeof(part));
        if (got <= 0) return got < 0 && errno == EINTR;
        for (ssize_t i = 0; i < got; ++i) {
            if (part[i] == '\n')
                end_line();
            else if (line_.size() < line_bytes)
                line_ += static_cast<unsigned char>(part[i]) < ' ' ? ' ' : part[i];
        }
        return true;
    }
    void end_line() {
        if (line_.empty()) return;
        printed_ += line_.size() + 1;
        if (printed_ <= printed_bytes && call_.print) call_.print(line_);
        last_ = std::exchange(line_, {});
    }
    [[nodiscard]] const std::string& last() const { return last_; }

private:
    const HookCall& call_;
    int fd_;
    std::string line_;
    std::string last_;
    std::size_t printed_ = 0;
};

// Until it has ended: its status; nothing: it was killed, because time was up or nobody waits any
// more.
bool wait_end(const HookCall& call, pid_t pid, Lines& lines, int output, int& status) {
    const auto deadline = steady_clock::now() + call.limit;
    for (;;) {
        const pid_t ended = ::waitpid(pid, &status, WNOHANG);
        if (ended == pid) return true;
        const bool late = steady_clock::now() >= deadline || (call.give_up && call.give_up());
        if (late) {
            ::kill(-pid, SIGKILL);
            while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
            }
            return false;
        }
        pollfd item{.fd = output, .events = POLLIN, .revents = 0};
        if (::poll(&item, 1, static_cast<int>(look_again.count())) > 0 && !lines.take()) {
            // It has closed its output, and goes on.
            ::poll(nullptr, 0, static_cast<int>(look_again.count()));
        }
    }
}

std::string outcome(int status) {
    if (WIFEXITED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
    return "killed by signal " + std::to_string(WTERMSIG(status));
}

}  // namespace

Result<std::vector<std::string>> list_hooks(const std::string& folder) {
    struct stat info{};
    if (::stat(folder.c_str(), &info) != 0) {
        if (errno == ENOENT) return std::vector<std::string>{};
        return system_fail(errno, folder);
    }
    if (auto ok = check_owner(folder, info); !ok) return std::unexpected(ok.error());
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        names.push_back(it->path().filename());
    if (error) return fail(ErrorCode::io, folder + ": " + error.message());
    std::ranges::sort(names);
    std::vector<std::string> hooks;
    for (const auto& name : names) {
        const auto path = folder + "/" + name;
        if (left_behind(name) || ::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) ||
            (info.st_mode & S_IXUSR) == 0)
            continue;
        if (auto ok = check_owner(path, info); !ok) return std::unexpected(ok.error());
        hooks.push_back(path);
    }
    return hooks;
}

Status check_hook(const std::string& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return system_fail(errno, path);
    return check_owner(path, info);
}

Status run_hook(const HookCall& call) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return system_fail(errno, "pipe");
    const FileDescriptor out(ends[0]);
    FileDescriptor in(ends[1]);
    if (::fcntl(out.get(), F_SETFL, O_NONBLOCK) != 0) return system_fail(errno, "pipe");
    const auto pid = spawn(call, in.get());
    in.reset();
    if (!pid) return std::unexpected(pid.error());
    Lines lines(call, out.get());
    int status = 0;
    const bool ended = wait_end(call, *pid, lines, out.get(), status);
    while (lines.take()) {
    }
    lines.end_line();
    const std::string remedy =
        "See the log of ebbd there, and run " + call.path + " " + call.phase + " by hand";
    if (!ended) {
        return fail("E_APP_SCRIPT", ErrorCode::timeout,
                    call.path + " " + call.phase + " was killed: it did not end in " +
                        std::to_string(call.limit.count() / 1000) + " s",
                    remedy);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return fail("E_APP_SCRIPT", ErrorCode::refused,
                call.path + " " + call.phase + " failed (" + outcome(status) + ")" +
                    (lines.last().empty() ? "" : ": " + lines.last()),
                remedy);
}

}  // namespace ebb::platform
