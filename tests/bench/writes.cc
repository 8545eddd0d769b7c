// SPDX-License-Identifier: Apache-2.0
// writes DEVICE COUNT DEPTH [BYTES]: 4 KiB random writes, direct, and how long one takes.
//
// Depth 1 is pwrite(); a greater depth is batches of so many through one io_submit() and one
// io_getevents() each, so that all of a batch are in flight at once. The offsets are the same in
// every run, within the first BYTES (60 MiB), and the first COUNT / 10 writes are not timed: leaves
// of maps are allocated in them. Prints nanoseconds per write.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "lib/direct.h"

namespace ebb::kmodtest {
namespace {

constexpr std::size_t kBlock = 4096;

// A fixed sequence without repetition in sight (Knuth's 64-bit generator, its upper bits).
class Offsets {
public:
    explicit Offsets(std::uint64_t bytes) : blocks_(bytes / kBlock) {}
    std::uint64_t next() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return (state_ >> 33U) % blocks_ * kBlock;
    }

private:
    std::uint64_t blocks_;
    std::uint64_t state_ = 1;
};

class Writer {
public:
    Writer(int fd, unsigned depth, std::uint64_t bytes)
        : fd_(fd), batch_(depth), offsets_(bytes), data_(aligned(kBlock)), pieces_(depth) {}

    [[nodiscard]] bool run(std::uint64_t count) {
        for (std::uint64_t done = 0; done < count; done += pieces_.size())
            if (!round()) return false;
        return true;
    }

private:
    bool round() {
        if (pieces_.size() == 1)
            return pwrite(fd_, data_.get(), kBlock, static_cast<off_t>(offsets_.next())) ==
                   static_cast<ssize_t>(kBlock);
        for (auto& piece : pieces_) piece = {fd_, data_.get(), kBlock, offsets_.next(), 0};
        return batch_.run(pieces_, true);
    }

    int fd_;
    AioBatch batch_;
    Offsets offsets_;
    Aligned data_;
    std::vector<Piece> pieces_;
};

// Where the timed writes begin and end, for a plugin that counts instructions (count_plugin.c):
// they do nothing, and are known by their displacements, "ebb1" and "ebb2".
inline void begin_mark() {
    asm volatile("nopl 0x31626265(%%rax,%%rax,1)" ::: "memory");
}
inline void end_mark() {
    asm volatile("nopl 0x32626265(%%rax,%%rax,1)" ::: "memory");
}

int run(const char* device, std::uint64_t count, unsigned depth, std::uint64_t bytes) {
    int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0) {
        std::perror(device);
        return 1;
    }
    Writer writer(fd, depth, bytes);
    if (!writer.run(std::max<std::uint64_t>(count / 10, 1))) {
        std::perror("writing");
        return 1;
    }
    begin_mark();
    auto before = std::chrono::steady_clock::now();
    bool good = writer.run(count);
    auto after = std::chrono::steady_clock::now();
    end_mark();
    if (!good) {
        std::perror("writing");
        return 1;
    }
    auto ns = std::chrono::duration<double, std::nano>(after - before).count();
    std::printf("%.3f\n", ns / static_cast<double>(count));
    return 0;
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: writes DEVICE COUNT DEPTH [BYTES]\n");
        return 2;
    }
    auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 0); };
    return ebb::kmodtest::run(argv[1], number(2), static_cast<unsigned>(number(3)),
                              argc > 4 ? number(4) : 60ULL << 20U);
}
