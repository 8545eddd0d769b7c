// SPDX-License-Identifier: Apache-2.0
// replicate MODE FOLDER [ARGUMENTS]: what is there is replicated (replica_site.h); one line of JSON
// says what it took.
//   fill MIB                 a disk of random content, sent for the first time
//   delta BLOCKS             so many of its blocks change, and a point is made
//   equal                    everything is compared again
//   wire                     the same over a link that counts
//   raw                      both disks are read as they are, at once
//   change BLOCKS            so many blocks of the source change, and nothing else
//   churn MIB LINK PERCENT SECONDS INTERVAL   a disk of MIB is written to at PERCENT of a link of
//                            LINK bytes/s, with a cut every INTERVAL ms: ages of the newest point
//   many DISKS MIB ROUNDS BLOCKS   empty disks, of which so many blocks change in each round
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <random>
#include <set>
#include <thread>

#include "replica_site.h"

namespace {

using namespace ebb;
using bench::Site;
using bench::SiteOptions;

constexpr std::size_t chunk = 4 << 20;
constexpr Duration sample_every = std::chrono::milliseconds(10);
constexpr auto load_step = std::chrono::milliseconds(5);
constexpr unsigned warm_up = 2;  // intervals that do not count

using Numbers = std::vector<std::uint64_t>;
using Random = std::mt19937_64;

double seconds_since(std::chrono::steady_clock::time_point begun) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

void randomise(Random& random, std::span<std::byte> content) {
    for (std::size_t at = 0; at < content.size(); at += 8) {
        const std::uint64_t word = random();
        std::memcpy(content.data() + at, &word, 8);
    }
}

std::string source_file(const std::string& folder, std::uint64_t number = 0) {
    return folder + "/source-" + std::to_string(number) + ".raw";
}

void make_disks(const std::string& folder, std::uint64_t disks, std::uint64_t mib) {
    for (std::uint64_t i = 0; i < disks; ++i) {
        bench::make_file(source_file(folder, i), mib << 20);
        bench::make_file(folder + "/replica-" + std::to_string(i) + ".raw", mib << 20);
    }
}

// Random, or zeroes: what is there is allocated, and quick to delete.
void write_all(const std::string& path, std::uint64_t bytes, bool zeroes) {
    const platform::FileDescriptor file(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
    Random random(bytes);
    Buffer content(chunk);
    std::memset(content.data(), 0, content.size());
    for (std::uint64_t at = 0; at < bytes; at += chunk) {
        if (!zeroes) randomise(random, content.span());
        if (::pwrite(file.get(), content.data(), chunk, static_cast<off_t>(at)) != chunk) {
            std::perror(path.c_str());
            std::exit(1);
        }
    }
}

std::set<std::uint64_t> choose(Random& random, std::uint64_t count, std::uint64_t of) {
    std::set<std::uint64_t> blocks;
    while (blocks.size() < std::min(count, of)) blocks.insert(random() % of);
    return blocks;
}

std::uint64_t blocks_of(const std::string& folder) {
    return bench::disk_files(folder, "source").empty()
               ? 0
               : static_cast<std::uint64_t>(
                     ::lseek(platform::FileDescriptor(
                                 ::open(source_file(folder).c_str(), O_RDONLY | O_CLOEXEC))
                                 .get(),
                             0, SEEK_END)) /
                     block_bytes;
}

SiteOptions on_demand(const std::string& folder) {
    SiteOptions options;
    options.folder = folder;
    options.source.interval = Duration::zero();
    return options;
}

void report(Site& site, double seconds) {
    const auto [there, back] = site.wire_bytes();
    const auto [source, target] = site.end();
    std::cout << "{\"seconds\":" << seconds << ",\"there_bytes\":" << there
              << ",\"back_bytes\":" << back << ",\"source_cpu\":" << source.seconds
              << ",\"target_cpu\":" << target.seconds << ",\"source_kib\":" << source.peak_kib
              << ",\"target_kib\":" << target.peak_kib << "}\n";
}

// Until the point that is made of everything.
void synchronise(SiteOptions options) {
    Site site(std::move(options));
    const auto begun = std::chrono::steady_clock::now();
    site.start();
    site.until([&] { return site.status().cuts_closed > 0; });
    report(site, seconds_since(begun));
}

void fill(const std::string& folder, const Numbers& numbers) {
    make_disks(folder, 1, numbers.at(0));
    write_all(source_file(folder), numbers[0] << 20, false);
    SiteOptions options = on_demand(folder);
    options.files.are_new = true;
    options.source.compression = 0;  // of random content it is a waste of time, and of the peers'
    synchronise(std::move(options));
}

void equal(const std::string& folder, bool counted) {
    SiteOptions options = on_demand(folder);
    options.source.full = options.source.compare = true;
    if (counted) options.link = 0;
    synchronise(std::move(options));
}

void delta(const std::string& folder, const Numbers& numbers) {
    SiteOptions options = on_demand(folder);
    options.link = 0;
    const auto all = blocks_of(folder);
    Site site(std::move(options));
    site.start();
    site.checkpoint();
    Random random(std::random_device{}());
    Buffer content(block_bytes);
    for (const std::uint64_t block : choose(random, numbers.at(0), all)) {
        randomise(random, content.span());
        site.tracker().write(0, block, content);
    }
    (void)site.wire_bytes();
    const auto begun = std::chrono::steady_clock::now();
    site.checkpoint();
    report(site, seconds_since(begun));
}

void change(const std::string& folder, const Numbers& numbers) {
    const std::string path = source_file(folder);
    const platform::FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    Random random(std::random_device{}());
    Buffer content(block_bytes);
    for (const std::uint64_t block : choose(random, numbers.at(0), blocks_of(folder))) {
        randomise(random, content.span());
        if (::pwrite(file.get(), content.data(), block_bytes,
                     static_cast<off_t>(block * block_bytes)) != block_bytes) {
            std::perror(path.c_str());
            std::exit(1);
        }
    }
    ::fsync(file.get());
}

void read_all(const std::string& path) {
    const platform::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    Buffer content(chunk);
    while (::read(file.get(), content.data(), chunk) > 0) {
    }
}

void raw(const std::string& folder) {
    const auto begun = std::chrono::steady_clock::now();
    std::thread other([&] { read_all(folder + "/replica-0.raw"); });
    read_all(source_file(folder));
    other.join();
    std::cout << "{\"seconds\":" << seconds_since(begun) << "}\n";
}

// Random blocks at a rate, by a thread of its own; behind its time, it makes up for it.
class Load {
public:
    Load(bench::FileTracker& tracker, std::uint64_t blocks, double blocks_per_s)
        : thread_([this, &tracker, blocks, blocks_per_s] {
              Random random(1);
              Buffer content(block_bytes);
              randomise(random, content.span());
              const auto begun = std::chrono::steady_clock::now();
              while (!over_) {
                  const auto due = static_cast<std::uint64_t>(seconds_since(begun) * blocks_per_s);
                  for (; written_ < due && !over_; ++written_) {
                      // Another content in each piece that could compress.
                      for (std::size_t at = 0; at < block_bytes; at += 32) {
                          const std::uint64_t word = random();
                          std::memcpy(content.data() + at, &word, 8);
                      }
                      tracker.write(0, random() % blocks, content);
                  }
                  std::this_thread::sleep_for(load_step);
              }
          }) {}
    ~Load() {
        over_ = true;
        thread_.join();
    }
    [[nodiscard]] std::uint64_t written() const { return written_; }

private:
    std::atomic<bool> over_ = false;
    std::atomic<std::uint64_t> written_ = 0;
    std::thread thread_;
};

double part_of(const std::vector<double>& sorted, double part) {
    return sorted.at(std::min(sorted.size() - 1,
                              static_cast<std::size_t>(static_cast<double>(sorted.size()) * part)));
}

void churn(const std::string& folder, const Numbers& numbers) {
    const std::uint64_t mib = numbers.at(0), link = numbers.at(1), percent = numbers.at(2),
                        seconds = numbers.at(3), interval = numbers.at(4);
    const bool there = !bench::disk_files(folder, "source").empty();
    make_disks(folder, 1, mib);
    for (const char* name : {"source", "replica"}) {
        if (there) break;
        write_all(bench::disk_files(folder, name).at(0), mib << 20, true);
    }
    SiteOptions options = on_demand(folder);
    options.link = link;
    options.files.cached = true;
    options.files.are_new = options.files.empty = true;
    options.source.interval = std::chrono::milliseconds(interval);
    Site site(std::move(options));
    site.start();
    site.until([&] { return site.status().cuts_closed > 0; });
    std::vector<double> ages;
    const double rate = static_cast<double>(link * percent) / 100 / block_bytes;
    const Load load(site.tracker(), (mib << 20) / block_bytes, rate);
    const auto begun = std::chrono::steady_clock::now();
    const double from = static_cast<double>(warm_up * interval) / 1000;
    std::optional<core::SourceStatus> first;
    for (bool due = false; seconds_since(begun) < from + static_cast<double>(seconds);) {
        due = false;
        site.clock().schedule(sample_every, [&] { due = true; });
        site.until([&] { return due; });
        if (seconds_since(begun) < from) continue;
        const auto status = site.status();
        if (!first) {
            first = status;
            (void)site.wire_bytes();
        }
        ages.push_back(static_cast<double>((site.clock().wall().ns - status.last_cut.ns)) / 1e9);
    }
    const auto last = site.status();
    std::ranges::sort(ages);
    std::cout << "{\"p50\":" << part_of(ages, 0.5) << ",\"p99\":" << part_of(ages, 0.99)
              << ",\"most\":" << ages.back()
              << ",\"points\":" << last.cuts_closed - first->cuts_closed
              << ",\"void\":" << last.cuts_void - first->cuts_void
              << ",\"load_bytes\":" << load.written() * block_bytes
              << ",\"load_seconds\":" << seconds_since(begun)
              << ",\"there_bytes\":" << site.wire_bytes().first << "}\n";
}

void many(const std::string& folder, const Numbers& numbers) {
    const std::uint64_t disks = numbers.at(0), mib = numbers.at(1), rounds = numbers.at(2),
                        blocks = numbers.at(3);
    make_disks(folder, disks, mib);
    SiteOptions options = on_demand(folder);
    options.link = 0;
    options.files.are_new = options.files.empty = options.files.cached = true;
    Site site(std::move(options));
    site.start();
    const auto begun = std::chrono::steady_clock::now();
    site.checkpoint();
    Random random(1);
    Buffer content(block_bytes);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        for (std::uint64_t i = 0; i < blocks; ++i) {
            randomise(random, content.span());
            site.tracker().write(static_cast<DiskIndex>(random() % disks),
                                 random() % ((mib << 20) / block_bytes), content);
        }
        site.checkpoint();
    }
    report(site, seconds_since(begun));
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() < 2) {
        std::cerr << "usage: replicate MODE FOLDER [NUMBER]...\n";
        return 2;
    }
    const std::string& mode = words[0];
    const std::string& folder = words[1];
    Numbers numbers;
    for (std::size_t i = 2; i < words.size(); ++i) numbers.push_back(std::stoull(words[i]));
    if (mode == "fill") fill(folder, numbers);
    if (mode == "delta") delta(folder, numbers);
    if (mode == "equal") equal(folder, false);
    if (mode == "wire") equal(folder, true);
    if (mode == "raw") raw(folder);
    if (mode == "change") change(folder, numbers);
    if (mode == "churn") churn(folder, numbers);
    if (mode == "many") many(folder, numbers);
    return 0;
}
