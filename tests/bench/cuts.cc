// SPDX-License-Identifier: Apache-2.0
// cuts DISK_ID [--group N] [--interval MS] [--cuts N] [--depth N]: takes a cut at each interval and
// reads all of it from the image, as a source of replication does, but sends it nowhere. The first
// one comes after an interval. Prints what they cost, as one line of JSON.
// cuts DEVICE --reads N [--range BYTES] ...: no cuts; reads as many blocks of it at each interval.
//
// DEPTH reads are under way at once.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <fcntl.h>

#include "base/buffer.h"
#include "lib/client.h"
#include "lib/direct.h"
#include "lib/options.h"
#include "platform/event_loop.h"
#include "platform/image_reader.h"

namespace ebb::kmodtest {
namespace {

constexpr std::uint32_t kMostSectors = 512;  // of one read

double now_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

struct Account {
    std::uint64_t closed = 0, voided = 0, blocks = 0, held = 0, held_ns_max = 0, preserved = 0,
                  pool_peak = 0, cut_ns_max = 0;
    double ms_max = 0;
};

// Reads that are under way, by what the daemon reads images with. More are asked for when all that
// was there has been seen to, as by its loop.
class Reads {
public:
    explicit Reads(std::size_t depth)
        : slots_(depth), memory_(aligned(depth * kMostSectors * 512)) {
        for (std::size_t slot = 0; slot < slots_; ++slot) free_.push_back(slot);
        auto opened = platform::ImageReader::open(loop_);
        if (!opened) std::abort();
        reader_ = std::move(*opened);
    }

    // Waits until there is room.
    [[nodiscard]] int add(int fd, const ebb_extent& extent) {
        while (free_.empty()) loop_.context().run_one();
        const std::size_t slot = free_.back();
        free_.pop_back();
        const std::span to(memory_.get() + slot * kMostSectors * 512, extent.nr_sectors * 512ULL);
        reader_->read(fd, extent.sector * 512ULL, to, [this, slot, extent](const Status& status) {
            free_.push_back(slot);
            landed_.push_back(extent);
            if (!status) error_ = -ESTALE;
        });
        return std::exchange(error_, 0);
    }

    // Returns when no read is under way.
    [[nodiscard]] int finish() {
        while (free_.size() < slots_) loop_.context().run_one();
        return std::exchange(error_, 0);
    }

    // What has been read since this was asked last.
    [[nodiscard]] std::vector<ebb_extent>& landed() { return landed_; }

private:
    std::size_t slots_;
    Aligned memory_;
    std::vector<std::size_t> free_;
    std::vector<ebb_extent> landed_;
    int error_ = 0;
    platform::EventLoop loop_;
    std::unique_ptr<platform::ImageReader> reader_;
};

class Reader {
public:
    explicit Reader(const Options& options)
        : disk_(static_cast<std::uint32_t>(std::strtoul(options.rest()[0].c_str(), nullptr, 0))),
          group_(static_cast<std::uint32_t>(options.number("group", 1))),
          reads_(options.number("reads", 0)),
          blocks_(options.number("range", 60ULL << 20U) / 4096),
          interval_ms_(static_cast<double>(options.number("interval", 5000))),
          cuts_(options.number("cuts", 4)),
          depth_(options.number("depth", 16)),
          reading_(depth_) {
        if (reads_) image_ = open(options.rest()[0].c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    }

    int run();

private:
    int open_image();
    int pass();
    int plain();
    int wait_ready();
    int read_map(std::uint64_t pass);
    int release(std::uint64_t pass);
    void add_up(double ms);

    std::uint32_t disk_, group_;
    std::uint64_t reads_, blocks_, state_ = 1;
    double interval_ms_;
    std::uint64_t cuts_;
    std::size_t depth_;
    Reads reading_;
    int image_ = -1;
    Client client_;
    Nest last_;
    Account sum_;
};

int Reader::open_image() {
    Reply reply;
    Request request{.command = EBB_CMD_DISK_GET, .disk = disk_};
    if (int error = client_.call(request, reply)) return error;
    image_ = open(device_path(reply.disk[EBB_DISK_A_IMAGE_DEV]).c_str(),
                  O_RDONLY | O_DIRECT | O_CLOEXEC);
    return image_ < 0 ? -errno : 0;
}

int Reader::wait_ready() {
    for (;;) {
        Reply reply;
        Request request{.command = EBB_CMD_PASS_GET, .group = group_};
        if (int error = client_.call(request, reply)) return error;
        last_ = reply.pass;
        if (last_[EBB_PASS_A_STATE] == EBB_PASS_VOID) return -ESTALE;
        if (last_[EBB_PASS_A_STATE] == EBB_PASS_READY) return 0;
        usleep(200);
    }
}

// What has been read need not be preserved any more.
int Reader::release(std::uint64_t pass) {
    Request request{.command = EBB_CMD_PASS_RELEASE, .disk = disk_, .pass = pass};
    request.extents.swap(reading_.landed());
    for (auto& extent : request.extents) extent.flags = 0;
    return request.extents.empty() ? 0 : client_.call(request);
}

int Reader::read_map(std::uint64_t pass) {
    for (std::int64_t at = 0;;) {
        Reply reply;
        Request request{.command = EBB_CMD_PASS_MAP, .disk = disk_, .pass = pass, .sector = at};
        if (int error = client_.call(request, reply)) return error;
        for (auto extent : reply.extents)
            while (extent.nr_sectors > 0) {
                auto part = extent;
                part.nr_sectors = std::min(extent.nr_sectors, kMostSectors);
                extent.sector += part.nr_sectors;
                extent.nr_sectors -= part.nr_sectors;
                if (part.flags & EBB_EXTENT_DISCARDED)
                    reading_.landed().push_back(part);
                else if (int error = reading_.add(image_, part))
                    return error;
                if (reading_.landed().size() >= depth_)
                    if (int error = release(pass)) return error;
            }
        if (!reply.top.numbers.contains(EBB_A_NEXT_SECTOR)) break;
        at = static_cast<std::int64_t>(reply.top[EBB_A_NEXT_SECTOR]);
    }
    if (int error = reading_.finish()) return error;
    return release(pass);
}

int Reader::pass() {
    Reply reply;
    Request begin{.command = EBB_CMD_PASS_BEGIN, .group = group_, .kind = EBB_PASS_FROZEN};
    if (int error = client_.call(begin, reply)) return error;
    std::uint64_t id = reply.pass[EBB_PASS_A_ID];
    if (int error = wait_ready()) return error;
    for (;;) {
        if (int error = read_map(id)) return error;
        if (int error = wait_ready()) return error;
        int error = client_.call(Request{.command = EBB_CMD_PASS_END, .pass = id});
        if (error == -EBUSY) continue;  // blocks have joined it
        return error ? error
                     : client_.call(Request{.command = EBB_CMD_EPOCH_CONFIRM, .group = group_});
    }
}

int Reader::plain() {
    for (std::uint64_t done = 0; done < reads_; ++done) {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        ebb_extent block{};
        block.sector = (state_ >> 33U) % blocks_ * 8;
        block.nr_sectors = 8;
        if (int error = reading_.add(image_, block)) return error;
        reading_.landed().clear();
    }
    return reading_.finish();
}

void Reader::add_up(double ms) {
    ++sum_.closed;
    sum_.blocks += last_[EBB_PASS_A_BLOCKS];
    sum_.held += last_[EBB_PASS_A_HELD];
    sum_.preserved += last_[EBB_PASS_A_PRESERVED];
    sum_.held_ns_max = std::max(sum_.held_ns_max, last_[EBB_PASS_A_HELD_NS_MAX]);
    sum_.pool_peak = std::max(sum_.pool_peak, last_[EBB_PASS_A_POOL_PEAK_BYTES]);
    sum_.cut_ns_max = std::max(sum_.cut_ns_max, last_[EBB_PASS_A_CUT_DURATION_NS]);
    sum_.ms_max = std::max(sum_.ms_max, ms);
}

int Reader::run() {
    int error = reads_ ? (image_ < 0 ? -errno : 0) : client_.open();
    if (!error && !reads_) error = open_image();
    double next = now_ms();
    for (std::uint64_t i = 0; i < cuts_ && !error; ++i) {
        next += interval_ms_;
        if (double wait = next - now_ms(); wait > 0) usleep(static_cast<useconds_t>(wait * 1e3));
        double begun = now_ms();
        error = reads_ ? plain() : pass();
        if (!error) add_up(now_ms() - begun);
        if (error == -ESTALE) ++sum_.voided;
        if (error == -ESTALE) error = 0;
    }
    if (error) {
        std::fprintf(stderr, "cuts: %s %s\n", std::strerror(-error), client_.message().c_str());
        return 1;
    }
    auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
    std::printf(
        "{\"closed\":%llu,\"void\":%llu,\"blocks\":%llu,\"held\":%llu,\"preserved\":%llu,"
        "\"held_us_max\":%.1f,\"pool_peak\":%llu,\"cut_us_max\":%.1f,\"pass_ms_max\":%.1f}\n",
        n(sum_.closed), n(sum_.voided), n(sum_.blocks), n(sum_.held), n(sum_.preserved),
        static_cast<double>(sum_.held_ns_max) / 1e3, n(sum_.pool_peak),
        static_cast<double>(sum_.cut_ns_max) / 1e3, sum_.ms_max);
    return 0;
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    ebb::kmodtest::Options options(argc, argv, {});
    if (options.rest().size() != 1) {
        std::fprintf(stderr, "usage: cuts DISK_ID [--interval MS] [--cuts N] ...\n");
        return 2;
    }
    return ebb::kmodtest::Reader(options).run();
}
