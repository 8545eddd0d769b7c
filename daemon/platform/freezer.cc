// SPDX-License-Identifier: Apache-2.0
#include "platform/freezer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "platform/file_descriptor.h"
#include "platform/file_store.h"
#include "platform/freeze_keeper.h"
#include "platform/freeze_record.h"
#include "platform/system_error.h"

extern "C" char** environ;

namespace ebb::platform {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int control_fd = 3;  // in the watchdog; filesystems follow
constexpr milliseconds look_again{100};
constexpr milliseconds grace{5'000};  // of a watchdog that is slow, beyond the limit

std::unexpected<Error> watchdog_fails(const std::string& what) {
    return fail("E_APP_FREEZER", ErrorCode::io, "the watchdog over frozen filesystems " + what,
                "See the log of ebbd there, and whether ebb-freeze is installed beside it");
}

std::string program_beside() {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    return (self.parent_path() / "ebb-freeze").string();
}

class KeptFreezer final : public Freezer {
public:
    KeptFreezer(FreezerOptions options, std::vector<TrackedFilesystem> filesystems)
        : options_(std::move(options)), filesystems_(std::move(filesystems)) {}
    ~KeptFreezer() override { end(); }

    Status open() {
        for (const auto& one : filesystems_) {
            FileDescriptor fd(
                ::open(one.point.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
            if (!fd.valid()) return system_fail(errno, "open " + one.point);
            descriptors_.push_back(std::move(fd));
        }
        std::vector<RecordedFilesystem> recorded;
        for (const auto& one : filesystems_) recorded.push_back({'.', one.number, one.point});
        if (auto ok = write_freeze_record(options_.record, std::move(recorded)); !ok) return ok;
        recorded_ = true;
        if (auto ok = start(); !ok) return ok;
        const auto word = hear(options_.flush_patience, options_.give_up);
        if (word && word->word == KeeperWord::ready) return {};
        return watchdog_fails("does not start");
    }

    Status freeze() override {
        say(KeeperWord::freeze);
        for (;;) {
            const auto heard = hear(options_.limit + grace, {});
            if (!heard) {
                thaw_ourselves();
                return watchdog_fails("died, or stands still");
            }
            if (heard->word == KeeperWord::frozen) return {};
            if (heard->word == KeeperWord::thawed) return why(*heard);
            if (heard->word == KeeperWord::filesystem && heard->error != 0 &&
                heard->index < filesystems_.size())
                flushed_.push_back(filesystems_[heard->index].point);
        }
    }

    Status thaw() override {
        say(KeeperWord::thaw);
        const auto heard = hear(options_.limit + grace, {});
        if (!heard || heard->word != KeeperWord::thawed) {
            thaw_ourselves();
            return watchdog_fails("died, or stands still: the filesystems are thawed");
        }
        return why(*heard);
    }

    [[nodiscard]] std::vector<std::string> flushed() const override { return flushed_; }

private:
    Status start() {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
            return system_fail(errno, "socketpair");
        control_ = FileDescriptor(ends[0]);
        FileDescriptor theirs(ends[1]);
        // Out of the way of where they are to be.
        const int above = control_fd + static_cast<int>(descriptors_.size()) + 1;
        std::vector<FileDescriptor> high;
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        const auto give = [&](int fd, int as) {
            high.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, above));
            posix_spawn_file_actions_adddup2(&actions, high.back().get(), as);
        };
        give(theirs.get(), control_fd);
        for (std::size_t i = 0; i < descriptors_.size(); ++i)
            give(descriptors_[i].get(), control_fd + 1 + static_cast<int>(i));
        const auto program = options_.program.empty() ? program_beside() : options_.program;
        std::vector<std::string> words{program,
                                       "--record",
                                       options_.record,
                                       "--hold",
                                       std::to_string(options_.limit.count()),
                                       std::to_string(control_fd),
                                       std::to_string(control_fd + 1),
                                       std::to_string(descriptors_.size())};
        std::vector<char*> argv;
        for (auto& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        sigset_t none;
        ::sigemptyset(&none);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
        const int rc =
            ::posix_spawn(&keeper_, program.c_str(), &actions, &attributes, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        if (rc == 0) return {};
        keeper_ = 0;
        return watchdog_fails("cannot be started: " + program + ": " + std::strerror(rc));
    }

    void say(KeeperWord word) {
        const KeeperMessage message{word, ThawedBy::word, 0, 0};
        (void)::send(control_.get(), &message, sizeof(message), MSG_NOSIGNAL);
    }

    // Nothing: the watchdog is gone, or has not answered in time.
    std::optional<KeeperMessage> hear(milliseconds patience, const std::function<bool()>& give_up) {
        const auto deadline = steady_clock::now() + patience;
        while (steady_clock::now() < deadline && !(give_up && give_up())) {
            pollfd item{.fd = control_.get(), .events = POLLIN, .revents = 0};
            if (::poll(&item, 1, static_cast<int>(look_again.count())) <= 0) continue;
            KeeperMessage message;
            const ssize_t got = ::recv(control_.get(), &message, sizeof(message), 0);
            if (got == static_cast<ssize_t>(sizeof(message))) return message;
            // Reset: it has ended without having read what it was told; what it said is behind
            // that.
            if (got >= 0 || (errno != EINTR && errno != ECONNRESET)) return std::nullopt;
        }
        return std::nullopt;
    }

    [[nodiscard]] std::string name_of(std::uint32_t index) const {
        if (index >= filesystems_.size()) return "a filesystem";
        return filesystems_[index].point + " (" + filesystems_[index].type + ")";
    }

    [[nodiscard]] Status why(const KeeperMessage& end) const {
        const std::string seconds = std::to_string(options_.limit.count() / 1000) + " s";
        switch (end.by) {
            case ThawedBy::word: break;
            case ThawedBy::failure:
                if (end.error == EBUSY) {
                    return fail("E_APP_FROZEN", ErrorCode::busy,
                                name_of(end.index) + " is frozen already, by somebody else",
                                "If nobody knows by whom, thaw it: fsfreeze --unfreeze");
                }
                return fail("E_APP_FREEZE", ErrorCode::io,
                            name_of(end.index) + " cannot be frozen: " + std::strerror(end.error),
                            "See the kernel's log there");
            case ThawedBy::limit:
            case ThawedBy::absence:
                return fail(
                    "E_APP_FREEZE_TIMEOUT", ErrorCode::timeout,
                    "the filesystems were thawed after " + seconds + ", before the cut was taken",
                    "If disks are slow there, raise source.app_freeze_seconds");
        }
        if (end.error == 0) return {};
        return fail("E_APP_THAWED", ErrorCode::stale,
                    name_of(end.index) +
                        " was thawed by somebody else meanwhile: " + std::strerror(end.error),
                    "See who else freezes filesystems there");
    }

    // The guard does so as well. EINVAL: it is not frozen.
    void thaw_ourselves() {
        for (const auto& fd : descriptors_) (void)kernel_freeze_calls().thaw(fd.get());
        if (keeper_ > 0) ::kill(keeper_, SIGKILL);
    }

    void end() {
        control_.reset();
        int status = 0;
        if (keeper_ > 0) {
            while (::waitpid(keeper_, &status, 0) < 0 && errno == EINTR) {
            }
        }
        keeper_ = 0;
        if (recorded_) (void)remove_file(options_.record);
        recorded_ = false;
    }

    const FreezerOptions options_;
    const std::vector<TrackedFilesystem> filesystems_;
    std::vector<FileDescriptor> descriptors_;
    FileDescriptor control_;
    pid_t keeper_ = 0;
    bool recorded_ = false;
    std::vector<std::string> flushed_;
};

}  // namespace

Result<std::unique_ptr<Freezer>> open_freezer(const FreezerOptions& options,
                                              const std::vector<TrackedFilesystem>& filesystems) {
    auto freezer = std::make_unique<KeptFreezer>(options, filesystems);
    if (auto ok = freezer->open(); !ok) return std::unexpected(ok.error());
    return freezer;
}

}  // namespace ebb::platform
