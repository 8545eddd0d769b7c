// SPDX-License-Identifier: Apache-2.0
// mixer: writes in every way that user space has, at random, keeps in memory what each disk must
// hold by then, and compares that with the disk at its end. One thread and one region for each
// --disk.
//
//   --disk PATH[@FIRST+BYTES] ...   may name a disk again, with another region
//   --kinds A,B,...     of the list below (default: all)
//   --need A,B,...      each of these must have been done at least once on each disk: it goes on
//   until then
//   --spare PATH:KIND ...   but not there this one, which some kernels refuse there
//   --discard-zeroes    what was discarded must read as zeroes (otherwise: anything)
//   --operations N, --seconds S, or until SIGTERM; --rate N operations a second, each thread
//   --seed N
//
// Of the first block that is not as written it tells what was done to it, the last ones.
//
// A kind that a disk refuses (EOPNOTSUPP, ENOTTY, EINVAL) is not tried again there; those of
// io_uring are left out, and not needed, where the kernel has none. Exit status 0: all writes
// succeeded, and every disk holds what was written.
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "lib/direct.h"
#include "lib/options.h"
#include "lib/shadow.h"
#include "lib/text.h"

namespace ebb::kmodtest {
namespace {

std::atomic<bool> stop_asked{false};
std::atomic<bool> failed{false};

double now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

std::vector<std::string> words(const std::string& list) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at < list.size();) {
        std::size_t end = std::min(list.find(',', at), list.size());
        out.push_back(list.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

struct Target {
    std::string path;
    std::uint64_t first = 0;
    std::uint64_t bytes = 0;
    std::uint64_t lbs = 512;
    int direct = -1;
    int buffered = -1;
};

// A range of a disk, aligned to its logical blocks unless it is for the page cache.
struct Range {
    std::uint64_t at;
    std::uint64_t length;
};

class Mixer {
public:
    Mixer(const Target& target, const Options& options, std::uint64_t seed)
        : target_(target),
          options_(options),
          discard_zeroes_(options.has("discard-zeroes")),
          aio_(batch),
          memory_(aligned(most + 4096)),
          random_(seed) {}
    ~Mixer() {
        if (map_ != MAP_FAILED) munmap(map_, target_.first + target_.bytes);
        if (ring_ready_) io_uring_queue_exit(&ring_);
        if (poll_ready_) io_uring_queue_exit(&poll_ring_);
    }
    Mixer(const Mixer&) = delete;
    Mixer& operator=(const Mixer&) = delete;

    bool prepare();
    void run(double until);
    [[nodiscard]] bool judge();
    [[nodiscard]] std::string json() const;

private:
    static constexpr unsigned batch = 24;
    static constexpr std::uint64_t most = 4 << 20;

    struct Entry {
        std::size_t kind;
        Range range;
    };
    using Operation = int (Mixer::*)();  // 0 or a negative errno
    struct Kind {
        const char* name;
        Operation run;
        unsigned weight;
    };
    static const std::array<Kind, 20> kinds;

    std::uint64_t pick(std::uint64_t below) { return random_() % below; }
    Range range(std::uint64_t unit, std::uint64_t longest);
    std::span<const std::byte> fill(std::uint64_t length, std::size_t offset = 0);
    int write(int fd, Range r, int flags);
    void tell(std::uint64_t at) const;
    void leave_out_rings(int error);
    [[nodiscard]] std::size_t missing() const;
    [[nodiscard]] static bool clears(std::size_t kind);
    std::vector<Piece> pieces(bool consecutive);
    int batch_done(const std::vector<Piece>& all);
    int ring(io_uring& ring);
    int refused(Range r);
    int clear(unsigned long request, bool discard);
    int allocate(int mode);

    int buffered();
    int flushed();
    int mapped();
    int direct() { return write(target_.direct, range(target_.lbs, 256 << 10), 0); }
    int subblock() { return write(target_.direct, range(target_.lbs, target_.lbs), 0); }
    int large() { return write(target_.direct, range(target_.lbs, most), 0); }
    int vectored();
    int batched();
    int sequential();
    int uring() { return ring(ring_); }
    int polled();
    int hipri() { return write(target_.direct, range(target_.lbs, 16 << 10), RWF_HIPRI); }
    int nowait() { return write(target_.direct, range(target_.lbs, 64 << 10), RWF_NOWAIT); }
    int forced() { return write(target_.direct, range(target_.lbs, 64 << 10), RWF_DSYNC); }
    int synced();
    int discard() { return clear(BLKDISCARD, true); }
    int secure() { return clear(BLKSECDISCARD, true); }
    int zeroout() { return clear(BLKZEROOUT, false); }
    int punch() { return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE); }
    int zero() { return allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE); }

    Target target_;
    const Options& options_;
    bool discard_zeroes_;
    AioBatch aio_;
    Aligned memory_;
    std::mt19937_64 random_;
    Shadow shadow_;
    io_uring ring_{}, poll_ring_{};
    bool ring_ready_ = false, poll_ready_ = false;
    void* map_ = MAP_FAILED;
    std::array<std::uint64_t, 20> done_{};
    std::array<int, 20> refused_{};    // by which errno
    std::vector<std::size_t> needed_;  // indices of kinds
    std::vector<std::size_t> bag_;     // indices of kinds, as often as their weight
    std::size_t kind_ = 0;             // of the operation under way
    std::vector<Entry> history_;
    std::size_t differing_ = 0;
};

// buffered, flushed and mapped go through the page cache, at any byte.
const std::array<Mixer::Kind, 20> Mixer::kinds = {{
    {"buffered", &Mixer::buffered, 4},     {"flushed", &Mixer::flushed, 1},
    {"mapped", &Mixer::mapped, 1},         {"direct", &Mixer::direct, 4},
    {"subblock", &Mixer::subblock, 6},     {"large", &Mixer::large, 1},
    {"vectored", &Mixer::vectored, 3},     {"batched", &Mixer::batched, 2},
    {"sequential", &Mixer::sequential, 2}, {"uring", &Mixer::uring, 2},
    {"polled", &Mixer::polled, 2},         {"hipri", &Mixer::hipri, 2},
    {"nowait", &Mixer::nowait, 3},         {"forced", &Mixer::forced, 2},
    {"synced", &Mixer::synced, 1},         {"discard", &Mixer::discard, 2},
    {"secure", &Mixer::secure, 1},         {"zeroout", &Mixer::zeroout, 2},
    {"punch", &Mixer::punch, 1},           {"zero", &Mixer::zero, 1},
}};

Range Mixer::range(std::uint64_t unit, std::uint64_t longest) {
    const std::uint64_t units = target_.bytes / unit;
    std::uint64_t most_units = std::min(longest / unit, units);
    // Short ones more often than long ones.
    if (pick(2))
        most_units = std::min<std::uint64_t>(most_units, std::max<std::uint64_t>(8192 / unit, 1));
    const std::uint64_t count = 1 + pick(most_units);
    std::uint64_t at = pick(units - count + 1);
    if (pick(16) == 0) at = units - count;  // up to the very end
    history_.push_back({kind_, {target_.first + at * unit, count * unit}});
    return history_.back().range;
}

std::span<const std::byte> Mixer::fill(std::uint64_t length, std::size_t offset) {
    std::byte* to = memory_.get() + offset;
    for (std::uint64_t i = 0; i < length; i += 8) {
        const std::uint64_t value = random_();
        std::memcpy(to + i, &value, std::min<std::uint64_t>(8, length - i));
    }
    return {to, length};
}

int Mixer::write(int fd, Range r, int flags) {
    auto data = fill(r.length);
    iovec vector{memory_.get(), r.length};
    ssize_t n = pwritev2(fd, &vector, 1, static_cast<off_t>(r.at), flags);
    if (n < 0 && errno == EAGAIN && (flags & RWF_NOWAIT))
        n = pwritev2(fd, &vector, 1, static_cast<off_t>(r.at), 0);
    if (n < 0) return -errno;
    shadow_.wrote(r.at, data.subspan(0, static_cast<std::size_t>(n)));
    // NOWAIT may be short: the disk had no more requests.
    if (static_cast<std::uint64_t>(n) == r.length || (flags & RWF_NOWAIT)) return 0;
    return -EIO;
}

int Mixer::buffered() {
    return write(target_.buffered, range(1, 32 << 10), 0);
}

int Mixer::flushed() {
    if (int error = buffered()) return error;
    return fdatasync(target_.buffered) ? -errno : 0;
}

int Mixer::synced() {
    if (int error = direct()) return error;
    return fdatasync(target_.direct) ? -errno : 0;
}

int Mixer::mapped() {
    if (map_ == MAP_FAILED)
        map_ = mmap(nullptr, target_.first + target_.bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                    target_.buffered, 0);
    if (map_ == MAP_FAILED) return -errno;
    Range r = range(1, 16 << 10);
    auto data = fill(r.length);
    std::memcpy(static_cast<std::byte*>(map_) + r.at, data.data(), r.length);
    shadow_.wrote(r.at, data);
    const std::uint64_t page = r.at / 4096 * 4096;
    return msync(static_cast<std::byte*>(map_) + page, r.at + r.length - page, MS_SYNC) ? -errno
                                                                                        : 0;
}

// Segments of one write lie apart in memory and are no multiple of a page.
int Mixer::vectored() {
    const std::size_t count = 2 + pick(6);
    const std::uint64_t unit = target_.lbs;
    const std::uint64_t longest =
        std::min<std::uint64_t>(count * 8 * unit, target_.bytes / unit * unit);
    Range r = range(unit, longest);
    std::vector<iovec> vectors;
    std::vector<std::byte> whole(r.length);
    std::uint64_t left = r.length, offset = 0, filled = 0;
    while (left > 0) {
        const bool last = vectors.size() + 1 == count;
        const std::uint64_t part =
            last ? left : unit * (1 + pick(std::min<std::uint64_t>(left / unit, 8)));
        auto data = fill(part, offset);
        std::memcpy(whole.data() + filled, data.data(), part);
        vectors.push_back({memory_.get() + offset, part});
        offset += part + 512 * pick(8);
        offset = (offset + unit - 1) / unit * unit;
        filled += part;
        left -= part;
    }
    ssize_t n = pwritev(target_.direct, vectors.data(), static_cast<int>(vectors.size()),
                        static_cast<off_t>(r.at));
    if (n < 0) return -errno;
    shadow_.wrote(r.at, std::span(whole).subspan(0, static_cast<std::size_t>(n)));
    return static_cast<std::uint64_t>(n) == r.length ? 0 : -EIO;
}

// Distinct ranges, filled: neighbours, which requests are merged of, or anywhere.
std::vector<Piece> Mixer::pieces(bool consecutive) {
    const std::uint64_t unit = std::max<std::uint64_t>(target_.lbs, pick(2) ? 4096 : 512);
    std::vector<Piece> all;
    const std::uint64_t units = target_.bytes / unit;
    const std::uint64_t count = std::min<std::uint64_t>(batch, units);
    const std::uint64_t share = units / count;
    const std::uint64_t start = pick(units - count + 1);
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t at = consecutive ? start + i : i * share + pick(share);
        fill(unit, i * unit);
        all.push_back(
            {target_.direct, memory_.get() + i * unit, unit, target_.first + at * unit, 0});
        history_.push_back({kind_, {all.back().offset, unit}});
    }
    return all;
}

int Mixer::batch_done(const std::vector<Piece>& all) {
    int error = 0;
    for (const auto& piece : all) {
        if (piece.result == static_cast<long>(piece.length))
            shadow_.wrote(piece.offset, {piece.data, piece.length});
        else
            error = piece.result < 0 ? static_cast<int>(piece.result) : -EIO;
    }
    return error;
}

int Mixer::batched() {
    auto all = pieces(false);
    const bool good = aio_.run(all, true);
    const int error = batch_done(all);
    return good || error ? error : -EIO;
}

int Mixer::sequential() {
    auto all = pieces(true);
    const bool good = aio_.run(all, true);
    const int error = batch_done(all);
    return good || error ? error : -EIO;
}

int Mixer::ring(io_uring& ring) {
    auto all = pieces(pick(2) == 0);
    for (std::size_t i = 0; i < all.size(); ++i) {
        io_uring_sqe* entry = io_uring_get_sqe(&ring);
        io_uring_prep_write(entry, all[i].fd, all[i].data, static_cast<unsigned>(all[i].length),
                            all[i].offset);
        io_uring_sqe_set_data64(entry, i);
    }
    io_uring_submit(&ring);
    for (std::size_t i = 0; i < all.size(); ++i) {
        io_uring_cqe* event = nullptr;
        int error;
        while ((error = io_uring_wait_cqe(&ring, &event)) == -EINTR) {
        }
        if (error) return error;
        all[io_uring_cqe_get_data64(event)].result = event->res;
        io_uring_cqe_seen(&ring, event);
    }
    return batch_done(all);
}

int Mixer::polled() {
    if (!poll_ready_) {
        if (io_uring_queue_init(batch, &poll_ring_, IORING_SETUP_IOPOLL) < 0) return -EOPNOTSUPP;
        poll_ready_ = true;
    }
    return ring(poll_ring_);
}

// What the page cache held of it, not yet written, may be gone.
int Mixer::refused(Range r) {
    const int error = errno;
    shadow_.unknown(r.at, r.length);
    return -error;
}

int Mixer::clear(unsigned long request, bool discard) {
    Range r = range(target_.lbs, 1 << 20);
    std::uint64_t arguments[2] = {r.at, r.length};
    if (ioctl(target_.direct, request, arguments) != 0) return refused(r);
    if (discard && !discard_zeroes_)
        shadow_.unknown(r.at, r.length);
    else
        shadow_.zeroed(r.at, r.length);
    return 0;
}

int Mixer::allocate(int mode) {
    Range r = range(target_.lbs, 1 << 20);
    if (fallocate(target_.buffered, mode, static_cast<off_t>(r.at), static_cast<off_t>(r.length)))
        return refused(r);
    shadow_.zeroed(r.at, r.length);
    return 0;
}

// Where the kernel has no io_uring, nobody writes by it, and it is not needed.
void Mixer::leave_out_rings(int error) {
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        if (kinds[i].run != &Mixer::uring && kinds[i].run != &Mixer::polled) continue;
        refused_[i] = error;
        std::erase(bag_, i);
        if (error == ENOSYS) std::erase(needed_, i);
    }
}

bool Mixer::prepare() {
    auto wanted = words(options_.get("kinds"));
    for (std::size_t i = 0; i < kinds.size(); ++i)
        if (wanted.empty() ||
            std::find(wanted.begin(), wanted.end(), kinds[i].name) != wanted.end())
            bag_.insert(bag_.end(), kinds[i].weight, i);
    const auto spared = options_.all("spare");
    for (const auto& name : words(options_.get("need")))
        for (std::size_t i = 0; i < kinds.size(); ++i)
            if (name == kinds[i].name && !std::ranges::count(spared, target_.path + ":" + name))
                needed_.push_back(i);
    if (bag_.empty()) {
        fprintf(stderr, "mixer: no such kinds\n");
        return false;
    }
    const int error = io_uring_queue_init(batch, &ring_, 0);
    ring_ready_ = error == 0;
    if (!ring_ready_) leave_out_rings(-error);
    if (shadow_.take(target_.direct, target_.first, target_.bytes)) return true;
    fprintf(stderr, "mixer: %s cannot be read\n", target_.path.c_str());
    return false;
}

// A kind that is needed and was not done, nor refused, yet; kinds.size() if there is none.
std::size_t Mixer::missing() const {
    for (std::size_t kind : needed_)
        if (!done_[kind] && !refused_[kind]) return kind;
    return kinds.size();
}

// Busy are pages of what is to be cleared, while another one has the disk for itself.
bool Mixer::clears(std::size_t kind) {
    constexpr std::string_view clearing[] = {"discard", "secure", "zeroout", "punch", "zero"};
    return std::ranges::find(clearing, kinds[kind].name) != std::end(clearing);
}

void Mixer::run(double until) {
    const std::uint64_t operations = options_.number("operations", ~0ull);
    const double rate = static_cast<double>(options_.number("rate", 0));
    double next = now();
    for (std::uint64_t n = 0; !failed && !bag_.empty(); ++n) {
        const bool enough = stop_asked || n >= operations || now() > until;
        const std::size_t kind = kind_ = enough ? missing() : bag_[pick(bag_.size())];
        if (kind == kinds.size()) break;
        const int error = (this->*kinds[kind].run)();
        if (!error) {
            ++done_[kind];
        } else if (error == -EOPNOTSUPP || error == -ENOTTY || error == -EINVAL) {
            refused_[kind] = -error;
            std::erase(bag_, kind);
        } else if (error != -EBUSY || !clears(kind)) {
            fprintf(stderr, "mixer: %s: %s: %s\n", target_.path.c_str(), kinds[kind].name,
                    strerror(-error));
            failed = true;
        }
        if (rate <= 0) continue;
        next = std::max(next + 1 / rate, now() - 0.2);
        const double left = next - now();
        if (left > 0) usleep(static_cast<useconds_t>(left * 1e6));
    }
}

bool Mixer::judge() {
    if (fsync(target_.buffered) != 0) return false;
    const auto bad = shadow_.differing(target_.direct);
    differing_ = bad.size();
    bool good = bad.empty();
    if (!good) tell(bad[0]);
    for (std::size_t i : needed_)
        if (!done_[i]) {
            fprintf(stderr, "mixer: %s: no %s: %s\n", target_.path.c_str(), kinds[i].name,
                    strerror(refused_[i]));
            good = false;
        }
    return good;
}

void Mixer::tell(std::uint64_t at) const {
    std::size_t told = 0;
    for (std::size_t i = history_.size(); i-- > 0 && told < 8;) {
        const auto& [kind, r] = history_[i];
        if (r.at >= at + 4096 || r.at + r.length <= at) continue;
        ++told;
        fprintf(stderr, "%s byte %zu: %zu of %zu: %s, %zu bytes from %zu\n", target_.path.c_str(),
                at, i, history_.size(), kinds[kind].name, r.length, r.at);
    }
}

std::string Mixer::json() const {
    std::string out = "{\"disk\":\"" + target_.path + "\"," + text("\"differing\":%zu", differing_);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        if (done_[i])
            out += text(",\"%s\":%llu", kinds[i].name, static_cast<unsigned long long>(done_[i]));
        if (refused_[i]) out += text(",\"%s\":\"%s\"", kinds[i].name, strerrorname_np(refused_[i]));
    }
    return out + "}";
}

bool open_target(const std::string& spec, Target& target) {
    const std::size_t at = spec.find('@');
    target.path = spec.substr(0, at);
    target.direct = open(target.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    target.buffered = open(target.path.c_str(), O_RDWR | O_CLOEXEC);
    if (target.direct < 0 || target.buffered < 0) return false;
    int lbs = 0;
    if (ioctl(target.direct, BLKSSZGET, &lbs) == 0) target.lbs = static_cast<std::uint64_t>(lbs);
    target.bytes = static_cast<std::uint64_t>(lseek(target.buffered, 0, SEEK_END));
    if (at != std::string::npos) {
        target.first = std::strtoull(spec.c_str() + at + 1, nullptr, 0);
        target.bytes = std::strtoull(spec.c_str() + spec.find('+', at) + 1, nullptr, 0);
    }
    return target.bytes >= 1 << 20;
}

int main(int argc, char** argv) {
    Options options(argc, argv, {"discard-zeroes"});
    struct sigaction action{};
    action.sa_handler = [](int) { stop_asked = true; };
    sigaction(SIGTERM, &action, nullptr);
    std::vector<std::unique_ptr<Mixer>> mixers;
    for (const auto& spec : options.all("disk")) {
        Target target;
        if (!open_target(spec, target)) {
            fprintf(stderr, "mixer: %s: %s\n", spec.c_str(), strerror(errno));
            return 2;
        }
        mixers.push_back(std::make_unique<Mixer>(target, options,
                                                 options.number("seed", 1) * 7919 + mixers.size()));
        if (!mixers.back()->prepare()) return 2;
    }
    const double until = now() + static_cast<double>(options.number("seconds", 1000000));
    puts("mixing");
    fflush(stdout);
    std::vector<std::jthread> threads;
    for (auto& mixer : mixers) threads.emplace_back([&mixer, until] { mixer->run(until); });
    threads.clear();
    bool good = !failed && !mixers.empty();
    for (auto& mixer : mixers) {
        good &= mixer->judge();
        puts(mixer->json().c_str());
    }
    return good ? 0 : 1;
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
