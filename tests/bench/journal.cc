// SPDX-License-Identifier: Apache-2.0
// journal FOLDER DISK_MIB EPOCHS BLOCKS DISTINCT COMPRESSION AHEAD [DEVICE]: a target as it is, on
// files in FOLDER, receives a disk's first DISTINCT blocks of 4 KiB and then EPOCHS epochs of
// BLOCKS random ones of them, and AHEAD of one more epoch, which stays open; then it is failed
// over, and taken to the first point and back, and as much is moved without it. One line of JSON
// says what was written and how long each took. With a DEVICE that is the disk, and the retention
// has another; it says "ready" before anything is timed, and goes on when it is sent a line.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <random>
#include <thread>

#include "core/target.h"
#include "format/digest.h"
#include "format/message.h"
#include "platform/aio_disk.h"
#include "platform/cpu_threads.h"
#include "platform/directory_volume.h"

namespace {

using namespace ebb;
using Bytes = std::vector<std::byte>;

constexpr Duration patience = std::chrono::minutes(30);
constexpr std::size_t block_size = 4096;
constexpr std::uint64_t window = 32ULL << 20;
constexpr std::size_t raw_chunk = 4ULL << 20;

[[noreturn]] void stop(const Error& error) {
    std::cerr << error.name() << ": " << error.message << "\n";
    std::exit(1);
}

double seconds_since(std::chrono::steady_clock::time_point begun) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

// Of all threads, or of the one that asks.
double cpu_seconds(clockid_t clock) {
    timespec used{};
    ::clock_gettime(clock, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// Both ends in one process: frames arrive with the next turn of the loop.
class Wire : public env::Connection, public std::enable_shared_from_this<Wire> {
public:
    explicit Wire(platform::EventLoop& loop) : loop_(loop) {}
    std::string peer() const override { return "bench"; }
    void send(env::Frame frame) override {
        loop_.post([self = shared_from_this(), frame = std::move(frame)] { self->heard(frame); });
    }
    std::size_t unsent() const override { return 0; }
    void on_drained(std::move_only_function<void()>) override {}
    void start(std::move_only_function<void(env::Frame)> frame,
               std::move_only_function<void(Error)>) override {
        to_target_ = std::move(frame);
    }
    void pause() override {}
    void resume() override {}
    void close() override {}
    void give(env::Frame frame) {
        loop_.post([self = shared_from_this(), frame = std::move(frame)]() mutable {
            self->to_target_(std::move(frame));
        });
    }

    bool welcome = false;
    bool over = false;  // to be refused is right now
    std::uint64_t acknowledged = 0;
    std::uint64_t closed = 0;

private:
    void heard(const env::Frame& frame) {
        const auto type = format::frame_of(frame)->type;
        if (type == format::FrameType::welcome) welcome = true;
        if (type == format::FrameType::ack) acknowledged = format::decode_ack(frame)->count;
        if (type == format::FrameType::epoch_closed)
            closed = format::decode_epoch_closed(frame)->epoch;
        if (type == format::FrameType::refused && !over) {
            std::cerr << format::decode_refused(frame)->message << "\n";
            std::exit(1);
        }
    }
    platform::EventLoop& loop_;
    std::move_only_function<void(env::Frame)> to_target_;
};

struct Options {
    std::string folder;
    std::uint64_t disk_bytes = 0, epochs = 0, blocks = 0, distinct = 0;
    int compression = 0;
    std::uint64_t ahead = 0;
    std::string device;
    [[nodiscard]] std::string retention() const { return folder + "/retention"; }
    [[nodiscard]] std::string disk() const {
        return device.empty() ? folder + "/disk.raw" : device;
    }
};

void make_file(const std::string& path, std::uint64_t bytes) {
    const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
        std::perror(path.c_str());
        std::exit(1);
    }
    ::close(fd);
}

class Bench {
public:
    explicit Bench(Options options) : options_(std::move(options)), clock_(loop_), cpus_(loop_) {
        const std::string disk = options_.disk();
        if (options_.device.empty()) make_file(disk, options_.disk_bytes);
        auto opened = platform::AioDisk::open(loop_, {.path = disk});
        if (!opened) stop(opened.error());
        disk_ = std::move(*opened);
        auto volume = platform::DirectoryVolume::open(loop_, options_.retention());
        if (!volume) stop(volume.error());
        volume_ = std::move(*volume);
        core::TargetConfig config;
        config.protection.bytes.fill(std::byte{7});
        config.disks = {{"source", "target", options_.disk_bytes}};
        config.session = 1;
        config.undo_compression = options_.compression;
        config.reserve_bytes = 0;
        target_ = std::make_unique<core::Target>(config, std::vector<env::Disk*>{disk_.get()},
                                                 *volume_, clock_, cpus_);
        auto ok = answer<void>([&](auto done) { target_->open(std::move(done)); });
        if (!ok) stop(ok.error());
        connect(config.protection);
    }

    void fill() {
        std::vector<std::uint64_t> all(options_.distinct);
        for (std::uint64_t i = 0; i < all.size(); ++i) all[i] = i;
        close_epoch(all);
    }
    void change() {
        for (std::uint64_t i = 0; i < options_.epochs; ++i) {
            const auto some = choose(options_.blocks);
            changed_ += some.size() * block_size;
            close_epoch(some);
        }
        if (options_.ahead == 0) return;
        begin_epoch(format::PassKind::live, options_.ahead);
        (void)send_blocks(choose(options_.ahead));
    }
    std::pair<double, std::uint64_t> fail_over() {
        wire_->over = true;
        const auto begun = std::chrono::steady_clock::now();
        auto done = answer<core::FailoverResult>(
            [&](auto callback) { target_->failover(2, std::move(callback)); });
        if (!done) stop(done.error());
        return {seconds_since(begun), done->rolled_back_bytes};
    }
    std::pair<double, std::uint64_t> go_to(std::uint64_t epoch) {
        const auto begun = std::chrono::steady_clock::now();
        auto done = answer<core::FailoverResult>(
            [&](auto callback) { target_->change_point(epoch, std::move(callback)); });
        if (!done) stop(done.error());
        return {seconds_since(begun), done->rewound_bytes};
    }
    std::uint64_t newest() const { return target_->points().back().epoch; }
    std::uint64_t changed() const { return changed_; }
    std::uint64_t retention() const { return target_->status().retention_bytes; }

private:
    template <class T>
    Result<T> answer(const std::function<void(env::Callback<T>)>& ask) {
        std::optional<Result<T>> result;
        ask([&result](Result<T> value) { result = std::move(value); });
        until([&result] { return result.has_value(); });
        return std::move(*result);
    }
    void until(const std::function<bool()>& condition) {
        if (!loop_.run_until(condition, patience)) stop({ErrorCode::timeout, "no answer", {}, {}});
    }
    void connect(const Uuid& protection) {
        wire_ = std::make_shared<Wire>(loop_);
        target_->accept(wire_);
        format::Hello hello;
        hello.protection = protection;
        hello.session = 1;
        hello.run = hello.incarnation = protection;
        hello.disks = {{"source", options_.disk_bytes}};
        wire_->give(format::encode(hello, sequence_++));
        until([this] { return wire_->welcome; });
    }
    std::vector<std::uint64_t> choose(std::uint64_t blocks) {
        std::vector<std::uint64_t> some;
        for (std::uint64_t n = 0; n < blocks; ++n) some.push_back(random_() % options_.distinct);
        std::ranges::sort(some);
        some.erase(std::ranges::unique(some).begin(), some.end());
        return some;
    }
    WallTime begin_epoch(format::PassKind kind, std::uint64_t blocks) {
        format::EpochBegin begin;
        begin.epoch = ++epoch_;
        begin.incarnation.bytes.fill(std::byte{7});
        begin.full = epoch_ == 1;
        wire_->give(format::encode(begin, sequence_++));
        format::PassBegin pass;
        pass.epoch = epoch_;
        pass.pass = 1;
        pass.kind = kind;
        pass.cut_time = clock_.wall();
        pass.bytes = blocks * block_size;
        wire_->give(format::encode(pass, sequence_++));
        return pass.cut_time;
    }
    void close_epoch(const std::vector<std::uint64_t>& blocks) {
        const WallTime cut = begin_epoch(format::PassKind::frozen, blocks.size());
        const auto chain = send_blocks(blocks);
        format::PassEnd end;
        end.epoch = epoch_;
        end.pass = 1;
        end.kind = format::PassKind::frozen;
        end.count = blocks.size();
        end.chain = chain.value;
        end.cut_time = cut;
        wire_->give(format::encode(end, sequence_++));
        until([&] { return wire_->closed == epoch_; });
    }
    // Until all of them are acknowledged.
    format::ManifestChain send_blocks(const std::vector<std::uint64_t>& blocks) {
        format::ManifestChain chain;
        wire_->acknowledged = 0;
        Bytes content(block_size);
        for (std::uint64_t i = 0; i < blocks.size(); ++i) {
            for (std::size_t at = 0; at < block_size; at += 8) {
                const std::uint64_t word = random_();
                std::memcpy(content.data() + at, &word, 8);
            }
            format::ExtentHead extent;
            extent.pass = 1;
            extent.index = i;
            extent.offset = blocks[i] * block_size;
            extent.length = block_size;
            extent.digest = format::xxh3_128(content);
            chain.add(0, extent.offset, extent.length, extent.kind, extent.digest);
            wire_->give(format::encode(extent, content, 0, sequence_++));
            if ((i + 1 - wire_->acknowledged) * block_size >= window)
                until([&] { return (i + 1 - wire_->acknowledged) * block_size < window; });
        }
        until([&] { return wire_->acknowledged == blocks.size(); });
        return chain;
    }

    Options options_;
    platform::EventLoop loop_;
    platform::LoopClock clock_;
    platform::CpuThreads cpus_;
    std::unique_ptr<platform::AioDisk> disk_;
    std::unique_ptr<platform::DirectoryVolume> volume_;
    std::unique_ptr<core::Target> target_;
    std::shared_ptr<Wire> wire_;
    std::mt19937_64 random_{1};
    std::uint64_t sequence_ = 0, epoch_ = 0, changed_ = 0;
};

// Past the page cache: what the volume gives at best.
double read_raw(const std::string& folder, std::uint64_t* bytes) {
    Buffer buffer(raw_chunk);
    const auto begun = std::chrono::steady_clock::now();
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
        const int fd = ::open(file.path().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t got = 0;
        while ((got = ::read(fd, buffer.data(), raw_chunk)) > 0)
            *bytes += static_cast<std::uint64_t>(got);
        ::close(fd);
    }
    return seconds_since(begun);
}

// So many bytes of a file, in long pieces, from its begin, and there again where it ends.
void pass(const std::string& path, std::uint64_t bytes, bool write) {
    const int fd =
        ::open(path.c_str(), (write ? O_CREAT | O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC, 0600);
    Buffer buffer(raw_chunk);
    std::ranges::fill(buffer.span(), std::byte{1});
    off_t at = 0;
    for (std::uint64_t done = 0; done < bytes;) {
        const ssize_t got = write ? ::pwrite(fd, buffer.data(), raw_chunk, at)
                                  : ::pread(fd, buffer.data(), raw_chunk, at);
        if (got < 0 || (got == 0 && at == 0)) {
            std::perror(path.c_str());
            std::exit(1);
        }
        at = got == 0 ? 0 : at + got;
        done += static_cast<std::uint64_t>(got);
    }
    if (write && ::fdatasync(fd) != 0) std::perror(path.c_str());
    ::close(fd);
}

// The longest file of the retention.
std::string longest_undo(const Options& options) {
    std::string undo;
    std::uintmax_t longest = 0;
    for (const auto& file : std::filesystem::directory_iterator(options.retention())) {
        if (file.file_size() < longest) continue;
        longest = file.file_size();
        undo = file.path();
    }
    return undo;
}

// What a rewind does with as many bytes, without its order, its places and its checks: undo and
// disk are read, and undo and disk are written, all four side by side.
double move_raw(const Options& options, std::uint64_t bytes) {
    const std::string undo = longest_undo(options);
    const std::string saved = options.folder + "/saved.raw";
    std::string moved = options.device;
    if (moved.empty()) {
        moved = options.folder + "/moved.raw";
        pass(moved, bytes, true);  // as the disk's, its places are there
    }
    const auto begun = std::chrono::steady_clock::now();
    {
        const std::jthread a(pass, undo, bytes, false), b(pass, options.disk(), bytes, false),
            c(pass, saved, bytes, true), d(pass, moved, bytes, true);
    }
    const double seconds = seconds_since(begun);
    std::filesystem::remove(saved);
    if (options.device.empty()) std::filesystem::remove(moved);
    return seconds;
}

// What each device gives raw, one way and both ways at once, and by way of the page cache: to see
// that limits hold. What is on the disk is lost.
void measure_devices(const Options& options) {
    constexpr std::uint64_t bytes = 256ULL << 20;
    const std::string undo = longest_undo(options);
    const std::string saved = options.folder + "/saved.raw";
    const auto rate = [&](const char* name, const std::function<void()>& work) {
        const auto begun = std::chrono::steady_clock::now();
        work();
        std::cout << ",\"" << name << "\":" << static_cast<double>(bytes) / seconds_since(begun);
    };
    rate("retention_read", [&] { pass(undo, bytes, false); });
    rate("retention_write", [&] { pass(saved, bytes, true); });
    rate("retention_each_way",
         [&] { const std::jthread a(pass, undo, bytes, false), b(pass, saved, bytes, true); });
    rate("retention_cached_write", [&] {
        std::ofstream file(saved, std::ios::binary);
        const std::vector<char> content(raw_chunk);
        for (std::uint64_t done = 0; done < bytes; done += raw_chunk)
            file.write(content.data(), static_cast<std::streamsize>(content.size()));
        file.close();
        const int fd = ::open(saved.c_str(), O_WRONLY | O_CLOEXEC);
        if (!file || ::fdatasync(fd) != 0) std::perror(saved.c_str());
        ::close(fd);
    });
    std::filesystem::remove(saved);
    rate("replica_read", [&] { pass(options.device, bytes, false); });
    rate("replica_write", [&] { pass(options.device, bytes, true); });
    rate("replica_each_way", [&] {
        const std::jthread a(pass, options.device, bytes, false),
            b(pass, options.device, bytes, true);
    });
}

// What a block device has done so far.
struct Moved {
    std::uint64_t reads = 0, read_bytes = 0, writes = 0, written_bytes = 0;

    [[nodiscard]] static Moved of(dev_t device) {
        std::ifstream stat("/sys/dev/block/" + std::to_string(major(device)) + ":" +
                           std::to_string(minor(device)) + "/stat");
        std::uint64_t merged = 0, waited = 0;
        Moved moved;
        stat >> moved.reads >> merged >> moved.read_bytes >> waited >> moved.writes >> merged >>
            moved.written_bytes;
        moved.read_bytes *= 512;
        moved.written_bytes *= 512;
        return moved;
    }
    [[nodiscard]] Moved since(const Moved& before) const {
        return {reads - before.reads, read_bytes - before.read_bytes, writes - before.writes,
                written_bytes - before.written_bytes};
    }
    void print(const char* name) const {
        std::cout << ",\"" << name << "\":{\"reads\":" << reads << ",\"read_bytes\":" << read_bytes
                  << ",\"writes\":" << writes << ",\"written_bytes\":" << written_bytes << "}";
    }
};

// Those of the retention and of the disk.
std::pair<Moved, Moved> moved_so_far(const Options& options) {
    struct stat retention{}, disk{};
    if (::stat(options.retention().c_str(), &retention) != 0 ||
        ::stat(options.disk().c_str(), &disk) != 0)
        std::perror(options.disk().c_str());
    return {Moved::of(retention.st_dev), Moved::of(disk.st_rdev)};
}

Options read_options(const std::vector<std::string>& words) {
    Options options;
    options.folder = words[0];
    options.disk_bytes = std::stoull(words[1]) << 20;
    options.epochs = std::stoull(words[2]);
    options.blocks = std::stoull(words[3]);
    options.distinct = std::stoull(words[4]);
    options.compression = std::stoi(words[5]);
    options.ahead = std::stoull(words[6]);
    if (words.size() == 8) options.device = words[7];
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() != 7 && words.size() != 8) {
        std::cerr
            << "usage: journal FOLDER DISK_MIB EPOCHS BLOCKS DISTINCT COMPRESSION AHEAD [DEVICE]\n";
        return 2;
    }
    const Options options = read_options(words);
    auto bench = std::make_unique<Bench>(options);
    bench->fill();
    const std::uint64_t before = bench->retention();
    const auto begun = std::chrono::steady_clock::now();
    bench->change();
    const double receiving = seconds_since(begun);
    const std::uint64_t kept = bench->retention() - before;
    const auto [failover, rolled_back] = bench->fail_over();
    std::string line;
    if (!options.device.empty()) {
        std::cout << "ready" << std::endl;
        std::getline(std::cin, line);
    }
    std::uint64_t raw_bytes = 0;
    const double raw = read_raw(options.retention(), &raw_bytes);
    const auto moved_before = moved_so_far(options);
    const double cpu_before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    const double loop_before = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    const auto [back, back_bytes] = bench->go_to(1);
    const double loop_used = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - loop_before;
    const double cpu_used = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
    const auto moved_after = moved_so_far(options);
    const auto [forth, forth_bytes] = bench->go_to(bench->newest());
    std::cout << "{\"changed_bytes\":" << bench->changed() << ",\"retention_bytes\":" << kept
              << ",\"receive_seconds\":" << receiving << ",\"failover_seconds\":" << failover
              << ",\"rolled_back_bytes\":" << rolled_back << ",\"raw_bytes\":" << raw_bytes
              << ",\"raw_seconds\":" << raw << ",\"back_bytes\":" << back_bytes
              << ",\"back_seconds\":" << back << ",\"back_cpu_seconds\":" << cpu_used
              << ",\"back_loop_seconds\":" << loop_used << ",\"forth_bytes\":" << forth_bytes
              << ",\"forth_seconds\":" << forth;
    bench.reset();
    std::cout << ",\"moved_seconds\":" << (back_bytes == 0 ? 0 : move_raw(options, back_bytes));
    if (!options.device.empty()) {
        moved_after.first.since(moved_before.first).print("retention");
        moved_after.second.since(moved_before.second).print("replica");
        if (line == "raw") measure_devices(options);
    }
    std::cout << "}\n";
    return 0;
}
