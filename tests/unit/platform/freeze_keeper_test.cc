// SPDX-License-Identifier: Apache-2.0
// The watchdog as a process of its own, over filesystems that are none: what it freezes and thaws
// is written into memory that the test sees.
#include "platform/freeze_keeper.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

namespace ebb::platform {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds patience{60'000};
constexpr std::size_t count = 3;
constexpr int first_fd = 900;

// Shared by the test, the keeper and its guard.
struct Scene {
    std::atomic<int> frozen[count];  // 1: it is
    std::atomic<int> freezes[count];
    std::atomic<int> fails[count];  // errno of its freezing
    std::atomic<int> hangs[count];  // its freezing does not return until this is 0
    std::atomic<int> thaws;         // calls
    char states[count];
};
Scene* scene = nullptr;

int fake_freeze(int fd) {
    const int i = fd - first_fd;
    ++scene->freezes[i];
    if (scene->fails[i] != 0) return scene->fails[i];
    while (scene->hangs[i] != 0) ::poll(nullptr, 0, 5);
    scene->frozen[i] = 1;
    return 0;
}

int fake_thaw(int fd) {
    ++scene->thaws;
    return scene->frozen[fd - first_fd].exchange(0) == 1 ? 0 : EINVAL;
}

class FreezeKeeper : public testing::Test {
protected:
    FreezeKeeper() {
        scene = static_cast<Scene*>(::mmap(nullptr, sizeof(Scene), PROT_READ | PROT_WRITE,
                                           MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    }
    ~FreezeKeeper() override {
        for (auto& hang : scene->hangs) hang = 0;
        leave();
        if (keeper_ > 0) {
            ::kill(keeper_, SIGKILL);
            reap();
        }
        ::munmap(scene, sizeof(Scene));
    }

    void start(milliseconds limit, milliseconds grace = milliseconds(60'000)) {
        int ends[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        keeper_ = ::fork();
        ASSERT_GE(keeper_, 0);
        if (keeper_ == 0) {
            ::close(ends[0]);
            KeeperOptions options;
            options.control = ends[1];
            options.limit = limit;
            options.guard_grace = grace;
            options.calls = {fake_freeze, fake_thaw};
            for (std::size_t i = 0; i < count; ++i) {
                options.filesystems.push_back(first_fd + static_cast<int>(i));
                options.states.push_back(&scene->states[i]);
            }
            ::_exit(keep_frozen(options));
        }
        ::close(ends[1]);
        control_ = ends[0];
        EXPECT_EQ(hear().word, KeeperWord::ready);
    }
    void say(KeeperWord word) {
        const KeeperMessage message{word, ThawedBy::word, 0, 0};
        (void)::send(control_, &message, sizeof(message), MSG_NOSIGNAL);
    }
    // Word 0: it is gone.
    KeeperMessage hear() {
        pollfd item{.fd = control_, .events = POLLIN, .revents = 0};
        KeeperMessage message;
        message.word = KeeperWord{};
        if (::poll(&item, 1, static_cast<int>(patience.count())) != 1) {
            ADD_FAILURE() << "it says nothing";
            return message;
        }
        // Reset: it has ended without having read what it was told; what it said is behind that.
        if (::recv(control_, &message, sizeof(message), 0) < 0 && errno == ECONNRESET)
            (void)!::recv(control_, &message, sizeof(message), 0);
        return message;
    }
    void freeze_all() {
        say(KeeperWord::freeze);
        for (std::uint32_t i = 0; i < count; ++i) {
            const auto one = hear();
            EXPECT_EQ(one.word, KeeperWord::filesystem);
            EXPECT_EQ(one.index, i);
        }
        EXPECT_EQ(hear().word, KeeperWord::frozen);
        EXPECT_EQ(frozen(), count);
    }
    void leave() {
        if (control_ >= 0) ::close(std::exchange(control_, -1));
    }
    static std::size_t frozen() {
        std::size_t sum = 0;
        for (const auto& one : scene->frozen) sum += one == 1;
        return sum;
    }
    static bool until(const std::function<bool()>& condition) {
        const auto end = steady_clock::now() + patience;
        while (!condition()) {
            if (steady_clock::now() > end) return false;
            ::poll(nullptr, 0, 2);
        }
        return true;
    }
    int reap() {
        int status = 0;
        while (::waitpid(std::exchange(keeper_, 0), &status, 0) < 0 && errno == EINTR) {
        }
        return status;
    }
    static std::string states() { return {scene->states, count}; }

    pid_t keeper_ = 0;
    int control_ = -1;
};

constexpr milliseconds long_limit{120'000};
// It passes in the test, but not while a busy machine freezes three that are none.
constexpr milliseconds short_limit{3'000};

TEST_F(FreezeKeeper, ThawsWhenItIsTold) {
    start(long_limit);
    EXPECT_EQ(frozen(), 0U);
    freeze_all();
    EXPECT_EQ(states(), "fff");
    say(KeeperWord::thaw);
    const auto end = hear();
    EXPECT_EQ(end.word, KeeperWord::thawed);
    EXPECT_EQ(end.by, ThawedBy::word);
    EXPECT_EQ(end.error, 0);
    EXPECT_EQ(frozen(), 0U);
    EXPECT_EQ(states(), "---");
    EXPECT_EQ(reap(), 0);
}

TEST_F(FreezeKeeper, ThawsWhenTheTimeIsOver) {
    start(short_limit);
    freeze_all();
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    EXPECT_EQ(hear().by, ThawedBy::limit);
    EXPECT_EQ(reap(), 0);
}

// Told too late, however close: nobody may think that all stood still until then.
TEST_F(FreezeKeeper, AWordThatComesTooLateIsNone) {
    start(short_limit);
    freeze_all();
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    say(KeeperWord::thaw);
    EXPECT_EQ(hear().by, ThawedBy::limit);
}

TEST_F(FreezeKeeper, ThawsWhenNobodyIsThereAnyMore) {
    start(long_limit);
    freeze_all();
    leave();
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    EXPECT_EQ(reap(), 0);
}

TEST_F(FreezeKeeper, SignalsDoNotEndIt) {
    start(long_limit);
    freeze_all();
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::kill(keeper_, signal);
    EXPECT_EQ(frozen(), count);
    say(KeeperWord::thaw);
    EXPECT_EQ(hear().by, ThawedBy::word);
}

TEST_F(FreezeKeeper, TheGuardThawsWhenTheKeeperIsKilled) {
    start(long_limit);
    freeze_all();
    ::kill(keeper_, SIGKILL);
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    EXPECT_EQ(hear().word, KeeperWord{});
}

TEST_F(FreezeKeeper, TheGuardThawsWhenBothAreGone) {
    start(long_limit);
    freeze_all();
    ::kill(keeper_, SIGKILL);
    leave();
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    EXPECT_EQ(states(), "---");
}

TEST_F(FreezeKeeper, TheGuardThawsWhenTheKeeperStandsStill) {
    start(short_limit, milliseconds(100));
    freeze_all();
    ::kill(keeper_, SIGSTOP);
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    ::kill(keeper_, SIGCONT);
}

TEST_F(FreezeKeeper, OneThatCannotBeFrozenLetsAllGo) {
    scene->fails[1] = EBUSY;
    start(long_limit);
    say(KeeperWord::freeze);
    EXPECT_EQ(hear().word, KeeperWord::filesystem);
    const auto end = hear();
    EXPECT_EQ(end.word, KeeperWord::thawed);
    EXPECT_EQ(end.by, ThawedBy::failure);
    EXPECT_EQ(end.index, 1U);
    EXPECT_EQ(end.error, EBUSY);
    EXPECT_EQ(frozen(), 0U);
    // What somebody else has frozen is not thawed.
    EXPECT_EQ(scene->thaws, 1);
    EXPECT_EQ(scene->freezes[2], 0);
    EXPECT_EQ(states()[1], '-');
}

TEST_F(FreezeKeeper, OneOfAKindThatCannotBeFrozenIsNamedAndTheOthersAre) {
    scene->fails[2] = EOPNOTSUPP;
    start(long_limit);
    say(KeeperWord::freeze);
    for (std::uint32_t i = 0; i < count; ++i) EXPECT_EQ(hear().error, i == 2 ? EOPNOTSUPP : 0);
    EXPECT_EQ(hear().word, KeeperWord::frozen);
    EXPECT_EQ(frozen(), 2U);
    say(KeeperWord::thaw);
    const auto end = hear();
    EXPECT_EQ(end.by, ThawedBy::word);
    EXPECT_EQ(end.error, 0);
    EXPECT_EQ(frozen(), 0U);
}

// A disk that hangs while its filesystem is being frozen holds up no other one.
TEST_F(FreezeKeeper, AFreezeThatHangsDoesNotKeepTheOthersFrozen) {
    scene->hangs[1] = 1;
    start(short_limit);
    say(KeeperWord::freeze);
    EXPECT_TRUE(until([] { return scene->freezes[1] == 1; }));
    EXPECT_EQ(states().substr(1, 1), "i");
    // Not before it has been frozen: that counts as soon as it is begun.
    EXPECT_TRUE(until([] { return scene->thaws >= 1 && frozen() == 0; }));
    scene->hangs[1] = 0;
    EXPECT_EQ(hear().word, KeeperWord::filesystem);
    EXPECT_EQ(hear().by, ThawedBy::limit);
    EXPECT_EQ(frozen(), 0U);
    EXPECT_EQ(scene->freezes[2], 0);
}

TEST_F(FreezeKeeper, NobodyThereWhileItFreezes) {
    scene->hangs[1] = 1;
    start(long_limit);
    say(KeeperWord::freeze);
    EXPECT_TRUE(until([] { return scene->freezes[1] == 1; }));
    leave();
    EXPECT_TRUE(until([] { return frozen() == 0; }));
    scene->hangs[1] = 0;
    EXPECT_EQ(reap(), 0);
    EXPECT_EQ(frozen(), 0U);
}

TEST_F(FreezeKeeper, SomebodyElseHasThawedOne) {
    start(long_limit);
    freeze_all();
    scene->frozen[2] = 0;
    say(KeeperWord::thaw);
    const auto end = hear();
    EXPECT_EQ(end.by, ThawedBy::word);
    EXPECT_EQ(end.index, 2U);
    EXPECT_EQ(end.error, EINVAL);
}

TEST_F(FreezeKeeper, NothingIsFrozenByOneThatIsNotTold) {
    start(long_limit);
    leave();
    EXPECT_EQ(reap(), 0);
    EXPECT_EQ(scene->freezes[0], 0);
    EXPECT_EQ(scene->thaws, 0);
}

}  // namespace
}  // namespace ebb::platform
