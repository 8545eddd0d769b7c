// SPDX-License-Identifier: Apache-2.0
// latency DEVICE [--rate N] [--seconds N] [--threads N] [--range BYTES] [--read]: 4 KiB random
// writes (or reads), direct, a fixed number per second whatever becomes of them, and how long each
// took.
//
// The threads take turns: thread I issues the writes I, I + THREADS, ... when they are due, or as
// soon as the one before it is over. The offsets are the same in every run. Prints the count and
// percentiles in microseconds, each of them a latency that was measured, as one line of JSON.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "lib/direct.h"
#include "lib/options.h"

namespace ebb::kmodtest {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * kSecond + static_cast<std::uint64_t>(t.tv_nsec);
}

void sleep_until(std::uint64_t when) {
    timespec t{static_cast<time_t>(when / kSecond), static_cast<long>(when % kSecond)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) == EINTR) {
    }
}

struct Load {
    int fd = -1;
    bool read = false;
    std::uint64_t rate = 0, count = 0, threads = 0, blocks = 0, start = 0;
};

// One of the threads: its latencies, or none if one of its requests failed.
class Writer {
public:
    void run(const Load& load, std::uint64_t index) {
        auto data = aligned(kBlock);
        std::uint64_t state = index * 7919 + 1;
        for (std::uint64_t i = index; i < load.count; i += load.threads) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            auto offset = static_cast<off_t>((state >> 33U) % load.blocks * kBlock);
            sleep_until(load.start + i * kSecond / load.rate);
            std::uint64_t before = now();
            ssize_t done = load.read ? pread(load.fd, data.get(), kBlock, offset)
                                     : pwrite(load.fd, data.get(), kBlock, offset);
            taken_.push_back(now() - before);
            if (done == static_cast<ssize_t>(kBlock)) continue;
            std::perror("latency");
            taken_.clear();
            return;
        }
    }
    [[nodiscard]] const std::vector<std::uint64_t>& taken() const { return taken_; }

private:
    std::vector<std::uint64_t> taken_;
};

int report(const std::vector<Writer>& writers, std::uint64_t count) {
    std::vector<std::uint64_t> all;
    for (const auto& writer : writers)
        all.insert(all.end(), writer.taken().begin(), writer.taken().end());
    if (all.size() != count || all.empty()) return 1;
    std::sort(all.begin(), all.end());
    auto at = [&](double share) {
        auto index = static_cast<std::size_t>(share * static_cast<double>(all.size()));
        return static_cast<double>(all[std::min(index, all.size() - 1)]) / 1e3;
    };
    std::printf(
        "{\"count\":%zu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"p9999\":%.1f,\"max\":%.1f}\n",
        all.size(), at(0.5), at(0.99), at(0.999), at(0.9999), at(1));
    return 0;
}

int run(const Options& options) {
    Load load;
    load.read = options.has("read");
    load.rate = options.number("rate", 2000);
    load.count = load.rate * options.number("seconds", 10);
    load.threads = options.number("threads", 8);
    load.blocks = options.number("range", 60ULL << 20U) / kBlock;
    load.fd = open(options.rest()[0].c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (load.fd < 0) {
        std::perror(options.rest()[0].c_str());
        return 1;
    }
    load.start = now() + kSecond / 10;
    std::vector<Writer> writers(load.threads);
    {
        std::vector<std::jthread> threads;
        for (std::uint64_t i = 0; i < load.threads; ++i)
            threads.emplace_back([&, i] { writers[i].run(load, i); });
    }
    return report(writers, load.count);
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    ebb::kmodtest::Options options(argc, argv, {"read"});
    if (options.rest().size() != 1) {
        std::fprintf(stderr, "usage: latency DEVICE [--rate N] [--seconds N] ...\n");
        return 2;
    }
    return ebb::kmodtest::run(options);
}
