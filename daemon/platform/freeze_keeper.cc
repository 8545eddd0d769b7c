// SPDX-License-Identifier: Apache-2.0
#include "platform/freeze_keeper.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <memory>

namespace ebb::platform {

namespace {

constexpr std::size_t stack_bytes = 128 << 10;
constexpr char begun_byte = 'F';
constexpr char done_byte = 'D';

std::int64_t now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

int freeze_call(int fd) {
    return ::ioctl(fd, FIFREEZE, 0) == 0 ? 0 : errno;
}

int thaw_call(int fd) {
    return ::ioctl(fd, FITHAW, 0) == 0 ? 0 : errno;
}

// Until one of them can be read, or the deadline (-1: none); false: the deadline came first.
bool wait_for(pollfd* items, nfds_t count, std::int64_t deadline) {
    for (;;) {
        std::int64_t left = -1;
        if (deadline >= 0) left = std::max<std::int64_t>(0, deadline - now_ms());
        const int got =
            ::poll(items, count, static_cast<int>(std::min<std::int64_t>(left, INT_MAX)));
        if (got > 0) return true;
        if (got == 0 && deadline >= 0 && now_ms() >= deadline) return false;
    }
}

bool wait_for(int fd, std::int64_t deadline) {
    pollfd item{.fd = fd, .events = POLLIN, .revents = 0};
    return wait_for(&item, 1, deadline);
}

void add_one(int eventfd) {
    const std::uint64_t one = 1;
    (void)!::write(eventfd, &one, sizeof(one));
}

void take_all(int eventfd) {
    std::uint64_t count = 0;
    (void)!::read(eventfd, &count, sizeof(count));
}

int new_eventfd() {
    return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

bool start_thread(void* (*run)(void*), void* argument, pthread_t& thread) {
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, stack_bytes);
    const int rc = ::pthread_create(&thread, &attributes, run, argument);
    ::pthread_attr_destroy(&attributes);
    return rc == 0;
}

void be_hard_to_kill() {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD}) ::signal(signal, SIG_IGN);
    const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!::write(fd, "-1000", 5);
    ::close(fd);
}

// One filesystem, and the thread that freezes and thaws it: none waits for another's disk.
struct Item {
    int fd = -1;
    char* state = nullptr;
    int start = -1;    // told to freeze
    int release = -1;  // shared: told to thaw
    int news = -1;     // shared: something below has changed
    FreezeCalls calls;
    std::atomic<std::int64_t> deadline = -1;
    bool started = false;  // the main thread's own
    std::atomic<bool> tried = false;
    std::atomic<int> freeze_error = 0;
    std::atomic<bool> expired = false;
    std::atomic<int> thaw_error = 0;
    std::atomic<bool> ended = false;

    void note(char value) const {
        if (state != nullptr) *static_cast<volatile char*>(state) = value;
    }
    void run() {
        pollfd either[] = {{.fd = start, .events = POLLIN, .revents = 0},
                           {.fd = release, .events = POLLIN, .revents = 0}};
        wait_for(either, 2, -1);
        if ((either[1].revents & POLLIN) == 0) freeze();
        ended = true;
        add_one(news);
    }
    void freeze() {
        note('i');
        const int error = calls.freeze(fd);
        if (error == EOPNOTSUPP) ::syncfs(fd);
        note(error == 0 ? 'f' : '-');
        freeze_error = error;
        tried = true;
        add_one(news);
        if (error != 0) return;
        if (!wait_for(release, deadline)) expired = true;
        thaw_error = calls.thaw(fd);
        note('-');
    }
    static void* run_thread(void* item) {
        static_cast<Item*>(item)->run();
        return nullptr;
    }
};

// Of the guard: thaws one, when told.
struct GuardItem {
    int fd = -1;
    char* state = nullptr;
    int go = -1;
    FreezeCalls calls;

    static void* run_thread(void* argument) {
        auto* item = static_cast<GuardItem*>(argument);
        wait_for(item->go, -1);
        (void)item->calls.thaw(item->fd);  // EINVAL: it is not frozen
        if (item->state != nullptr) *static_cast<volatile char*>(item->state) = '-';
        return nullptr;
    }
};

[[noreturn]] void guard(const KeeperOptions& options, int keeper) {
    ::prctl(PR_SET_NAME, "ebb-freeze-grd", 0, 0, 0);
    ::mlockall(MCL_CURRENT | MCL_FUTURE);
    const int go = new_eventfd();
    const auto items = std::make_unique<GuardItem[]>(options.filesystems.size());
    const auto threads = std::make_unique<pthread_t[]>(options.filesystems.size());
    for (std::size_t i = 0; i < options.filesystems.size(); ++i) {
        items[i] = {options.filesystems[i], options.states.empty() ? nullptr : options.states[i],
                    go, options.calls};
        if (!start_thread(&GuardItem::run_thread, &items[i], threads[i])) ::_exit(1);
    }
    std::int64_t deadline = -1;
    bool begun = false;
    while (wait_for(keeper, deadline)) {
        char byte = 0;
        const ssize_t got = ::read(keeper, &byte, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got == 1 && byte == done_byte) ::_exit(0);
        if (got != 1) break;  // the keeper is gone
        begun = true;
        deadline = now_ms() + (options.limit + options.guard_grace).count();
    }
    if (!begun) ::_exit(0);
    add_one(go);
    for (std::size_t i = 0; i < options.filesystems.size(); ++i)
        ::pthread_join(threads[i], nullptr);
    ::_exit(0);
}

class Keeper {
public:
    explicit Keeper(const KeeperOptions& options)
        : options_(options),
          count_(options.filesystems.size()),
          items_(std::make_unique<Item[]>(count_)),
          threads_(std::make_unique<pthread_t[]>(count_)) {}
    ~Keeper() { release_all(); }
    Keeper(const Keeper&) = delete;
    Keeper& operator=(const Keeper&) = delete;

    int run() {
        be_hard_to_kill();
        if (!prepare()) return 1;
        say({KeeperWord::ready, ThawedBy::word, 0, 0});
        if (heard() != KeeperWord::freeze) {
            tell_guard(done_byte);
            return 0;
        }
        KeeperMessage end = freeze_all();
        release_all();
        look_at_thaws(end);
        tell_guard(done_byte);
        say(end);
        return 0;
    }

private:
    bool prepare() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return false;
        const pid_t child = ::fork();
        if (child < 0) return false;
        if (child == 0) {
            ::close(ends[1]);
            ::close(options_.control);
            guard(options_, ends[0]);
        }
        ::close(ends[0]);
        guard_ = ends[1];
        if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0 && errno != EPERM && errno != ENOMEM)
            return false;
        release_ = new_eventfd();
        news_ = new_eventfd();
        if (release_ < 0 || news_ < 0) return false;
        for (std::size_t i = 0; i < count_; ++i) {
            Item& item = items_[i];
            item.fd = options_.filesystems[i];
            item.state = options_.states.empty() ? nullptr : options_.states[i];
            item.start = new_eventfd();
            item.release = release_;
            item.news = news_;
            item.calls = options_.calls;
            if (item.start < 0 || !start_thread(&Item::run_thread, &item, threads_[i]))
                return false;
            ++running_;
            // What is dirty now is written while everybody may go on writing.
            ::syncfs(item.fd);
        }
        return true;
    }

    // Those that froze thaw, the others have nothing to do; all have ended then.
    void release_all() {
        if (running_ != 0) add_one(release_);
        while (running_ != 0) ::pthread_join(threads_[--running_], nullptr);
    }

    KeeperMessage freeze_all() {
        deadline_ = now_ms() + options_.limit.count();
        tell_guard(begun_byte);
        for (std::uint32_t i = 0; i < count_; ++i) {
            Item& item = items_[i];
            item.deadline = deadline_;
            item.started = true;
            add_one(item.start);
            while (!item.tried) {
                pollfd either[] = {{.fd = news_, .events = POLLIN, .revents = 0},
                                   {.fd = options_.control, .events = POLLIN, .revents = 0}};
                if (!wait_for(either, 2, deadline_)) return ended(ThawedBy::limit);
                take_all(news_);
                if (either[1].revents != 0) return ended(by_ebbd());
            }
            // The others have thawed by themselves: this one's news came first to a busy machine.
            if (now_ms() >= deadline_) return ended(ThawedBy::limit);
            const int error = item.freeze_error;
            if (error != 0 && error != EOPNOTSUPP)
                return {KeeperWord::thawed, ThawedBy::failure, i, error};
            say({KeeperWord::filesystem, ThawedBy::word, i, error});
        }
        say({KeeperWord::frozen, ThawedBy::word, 0, 0});
        if (!wait_for(options_.control, deadline_)) return ended(ThawedBy::limit);
        return ended(by_ebbd());
    }

    // Somebody else may have thawed one, and a thread whose time was over did.
    void look_at_thaws(KeeperMessage& end) const {
        if (end.by != ThawedBy::word) return;
        for (std::uint32_t i = 0; i < count_; ++i) {
            const Item& item = items_[i];
            if (item.expired) end.by = ThawedBy::limit;
            if (item.thaw_error != 0 && end.error == 0) {
                end.index = i;
                end.error = item.thaw_error;
            }
        }
    }

    static KeeperMessage ended(ThawedBy by) { return {KeeperWord::thawed, by, 0, 0}; }
    ThawedBy by_ebbd() { return heard() == KeeperWord::thaw ? ThawedBy::word : ThawedBy::absence; }
    // What ebbd says; nothing: it is gone.
    KeeperWord heard() {
        KeeperMessage message;
        for (;;) {
            const ssize_t got = ::recv(options_.control, &message, sizeof(message), 0);
            if (got == static_cast<ssize_t>(sizeof(message))) return message.word;
            if (got < 0 && errno == EINTR) continue;
            return KeeperWord{};
        }
    }
    void say(const KeeperMessage& message) {
        (void)::send(options_.control, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    void tell_guard(char byte) { (void)!::write(guard_, &byte, 1); }

    const KeeperOptions& options_;
    const std::size_t count_;
    std::unique_ptr<Item[]> items_;
    std::unique_ptr<pthread_t[]> threads_;
    std::size_t running_ = 0;  // of them
    int guard_ = -1;
    int release_ = -1;
    int news_ = -1;
    std::int64_t deadline_ = -1;
};

}  // namespace

FreezeCalls kernel_freeze_calls() {
    return {freeze_call, thaw_call};
}

int keep_frozen(const KeeperOptions& options) {
    return Keeper(options).run();
}

}  // namespace ebb::platform
