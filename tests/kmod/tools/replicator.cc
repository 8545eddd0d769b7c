// SPDX-License-Identifier: Apache-2.0
// replicator: a local replica of every disk of a group, from epochs alone.
//
//   --group N --replica DISK_ID=PATH ...   one file per disk, in the order of their numbers in
//   stamps
//   --initial          mark everything, bring it over in a live pass first
//   --interval MS      from cut to cut; --cuts N ends after N cuts, else SIGTERM ends
//   --slow-us US       wait before each release, so that writers meet frozen blocks
//   --cut-writes N     from one cut to the next, wait for so many writes besides the interval
//   --release-writes N wait for so many writes to the disk before each release of a frozen pass
//                      (either at most 10 s: the writers may have stopped)
//   --depth N          reads under way at once (and ranges per release)
//   --whole-every N    every Nth cut is a whole one, and its image is compared with the replica
//   --log F --tickets F   stamps of each closed cut for stampcheck
//   --json F           the account, written at the end
//   --compare          at the end, after a last cut: every byte of replica and disk
//   --abandon-on-void  give the epoch up after a void pass instead of going on with it
//   --hang-in-pass     stop for ever in the first frozen pass, half of it read (to be killed)
//
// Says "replicating" when the first bulk is over, then "closed" or "void REASON" for each cut.
//
// Of a frozen pass only what a release returned 0 for is kept, in memory, until the pass has ended
// whole; then it goes into the replica, then the epoch is confirmed. Exit status 0: the replica is
// at a closed cut and what was asked to be compared is equal.
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>

#include "lib/client.h"
#include "lib/direct.h"
#include "lib/options.h"
#include "lib/stamp.h"
#include "lib/text.h"

namespace ebb::kmodtest {
namespace {

volatile sig_atomic_t stop_asked = 0;

std::uint64_t now_us() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1000000 +
           static_cast<std::uint64_t>(t.tv_nsec) / 1000;
}

struct Disk {
    std::uint32_t id = 0;
    std::uint32_t index = 0;
    std::uint64_t bytes = 0;
    std::string source;
    int image = -1;
    int replica = -1;
    std::vector<bool>
        discarded;  // by block: the replica's content is as indeterminate as the disk's
};

struct Chunk {
    Disk* disk = nullptr;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool discarded = false;
    Aligned data;
};

enum class Outcome { closed, void_pass, failed };

class Replicator {
public:
    explicit Replicator(const Options& options)
        : options_(options),
          group_(static_cast<std::uint32_t>(options.number("group", 1))),
          depth_(options.number("depth", 32)),
          slow_us_(options.number("slow-us", 0)),
          batch_(static_cast<unsigned>(depth_)) {}

    int run();

private:
    int open_disks();
    int open_disk(const std::string& spec);
    int initial();
    Outcome pass(bool live, bool whole, std::vector<Chunk>& kept);
    Outcome read_pass(const Nest& begun, bool live, bool whole, std::vector<Chunk>& kept);
    Outcome read_disk(Disk& disk, std::uint64_t pass, bool live, std::vector<Chunk>& kept);
    Outcome read_ranges(Disk& disk, std::uint64_t pass, std::span<const ebb_extent> ranges,
                        std::vector<Chunk>& kept);
    Outcome wait_ready();
    std::uint64_t writes_seen(const Disk& disk);
    void wait_writes(const Disk& disk, std::uint64_t until);
    Outcome trouble(const char* what, int error);
    Outcome cut();
    void account(Outcome outcome);
    void apply(std::vector<Chunk>& kept);
    void log_chunk(const Chunk& chunk);
    void log(LogKind kind, std::uint64_t ticket);
    void keep_images();
    std::uint64_t compare_images();
    std::uint64_t compare_disks();
    void write_json(bool good);

    const Options& options_;
    std::uint32_t group_;
    std::size_t depth_;
    std::uint64_t slow_us_;
    AioBatch batch_;
    Client client_;
    Tickets tickets_;
    LogFile log_;
    bool logging_ = false;
    bool live_pass_ = false;
    std::map<std::uint32_t, std::size_t> by_id_;
    std::vector<std::unique_ptr<Disk>> disks_;
    std::vector<Aligned> images_;
    Nest last_pass_;
    std::uint64_t number_ = 0, closed_ = 0, live_ = 0, blocks_ = 0, mismatches_ = 0, wholes_ = 0;
    std::uint64_t held_ns_max_ = 0, cut_ns_max_ = 0, ready_us_max_ = 0, pool_peak_ = 0, masked_ = 0;
    std::vector<std::uint64_t> preserved_;
    std::map<std::string, std::uint64_t> void_reasons_;
};

int Replicator::open_disk(const std::string& spec) {
    auto disk = std::make_unique<Disk>();
    disk->id = static_cast<std::uint32_t>(std::strtoul(spec.c_str(), nullptr, 0));
    disk->index = static_cast<std::uint32_t>(disks_.size());
    Reply reply;
    Request request{.command = EBB_CMD_DISK_GET, .disk = disk->id};
    if (int error = client_.call(request, reply)) return error;
    disk->bytes = reply.disk[EBB_DISK_A_SECTORS] * 512;
    disk->source = device_path(reply.disk[EBB_DISK_A_DEV]);
    std::string image = device_path(reply.disk[EBB_DISK_A_IMAGE_DEV]);
    std::string path = spec.substr(spec.find('=') + 1);
    disk->image = open(image.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (disk->image < 0) {
        fprintf(stderr, "replicator: image device '%s': %s\n", image.c_str(), strerror(errno));
        return -errno;
    }
    disk->replica = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (disk->replica < 0 || ftruncate(disk->replica, static_cast<off_t>(disk->bytes)) != 0)
        return -errno;
    disk->discarded.resize((disk->bytes + stamp_block - 1) / stamp_block);
    by_id_[disk->id] = disks_.size();
    disks_.push_back(std::move(disk));
    return 0;
}

int Replicator::open_disks() {
    for (const auto& spec : options_.all("replica"))
        if (int error = open_disk(spec)) return error;
    return disks_.empty() ? -EINVAL : 0;
}

void Replicator::log(LogKind kind, std::uint64_t ticket) {
    LogRecord record;
    record.kind = kind;
    record.sequence = number_;
    record.ticket = ticket;
    log_.add(record);
}

Outcome Replicator::trouble(const char* what, int error) {
    if (error == -ESTALE) return Outcome::void_pass;
    fprintf(stderr, "replicator: %s: %s %s\n", what, strerror(-error), client_.message().c_str());
    return Outcome::failed;
}

Outcome Replicator::wait_ready() {
    std::uint64_t begun = now_us();
    for (;;) {
        Reply reply;
        Request request{.command = EBB_CMD_PASS_GET, .group = group_};
        int error = client_.call(request, reply);
        // A void pass may be forgotten by the time it is asked for.
        if (error == -ENOENT) return Outcome::void_pass;
        if (error) return trouble("pass-get", error);
        last_pass_ = reply.pass;
        std::uint64_t state = reply.pass[EBB_PASS_A_STATE];
        if (state == EBB_PASS_VOID) return Outcome::void_pass;
        if (state == EBB_PASS_READY) break;
        if (now_us() - begun > 120000000) return trouble("draining for 120 s", -ETIMEDOUT);
        usleep(300);
    }
    ready_us_max_ = std::max(ready_us_max_, now_us() - begun);
    return Outcome::closed;
}

std::uint64_t Replicator::writes_seen(const Disk& disk) {
    Reply reply;
    Request request{.command = EBB_CMD_DISK_GET, .disk = disk.id};
    return client_.call(request, reply) ? 0 : reply.disk[EBB_DISK_A_WRITES];
}

void Replicator::wait_writes(const Disk& disk, std::uint64_t until) {
    std::uint64_t begun = now_us();
    while (!stop_asked && writes_seen(disk) < until && now_us() - begun < 10000000) usleep(500);
}

Outcome Replicator::read_ranges(Disk& disk, std::uint64_t pass, std::span<const ebb_extent> ranges,
                                std::vector<Chunk>& kept) {
    std::vector<Piece> pieces;
    std::size_t first = kept.size();
    std::uint64_t pace = live_pass_ ? 0 : options_.number("release-writes", 0);
    std::uint64_t writes = pace ? writes_seen(disk) : 0;
    for (const auto& range : ranges) {
        Chunk chunk{&disk, range.sector * 512, range.nr_sectors * 512ull,
                    (range.flags & EBB_EXTENT_DISCARDED) != 0, nullptr};
        if (!chunk.discarded) {
            chunk.data = aligned(chunk.length);
            pieces.push_back({disk.image, chunk.data.get(), chunk.length, chunk.offset, 0});
        }
        kept.push_back(std::move(chunk));
    }
    bool read = batch_.run(pieces, false);
    if (slow_us_) usleep(static_cast<useconds_t>(slow_us_));
    if (pace) wait_writes(disk, writes + pace);
    Request request{.command = EBB_CMD_PASS_RELEASE, .disk = disk.id, .pass = pass};
    request.extents.assign(ranges.begin(), ranges.end());
    for (auto& extent : request.extents) extent.flags = 0;
    int error = read ? client_.call(request) : 0;
    if (!read) {
        // Reads fail when the pass is void; anything else is wrong.
        Outcome state = wait_ready();
        if (state == Outcome::closed) return trouble("reading the image", -EIO);
        error = -ESTALE;
    }
    if (error) {
        kept.resize(first);
        return trouble("release", error);
    }
    return Outcome::closed;
}

Outcome Replicator::read_disk(Disk& disk, std::uint64_t pass, bool live, std::vector<Chunk>& kept) {
    constexpr std::uint32_t most = 512;  // sectors per read
    std::int64_t at = 0;
    for (;;) {
        Reply reply;
        Request request{.command = EBB_CMD_PASS_MAP, .disk = disk.id, .pass = pass, .sector = at};
        if (int error = client_.call(request, reply)) return trouble("map", error);
        std::vector<ebb_extent> pieces;
        for (auto extent : reply.extents)
            while (extent.nr_sectors > 0) {
                auto part = extent;
                if (!(extent.flags & EBB_EXTENT_DISCARDED))
                    part.nr_sectors = std::min(extent.nr_sectors, most);
                pieces.push_back(part);
                extent.sector += part.nr_sectors;
                extent.nr_sectors -= part.nr_sectors;
            }
        for (std::size_t i = 0; i < pieces.size(); i += depth_) {
            std::size_t count = std::min(depth_, pieces.size() - i);
            Outcome outcome = read_ranges(disk, pass, std::span(pieces).subspan(i, count), kept);
            if (outcome != Outcome::closed) return outcome;
            if (live) apply(kept);
            if (!live && options_.has("hang-in-pass")) {
                puts("in pass");
                fflush(stdout);
                for (;;) pause();
            }
        }
        if (!reply.top.numbers.contains(EBB_A_NEXT_SECTOR)) return Outcome::closed;
        at = static_cast<std::int64_t>(reply.top[EBB_A_NEXT_SECTOR]);
    }
}

void Replicator::keep_images() {
    images_.clear();
    for (auto& disk : disks_) {
        images_.push_back(aligned(disk->bytes));
        std::vector<Piece> pieces;
        for (std::uint64_t at = 0; at < disk->bytes; at += 1 << 20)
            pieces.push_back({disk->image, images_.back().get() + at,
                              std::min<std::uint64_t>(1 << 20, disk->bytes - at), at, 0});
        if (!batch_.run(pieces, false)) {
            images_.clear();
            return;
        }
    }
}

Outcome Replicator::read_pass(const Nest& begun, bool live, bool whole, std::vector<Chunk>& kept) {
    std::uint64_t id = begun[EBB_PASS_A_ID];
    Outcome outcome = wait_ready();
    // Blocks may join a running pass: its end then asks for another look at the map.
    for (int turn = 0; outcome == Outcome::closed; ++turn) {
        for (auto& disk : disks_)
            if (outcome == Outcome::closed) outcome = read_disk(*disk, id, live, kept);
        if (outcome == Outcome::closed && whole) keep_images();
        Reply reply;
        Request get{.command = EBB_CMD_PASS_GET, .group = group_};
        if (client_.call(get, reply) == 0) last_pass_ = reply.pass;
        if (outcome != Outcome::closed) break;
        Request end{.command = EBB_CMD_PASS_END, .pass = id};
        int error = client_.call(end);
        if (!error) break;
        if (error != -EBUSY || turn > 100) outcome = trouble("end", error);
    }
    return outcome;
}

Outcome Replicator::pass(bool live, bool whole, std::vector<Chunk>& kept) {
    Request begin{.command = EBB_CMD_PASS_BEGIN,
                  .group = group_,
                  .kind = live ? EBB_PASS_LIVE : EBB_PASS_FROZEN,
                  .flags = whole ? 1u : 0u};
    Reply reply;
    int error = -EAGAIN;
    for (std::uint64_t begun = now_us(); error == -EAGAIN && now_us() - begun < 60000000;) {
        if (logging_ && !live) log(LogKind::cut_asked, tickets_.take());
        error = client_.call(begin, reply);
        // Writes of four generations ago have yet to land.
        if (error == -EAGAIN) usleep(1000);
    }
    if (error) return trouble("pass-begin", error);
    if (logging_ && !live) log(LogKind::cut_granted, tickets_.take());
    last_pass_ = reply.pass;
    live_pass_ = live;
    return read_pass(reply.pass, live, whole, kept);
}

void Replicator::log_chunk(const Chunk& chunk) {
    for (std::uint64_t at = 0; at < chunk.length; at += stamp_block) {
        std::uint64_t block = (chunk.offset + at) / stamp_block;
        if (!chunk.discarded && chunk.length - at >= stamp_block) {
            log_found(log_, chunk.disk->index, block, number_,
                      std::span<const std::byte, stamp_block>(chunk.data.get() + at, stamp_block));
            continue;
        }
        LogRecord record;
        record.kind = chunk.discarded ? LogKind::discarded : LogKind::found;
        record.disk = chunk.disk->index;
        record.block = block;
        record.ticket = number_;
        log_.add(record);
    }
}

void Replicator::apply(std::vector<Chunk>& kept) {
    for (auto& chunk : kept) {
        auto& flags = chunk.disk->discarded;
        for (std::uint64_t at = 0; at < chunk.length; at += stamp_block)
            flags[(chunk.offset + at) / stamp_block] = chunk.discarded;
        if (chunk.discarded) {
            chunk.data = aligned(chunk.length);
            std::memset(chunk.data.get(), 0, chunk.length);
        }
        ssize_t written = pwrite(chunk.disk->replica, chunk.data.get(), chunk.length,
                                 static_cast<off_t>(chunk.offset));
        if (written != static_cast<ssize_t>(chunk.length)) {
            fprintf(stderr, "replicator: cannot write the replica: %s\n", strerror(errno));
            _exit(3);
        }
        blocks_ += (chunk.length + stamp_block - 1) / stamp_block;
        if (logging_) log_chunk(chunk);
    }
    kept.clear();
}

void Replicator::account(Outcome outcome) {
    if (outcome == Outcome::void_pass) {
        const char* reason = void_reason(last_pass_[EBB_PASS_A_VOID_REASON]);
        ++void_reasons_[reason];
        printf("void %s\n", reason);
    }
    if (outcome == Outcome::closed) {
        preserved_.push_back(last_pass_[EBB_PASS_A_PRESERVED]);
        puts("closed");
    }
    fflush(stdout);
    held_ns_max_ = std::max(held_ns_max_, last_pass_[EBB_PASS_A_HELD_NS_MAX]);
    cut_ns_max_ = std::max(cut_ns_max_, last_pass_[EBB_PASS_A_CUT_DURATION_NS]);
    pool_peak_ = std::max(pool_peak_, last_pass_[EBB_PASS_A_POOL_PEAK_BYTES]);
}

Outcome Replicator::cut() {
    ++number_;
    std::uint64_t every = options_.number("whole-every", 0);
    bool whole = every && number_ % every == 0;
    std::vector<Chunk> kept;
    Outcome outcome = pass(false, whole, kept);
    account(outcome);
    if (outcome == Outcome::void_pass && options_.has("abandon-on-void")) {
        Request abandon{.command = EBB_CMD_EPOCH_ABANDON, .group = group_};
        if (int error = client_.call(abandon)) return trouble("abandon", error);
    }
    if (outcome != Outcome::closed) return outcome;
    apply(kept);
    for (auto& disk : disks_)
        if (fdatasync(disk->replica) != 0) return trouble("fdatasync", -errno);
    Request confirm{.command = EBB_CMD_EPOCH_CONFIRM, .group = group_};
    if (int error = client_.call(confirm)) return trouble("confirm", error);
    ++closed_;
    if (logging_) log(LogKind::cut_closed, tickets_.take());
    if (whole && !images_.empty()) {
        ++wholes_;
        mismatches_ += compare_images();
    }
    return outcome;
}

std::uint64_t differing(const Disk& disk, const std::byte* a, const std::byte* b, std::uint64_t at,
                        std::size_t length, const char* what, std::uint64_t& masked) {
    std::uint64_t bad = 0;
    for (std::size_t i = 0; i < length; i += stamp_block) {
        std::size_t n = std::min(stamp_block, length - i);
        if (std::memcmp(a + i, b + i, n) == 0) continue;
        if (disk.discarded[(at + i) / stamp_block]) {
            ++masked;
            continue;
        }
        if (bad++ < 4)
            fprintf(stderr, "replicator: disk %u block %llu differs from %s\n", disk.index,
                    static_cast<unsigned long long>((at + i) / stamp_block), what);
    }
    return bad;
}

std::uint64_t Replicator::compare_images() {
    std::uint64_t bad = 0;
    auto buffer = aligned(1 << 20);
    for (std::size_t d = 0; d < disks_.size(); ++d)
        for (std::uint64_t at = 0; at < disks_[d]->bytes; at += 1 << 20) {
            std::size_t n = std::min<std::uint64_t>(1 << 20, disks_[d]->bytes - at);
            if (pread(disks_[d]->replica, buffer.get(), n, static_cast<off_t>(at)) < 0) return 1;
            bad += differing(*disks_[d], images_[d].get() + at, buffer.get(), at, n,
                             "the whole cut's image", masked_);
        }
    images_.clear();
    return bad;
}

std::uint64_t Replicator::compare_disks() {
    std::uint64_t bad = 0;
    auto a = aligned(1 << 20), b = aligned(1 << 20);
    for (auto& disk : disks_) {
        int fd = open(disk->source.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (fd < 0) return 1;
        for (std::uint64_t at = 0; at < disk->bytes; at += 1 << 20) {
            std::size_t n = std::min<std::uint64_t>(1 << 20, disk->bytes - at);
            if (pread(fd, a.get(), n, static_cast<off_t>(at)) != static_cast<ssize_t>(n) ||
                pread(disk->replica, b.get(), n, static_cast<off_t>(at)) != static_cast<ssize_t>(n))
                bad++;
            bad += differing(*disk, a.get(), b.get(), at, n, "the disk", masked_);
        }
        close(fd);
    }
    return bad;
}

int Replicator::initial() {
    for (auto& disk : disks_) {
        Request mark{.command = EBB_CMD_DISK_MARK_ALL, .disk = disk->id};
        if (int error = client_.call(mark)) return error;
    }
    for (int attempt = 0; attempt < 10; ++attempt) {
        std::vector<Chunk> kept;
        ++live_;
        Outcome outcome = pass(true, false, kept);
        if (outcome == Outcome::closed) return 0;
        if (outcome == Outcome::failed) return -EIO;
    }
    return -ESTALE;
}

void Replicator::write_json(bool good) {
    std::sort(preserved_.begin(), preserved_.end());
    std::uint64_t median = preserved_.empty() ? 0 : preserved_[preserved_.size() / 2];
    std::string reasons;
    for (const auto& [name, count] : void_reasons_)
        reasons += text("%s\"%s\":%llu", reasons.empty() ? "" : ",", name.c_str(),
                        static_cast<unsigned long long>(count));
    auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
    std::string json = text(
        "{\"good\":%s,\"begun\":%llu,\"closed\":%llu,\"void\":{%s},\"preserved_median\":%llu,"
        "\"preserved_max\":%llu,\"held_ms_max\":%.3f,\"cut_us_max\":%.1f,\"ready_ms_max\":%.1f,"
        "\"pool_peak\":%llu,\"blocks\":%llu,\"wholes\":%llu,\"mismatches\":%llu,\"masked\":%llu}\n",
        good ? "true" : "false", n(number_), n(closed_), reasons.c_str(), n(median),
        n(preserved_.empty() ? 0 : preserved_.back()), static_cast<double>(held_ns_max_) / 1e6,
        static_cast<double>(cut_ns_max_) / 1e3, static_cast<double>(ready_us_max_) / 1e3,
        n(pool_peak_), n(blocks_), n(wholes_), n(mismatches_), n(masked_));
    fputs(json.c_str(), stdout);
    if (!options_.has("json")) return;
    FILE* file = fopen(options_.get("json").c_str(), "w");
    if (!file) return;
    fputs(json.c_str(), file);
    fclose(file);
}

int Replicator::run() {
    if (int error = client_.open()) return -error;
    if (options_.has("tickets") && !tickets_.open(options_.get("tickets"))) return 2;
    logging_ = options_.has("log");
    if (logging_ && !log_.open(options_.get("log"), false)) return 2;
    int error = open_disks();
    if (!error && options_.has("initial")) error = initial();
    if (error) {
        (void)trouble("start", error);
        return 2;
    }
    puts("replicating");
    fflush(stdout);
    std::uint64_t interval = options_.number("interval", 500) * 1000;
    std::uint64_t cuts = options_.number("cuts", 0);
    Outcome outcome = Outcome::closed;
    while (!stop_asked && (!cuts || number_ < cuts) && outcome != Outcome::failed) {
        std::uint64_t next = now_us() + interval;
        std::uint64_t pace = options_.number("cut-writes", 0);
        std::uint64_t writes = pace ? writes_seen(*disks_[0]) : 0;
        outcome = cut();
        if (pace) wait_writes(*disks_[0], writes + pace);
        while (!stop_asked && now_us() < next)
            usleep(static_cast<useconds_t>(std::min<std::uint64_t>(next - now_us() + 1, 100000)));
    }
    // The last one: the writers have stopped, so nothing can void it but a fault.
    for (int attempt = 0; attempt < 20 && outcome != Outcome::failed; ++attempt)
        if ((outcome = cut()) == Outcome::closed) break;
    bool good = outcome == Outcome::closed && log_.flush() == logging_;
    if (!logging_) good = outcome == Outcome::closed;
    if (options_.has("compare")) mismatches_ += compare_disks();
    good = good && mismatches_ == 0;
    write_json(good);
    return good ? 0 : 1;
}

int main(int argc, char** argv) {
    struct sigaction action{};
    action.sa_handler = [](int) { stop_asked = 1; };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    Options options(argc, argv, {"initial", "compare", "abandon-on-void", "hang-in-pass"});
    return Replicator(options).run();
}

}  // namespace
}  // namespace ebb::kmodtest

int main(int argc, char** argv) {
    return ebb::kmodtest::main(argc, argv);
}
