// SPDX-License-Identifier: Apache-2.0
#include "model/writer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "lib/text.h"

namespace ebb::kmodmodel {
namespace {

constexpr std::size_t depth = 32;
// A run is to stay small enough to be judged in no time.
constexpr std::uint64_t most_writes = 60000;

bool is_data(Kind kind) {
    return kind <= Kind::buffered;
}

// Not every disk does it, nor at every moment.
bool may_be_refused(Kind kind) {
    return kind == Kind::nowait || kind == Kind::polled || kind == Kind::discard ||
           kind == Kind::erase;
}

// One bio, which is a member of a cut or not: what is aligned memory of at most 256 pages.
bool is_one_bio(Kind kind) {
    return kind == Kind::direct || kind == Kind::sync || kind == Kind::aio || kind == Kind::uring ||
           kind == Kind::polled;
}

}  // namespace

Writer::Writer(const Machine& machine, Model& model, Verdict& verdict, std::uint64_t run)
    : machine_(machine), model_(model), verdict_(verdict), run_(run) {
    if (io_uring_queue_init(depth, &uring_.ring, 0) < 0 ||
        io_uring_queue_init(depth, &polled_.ring, IORING_SETUP_IOPOLL) < 0 ||
        io_setup(depth, &context_) != 0)
        std::abort();
}

Writer::~Writer() {
    io_uring_queue_exit(&uring_.ring);
    io_uring_queue_exit(&polled_.ring);
    io_destroy(context_);
    for (const auto& [path, file] : buffered_) close(file);
}

void Writer::run(const std::vector<Operation>& operations, const std::atomic<bool>& stop) {
    bool first = true;
    while (!operations.empty() && (first || !stop) && !verdict_.failed()) {
        for (const auto& operation : operations) {
            if (!first && stop) break;
            step(operation);
        }
        first = false;
        while (!stop && model_.writes() > most_writes) usleep(1000);
    }
    reap(true);
}

std::uint64_t Writer::bytes(const Operation& operation) const {
    return operation.n * sector_bytes;
}

Writer::Pending Writer::begin(const Operation& o) {
    const OpenPath& path = machine_.path(o.path);
    Content content = is_data(o.kind)        ? Content::data
                      : o.kind == Kind::zero ? Content::zeroes
                                             : Content::discard;
    bool atomic = is_one_bio(o.kind) && !machine_.disk(path.disk).may_fail;
    Pending pending;
    pending.operation = &o;
    Extent extent{path.disk, path.first + o.at, o.n}, reach = extent;
    if (o.kind == Kind::buffered) {  // pages of the path
        std::uint64_t first = o.at / sectors_of_block * sectors_of_block;
        reach.first = path.first + first;
        reach.count =
            (o.at + o.n - first + sectors_of_block - 1) / sectors_of_block * sectors_of_block;
    }
    if (Keep* keep = machine_.keep()) {
        std::uint64_t block = reach.first / sectors_of_block;
        keep->touch(reach.disk, block,
                    (reach.first + reach.count - 1) / sectors_of_block + 1 - block);
    }
    pending.write = model_.issue(extent, content, atomic, reach);
    if (!is_data(o.kind)) return pending;
    pending.memory = kmodtest::aligned(bytes(o));
    for (std::uint64_t i = 0; i < o.n; ++i)
        sector_fill(pending.memory.get() + i * sector_bytes, run_,
                    {path.disk, path.first + o.at + i}, pending.write);
    return pending;
}

void Writer::finish(const Pending& pending, long result) {
    const Operation& o = *pending.operation;
    long due = is_data(o.kind) ? static_cast<long>(bytes(o)) : 0;
    bool ok = result == due;
    bool refused = may_be_refused(o.kind) && (result == -EAGAIN || result == -EOPNOTSUPP);
    // A write past the page cache first writes out what the cache has of the range, and fails
    // with that: one that failed may never have been sent.
    model_.done(pending.write, ok, ok);
    const std::uint32_t disk = machine_.path(o.path).disk;
    if (ok || refused || machine_.disk(disk).may_fail || machine_.is_gone(disk)) return;
    verdict_.fault(
        kmodtest::text("an application's write failed (%ld): %s", result, to_line(o).c_str()));
}

// A lane has its own: that a page could not be written is said once to each open file.
int Writer::buffered(std::uint32_t path) {
    auto [found, is_new] = buffered_.try_emplace(path, -1);
    if (is_new) found->second = open(machine_.path(path).device.c_str(), O_RDWR | O_CLOEXEC);
    return found->second;
}

long Writer::write_now(const Pending& pending) {
    const Operation& o = *pending.operation;
    const OpenPath& path = machine_.path(o.path);
    auto at = static_cast<off_t>(o.at * sector_bytes);
    std::uint64_t range[2] = {o.at * sector_bytes, bytes(o)};
    iovec vector{pending.memory.get(), bytes(o)};
    long result = 0;
    switch (o.kind) {
        case Kind::sync: result = pwritev2(path.direct, &vector, 1, at, RWF_DSYNC); break;
        case Kind::nowait: result = pwritev2(path.direct, &vector, 1, at, RWF_NOWAIT); break;
        case Kind::zero: result = ioctl(path.direct, BLKZEROOUT, range); break;
        case Kind::discard: result = ioctl(path.direct, BLKDISCARD, range); break;
        case Kind::erase: result = ioctl(path.direct, BLKSECDISCARD, range); break;
        case Kind::buffered:
            result = pwrite(buffered(o.path), pending.memory.get(), bytes(o), at);
            if (result >= 0 && fdatasync(buffered(o.path)) != 0) result = -1;
            break;
        default: result = pwrite(path.direct, pending.memory.get(), bytes(o), at); break;
    }
    return result < 0 ? -errno : result;
}

void Writer::step(const Operation& o) {
    switch (o.kind) {
        case Kind::flush: (void)fdatasync(machine_.path(o.path).direct); break;
        case Kind::reap: reap(true); break;
        case Kind::sleep: usleep(static_cast<useconds_t>(o.n)); break;
        case Kind::aio: issue_aio(begin(o)); break;
        case Kind::uring: issue_uring(uring_, begin(o)); break;
        case Kind::polled: issue_uring(polled_, begin(o)); break;
        default: {
            Pending pending = begin(o);
            finish(pending, write_now(pending));
            break;
        }
    }
    reap(false);
}

void Writer::issue_aio(Pending pending) {
    auto owned = std::make_unique<Pending>(std::move(pending));
    Pending& p = *owned;
    const Operation& o = *p.operation;
    io_prep_pwrite(&p.control, machine_.path(o.path).direct, p.memory.get(), bytes(o),
                   static_cast<off_t>(o.at * sector_bytes));
    p.control.data = &p;
    aio_[&p] = std::move(owned);
    iocb* control = &p.control;
    int sent = io_submit(context_, 1, &control);
    if (sent != 1) {
        finish(p, sent ? sent : -EIO);
        aio_.erase(&p);
    }
}

void Writer::issue_uring(Ring& ring, Pending pending) {
    auto owned = std::make_unique<Pending>(std::move(pending));
    Pending& p = *owned;
    const Operation& o = *p.operation;
    io_uring_sqe* entry = io_uring_get_sqe(&ring.ring);
    io_uring_prep_write(entry, machine_.path(o.path).direct, p.memory.get(),
                        static_cast<unsigned>(bytes(o)), o.at * sector_bytes);
    io_uring_sqe_set_data(entry, &p);
    ring.writes[&p] = std::move(owned);
    io_uring_submit(&ring.ring);
}

// All that is done already; with `all` everything, and else so much that there is room for one.
void Writer::reap(bool all) {
    do {
        reap_aio(aio_.size() >= depth || (all && !aio_.empty()));
    } while (all && !aio_.empty());
    reap_ring(uring_, all);
    reap_ring(polled_, all);
}

void Writer::reap_ring(Ring& ring, bool all) {
    do {
        reap_uring(ring, ring.writes.size() >= depth || (all && !ring.writes.empty()));
    } while (all && !ring.writes.empty());
}

void Writer::reap_aio(bool wait) {
    if (aio_.empty()) return;
    io_event events[depth];
    timespec none{};
    int count = io_getevents(context_, wait ? 1 : 0, depth, events, wait ? nullptr : &none);
    for (int i = 0; i < count; ++i) {
        auto* p = static_cast<Pending*>(events[i].data);
        finish(*p, static_cast<long>(events[i].res));
        aio_.erase(p);
    }
}

void Writer::reap_uring(Ring& ring, bool wait) {
    if (ring.writes.empty()) return;
    io_uring_cqe* done = nullptr;
    int failed = wait ? io_uring_wait_cqe(&ring.ring, &done) : io_uring_peek_cqe(&ring.ring, &done);
    while (failed == 0 && done) {
        auto* p = static_cast<Pending*>(io_uring_cqe_get_data(done));
        finish(*p, done->res);
        io_uring_cqe_seen(&ring.ring, done);
        ring.writes.erase(p);
        done = nullptr;
        failed = io_uring_peek_cqe(&ring.ring, &done);
    }
}

}  // namespace ebb::kmodmodel
