// SPDX-License-Identifier: Apache-2.0
// stamper: writes stamps over several disks, each write issued only after the one before it, often
// on another disk, was acknowledged; logs every issue and acknowledgement.
//
//   --disk PATH[@FIRST+COUNT] ...  region in blocks of each disk (its number: the order here)
//   --first N      block of the whole disk at which PATH begins (a partition's start)
//   --writers N    threads, each with blocks of its own (default 2)
//   --engine direct|aio|uring|buffered|mixed
//   --batch N      writes under way at once for aio and uring (default 32)
//   --log PREFIX   PREFIX.N for writer N; --log-each: every record before the next step
//   --tickets F    the shared counter
//   --seconds S    or until SIGTERM; --rate N writes a second at most, all writers together
//
// Prints writes done when it ends, and how long the longest step took, from issue to
// acknowledgement.
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>

#include "lib/direct.h"
#include "lib/options.h"
#include "lib/stamp.h"
#include "lib/text.h"

namespace ebb::kmodtest {
namespace {

std::atomic<bool> stop_asked{false};
std::atomic<bool> failed{false};
std::atomic<std::uint64_t> written{0};
std::atomic<double> longest{0};  // seconds

struct Region {
    std::string path;
    std::uint64_t first = 0;  // in the path's own blocks
    std::uint64_t count = 0;
    std::uint64_t shift = 0;  // from the path's blocks to the disk's
    int direct = -1;
    int buffered = -1;
};

double now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

std::uint64_t wall_ns() {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1000000000 +
           static_cast<std::uint64_t>(t.tv_nsec);
}

class Writer {
public:
    Writer(std::uint32_t number, std::uint32_t writers, const std::vector<Region>& regions,
           const Options& options, Tickets& tickets)
        : number_(number),
          writers_(writers),
          regions_(regions),
          tickets_(tickets),
          engine_(options.get("engine", "direct")),
          depth_(options.number("batch", 32)),
          aio_(static_cast<unsigned>(depth_)),
          memory_(aligned(depth_ * stamp_block)),
          random_(number * 7919 + options.number("seed", 1)) {
        std::string name = options.get("log") + "." + std::to_string(number);
        if (options.has("log") && !log_.open(name, options.has("log-each"))) failed = true;
        if (io_uring_queue_init(static_cast<unsigned>(depth_), &ring_, 0) < 0) has_ring_ = false;
    }
    ~Writer() {
        if (has_ring_) io_uring_queue_exit(&ring_);
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    void run(double rate, double until) {
        double next = now();
        while (!stop_asked && !failed && now() < until) {
            std::size_t count = step();
            written += count;
            if (rate <= 0) continue;
            next = std::max(next + static_cast<double>(count) / rate, now() - 0.2);
            const double left = next - now();
            if (left > 0) usleep(static_cast<useconds_t>(left * 1e6));
        }
        if (!log_.flush()) failed = true;
    }

private:
    struct Write {
        const Region* region;
        LogRecord record;
    };

    // One step: a single write, or a batch, on one disk; the next goes to another.
    std::size_t step() {
        std::string engine = engine_;
        if (engine == "mixed") {
            static const char* const all[] = {"direct", "aio", "uring", "buffered"};
            engine = all[random_() % 4];
        }
        if (engine == "uring" && !has_ring_) engine = "aio";
        std::size_t disk = turn_++ % regions_.size();
        bool batch = engine == "aio" || engine == "uring";
        std::vector<Write> writes = choose(disk, batch ? depth_ : 1 + random_() % 4);
        for (auto& w : writes) log_.add(w.record);
        const double begun = now();
        const bool good = issue(engine, writes);
        const double took = now() - begun;
        for (double most = longest; took > most && !longest.compare_exchange_weak(most, took);) {
        }
        if (!good) {
            fprintf(stderr, "stamper: writing %s: %s\n", regions_[disk].path.c_str(),
                    strerror(errno));
            failed = true;
            return 0;
        }
        const std::uint64_t acknowledged = wall_ns();
        std::uint64_t ticket = tickets_.take();
        for (auto& w : writes) {
            w.record.stamp_ticket = acknowledged;
            w.record.kind = LogKind::acknowledged;
            w.record.ticket = ticket;
            log_.add(w.record);
        }
        return writes.size();
    }

    // Distinct blocks that belong to this writer; single writes are neighbours (one bio).
    std::vector<Write> choose(std::size_t disk, std::size_t count) {
        const Region& region = regions_[disk];
        bool neighbours = count <= 4;
        std::uint64_t share = region.count / writers_;
        std::uint64_t base = region.first + number_ * share;
        std::uint64_t ticket = tickets_.take();
        const std::uint64_t issued = wall_ns();
        ++sequence_;
        std::vector<Write> writes;
        std::uint64_t run = random_() % (share - std::min<std::uint64_t>(share - 1, 4));
        std::vector<std::uint64_t> chosen;
        while (chosen.size() < std::min<std::uint64_t>(count, share / 2)) {
            std::uint64_t at = neighbours ? run + chosen.size() : random_() % share;
            if (std::find(chosen.begin(), chosen.end(), at) == chosen.end()) chosen.push_back(at);
        }
        for (std::uint64_t at : chosen) {
            Write write{&region, {}};
            write.record.disk = static_cast<std::uint32_t>(disk);
            write.record.writer = number_;
            write.record.block = base + at + region.shift;
            write.record.sequence = sequence_;
            write.record.ticket = ticket;
            write.record.stamp_ticket = issued;
            std::byte* to = memory_.get() + writes.size() * stamp_block;
            stamp_fill(std::span<std::byte, stamp_block>(to, stamp_block),
                       {write.record.disk, number_, write.record.block, sequence_, ticket});
            writes.push_back(write);
        }
        return writes;
    }

    bool issue(const std::string& engine, const std::vector<Write>& writes) {
        const Region& region = *writes[0].region;
        if (engine == "aio" || engine == "uring") return issue_batch(engine, writes);
        std::size_t length = writes.size() * stamp_block;
        auto at = static_cast<off_t>((writes[0].record.block - region.shift) * stamp_block);
        int fd = engine == "buffered" ? region.buffered : region.direct;
        if (pwrite(fd, memory_.get(), length, at) != static_cast<ssize_t>(length)) return false;
        return engine != "buffered" || fdatasync(fd) == 0;
    }

    bool issue_batch(const std::string& engine, const std::vector<Write>& writes) {
        std::vector<Piece> pieces;
        for (std::size_t i = 0; i < writes.size(); ++i)
            pieces.push_back({writes[i].region->direct, memory_.get() + i * stamp_block,
                              stamp_block,
                              (writes[i].record.block - writes[i].region->shift) * stamp_block, 0});
        if (engine == "aio") return aio_.run(pieces, true);
        for (auto& piece : pieces) {
            io_uring_sqe* entry = io_uring_get_sqe(&ring_);
            io_uring_prep_write(entry, piece.fd, piece.data, stamp_block, piece.offset);
        }
        io_uring_submit_and_wait(&ring_, static_cast<unsigned>(pieces.size()));
        bool good = true;
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            io_uring_cqe* done = nullptr;
            while (io_uring_wait_cqe(&ring_, &done) == -EINTR) {
            }
            if (done->res != static_cast<int>(stamp_block)) {
                errno = done->res < 0 ? -done->res : EIO;
                good = false;
            }
            io_uring_cqe_seen(&ring_, done);
        }
        return good;
    }

    std::uint32_t number_, writers_;
    const std::vector<Region>& regions_;
    Tickets& tickets_;
    std::string engine_;
    std::size_t depth_;
    AioBatch aio_;
    Aligned memory_;
    std::mt19937_64 random_;
    io_uring ring_{};
    bool has_ring_ = true;
    LogFile log_;
    std::uint64_t sequence_ = 0;
    std::uint64_t turn_ = 0;
};

bool open_region(const std::string& spec, std::uint64_t shift, Region& region) {
    std::size_t at = spec.find('@');
    region.path = spec.substr(0, at);
    region.shift = shift;
    region.direct = open(region.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    region.buffered = open(region.path.c_str(), O_RDWR | O_CLOEXEC);
    if (region.direct < 0 || region.buffered < 0) return false;
    region.count = static_cast<std::uint64_t>(lseek(region.buffered, 0, SEEK_END)) / stamp_block;
    if (at != std::string::npos) {
        region.first = std::strtoull(spec.c_str() + at + 1, nullptr, 0);
        region.count = std::strtoull(spec.c_str() + spec.find('+', at) + 1, nullptr, 0);
    }
    return region.count > 0;
}

int main(int argc, char** argv) {
    Options options(argc, argv, {"log-each"});
    struct sigaction action{};
    action.sa_handler = [](int) { stop_asked = true; };
    sigaction(SIGTERM, &action, nullptr);
    Tickets tickets;
    if (!tickets.open(options.get("tickets", "/dev/shm/ebb-tickets"))) return 2;
    std::vector<Region> regions;
    for (const auto& spec : options.all("disk")) {
        auto shifts = options.all("first");
        std::uint64_t shift = regions.size() < shifts.size()
                                  ? std::strtoull(shifts[regions.size()].c_str(), nullptr, 0)
                                  : 0;
        regions.emplace_back();
        if (!open_region(spec, shift, regions.back())) {
            fprintf(stderr, "stamper: %s: %s\n", spec.c_str(), strerror(errno));
            return 2;
        }
    }
    auto writers = static_cast<std::uint32_t>(options.number("writers", 2));
    double rate = static_cast<double>(options.number("rate", 0)) / writers;
    puts("stamping");
    fflush(stdout);
    double begun = now();
    double until = begun + static_cast<double>(options.number("seconds", 1000000));
    std::vector<std::jthread> threads;
    for (std::uint32_t i = 0; i < writers; ++i)
        threads.emplace_back(
            [&, i] { Writer(i, writers, regions, options, tickets).run(rate, until); });
    threads.clear();
    printf("{\"written\":%llu,\"seconds\":%.2f,\"longest_ms\":%.1f}\n",
           static_cast<unsigned long long>(written.load()), now() - begun, longest.load() * 1000);
    return failed ? 1 : 0;
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
