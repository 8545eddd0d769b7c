// SPDX-License-Identifier: Apache-2.0
#include "platform/aio_disk.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "format/digest.h"
#include "platform/request_cost.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

// Long discards and zeroing go in steps, so that closing the disk does not wait for all of it.
constexpr std::uint64_t step_bytes = 64ULL << 20;
constexpr std::uint64_t look_bytes = 1ULL << 20;
constexpr unsigned blocking_threads = 2;
constexpr auto retry_delay = std::chrono::milliseconds(10);

bool aligned(const void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory) % direct_io_alignment == 0;
}

}  // namespace

AioDisk::AioDisk(EventLoop& loop, AioDiskOptions options)
    : loop_(loop), options_(std::move(options)), event_(loop.context()), retry_(loop.context()) {}

AioDisk::~AioDisk() {
    alive_.reset();
    blocking_.reset();
    partial_.reset();
    boost::system::error_code ignored;
    event_.close(ignored);
    // Returns when all requests have ended.
    if (aio_ != nullptr) ::io_destroy(aio_);
}

Result<std::unique_ptr<AioDisk>> AioDisk::open(EventLoop& loop, const AioDiskOptions& options) {
    auto disk = std::unique_ptr<AioDisk>(new AioDisk(loop, options));
    if (auto status = disk->setup(); !status) return std::unexpected(status.error());
    return disk;
}

Status AioDisk::setup() {
    if (auto status = open_file(); !status) return status;
    if (auto status = measure(); !status) return status;
    const int result = ::io_setup(static_cast<int>(options_.queue_depth), &aio_);
    if (result < 0) return system_fail(-result, "io_setup for " + options_.path);
    const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) return system_fail(errno, "eventfd");
    event_.assign(event);
    blocking_ = std::make_unique<Worker>(loop_, blocking_threads, "ebb-disk");
    partial_ = std::make_unique<Worker>(loop_, 1, "ebb-partial");
    wait_for_events();
    return {};
}

Status AioDisk::open_file() {
    struct stat info{};
    if (::stat(options_.path.c_str(), &info) != 0) return system_fail(errno, options_.path);
    block_device_ = S_ISBLK(info.st_mode);
    if (!block_device_ && !S_ISREG(info.st_mode))
        return fail(ErrorCode::invalid, options_.path + " is neither a block device nor a file");
    int flags = (options_.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT;
    if (block_device_ && options_.exclusive) flags |= O_EXCL;
    int file = ::open(options_.path.c_str(), flags);
    // A file system without direct I/O (tmpfs) still serves for files, never for devices.
    if (file < 0 && errno == EINVAL && !block_device_)
        file = ::open(options_.path.c_str(), flags & ~O_DIRECT);
    if (file < 0) return system_fail(errno, "open " + options_.path);
    file_ = FileDescriptor(file);
    return {};
}

Status AioDisk::measure() {
    struct stat info{};
    if (::fstat(file_.get(), &info) != 0) return system_fail(errno, "stat " + options_.path);
    if (!seeks(block_device_ ? info.st_rdev : info.st_dev)) request_cost_ = no_seek_cost;
    if (!block_device_) {
        size_ = static_cast<std::uint64_t>(info.st_size);
        return {};
    }
    if (!S_ISBLK(info.st_mode))
        return fail(ErrorCode::invalid, options_.path + " changed while it was opened");
    int block = 0;
    if (::ioctl(file_.get(), BLKGETSIZE64, &size_) != 0 ||
        ::ioctl(file_.get(), BLKSSZGET, &block) != 0)
        return system_fail(errno, "size of " + options_.path);
    if (block < 512 || static_cast<std::size_t>(block) > direct_io_alignment)
        return fail(ErrorCode::unsupported,
                    options_.path + " has blocks of " + std::to_string(block) + " bytes");
    logical_block_ = static_cast<std::uint32_t>(block);
    return {};
}

Status AioDisk::check(std::uint64_t offset, std::uint64_t length) const {
    if (offset % sector_bytes != 0 || length % sector_bytes != 0)
        return fail(ErrorCode::invalid, options_.path + ": not a multiple of a sector");
    if (length > size_ || offset > size_ - length)
        return fail(ErrorCode::invalid, options_.path + ": beyond the end of the disk");
    return {};
}

bool AioDisk::fits_blocks(std::uint64_t offset, std::uint64_t length) const {
    return offset % logical_block_ == 0 && length % logical_block_ == 0;
}

void AioDisk::fail_later(Error error, env::StatusCallback done) {
    loop_.post([alive = std::weak_ptr<char>(alive_), error = std::move(error),
                done = std::move(done)]() mutable {
        if (!alive.expired()) done(std::unexpected(std::move(error)));
    });
}

void AioDisk::read(std::uint64_t offset, std::span<std::byte> into, env::StatusCallback done) {
    if (auto status = check(offset, into.size()); !status)
        return fail_later(status.error(), std::move(done));
    if (!fits_blocks(offset, into.size()))
        return begin_partial(false, offset, into, std::move(done));
    auto request = std::make_unique<Request>();
    request->offset = offset;
    request->memory = into.data();
    request->left = into.size();
    request->done = std::move(done);
    if (!aligned(into.data())) {
        request->bounce = Buffer(into.size());
        request->copy_to = into;
        request->memory = request->bounce.data();
    }
    begin(std::move(request));
}

void AioDisk::write(std::uint64_t offset, std::span<const std::byte> from,
                    env::StatusCallback done) {
    if (auto status = check(offset, from.size()); !status)
        return fail_later(status.error(), std::move(done));
    // Neither kernel nor partial_io() writes into the memory of a write.
    auto* memory = const_cast<std::byte*>(from.data());
    if (!fits_blocks(offset, from.size()))
        return begin_partial(true, offset, {memory, from.size()}, std::move(done));
    auto request = std::make_unique<Request>();
    request->is_write = true;
    request->offset = offset;
    request->memory = memory;
    request->left = from.size();
    request->done = std::move(done);
    if (!aligned(from.data())) {
        request->bounce = Buffer(from.size());
        std::memcpy(request->bounce.data(), from.data(), from.size());
        request->memory = request->bounce.data();
    }
    begin(std::move(request));
}

void AioDisk::begin(std::unique_ptr<Request> request) {
    waiting_.push_back(std::move(request));
    schedule_pump();
}

// One io_submit for all requests of a turn of the loop.
void AioDisk::schedule_pump() {
    if (pump_scheduled_) return;
    pump_scheduled_ = true;
    loop_.post([this, alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        pump_scheduled_ = false;
        pump();
    });
}

void AioDisk::pump() {
    std::vector<Finished> finished;
    while (!waiting_.empty() && running_.size() < options_.queue_depth) {
        std::vector<iocb*> batch;
        const std::size_t room = options_.queue_depth - running_.size();
        for (std::size_t i = 0; i < std::min(room, waiting_.size()); ++i) {
            Request& request = *waiting_[i];
            const auto offset = static_cast<long long>(request.offset);
            if (request.is_write)
                ::io_prep_pwrite(&request.control, file_.get(), request.memory, request.left,
                                 offset);
            else
                ::io_prep_pread(&request.control, file_.get(), request.memory, request.left,
                                offset);
            ::io_set_eventfd(&request.control, event_.native_handle());
            batch.push_back(&request.control);
        }
        const int result = ::io_submit(aio_, static_cast<long>(batch.size()), batch.data());
        if (result == -EINTR) continue;
        if (result == -EAGAIN || result == 0) {
            // Out of slots: the next completion tries again, or the timer if there is none.
            if (running_.empty()) retry_later();
            break;
        }
        if (result < 0) {
            // Says that the first of the batch was refused.
            auto request = std::move(waiting_.front());
            waiting_.pop_front();
            finished.push_back(
                {std::move(request->done), system_fail(-result, "submit to " + options_.path)});
            continue;
        }
        for (int i = 0; i < result; ++i) {
            iocb* control = &waiting_.front()->control;
            running_.emplace(control, std::move(waiting_.front()));
            waiting_.pop_front();
        }
    }
    deliver(std::move(finished));
}

void AioDisk::retry_later() {
    retry_.expires_after(retry_delay);
    retry_.async_wait([this, alive = std::weak_ptr<char>(alive_)](const auto& error) {
        if (!error && !alive.expired()) pump();
    });
}

void AioDisk::wait_for_events() {
    event_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this, alive = std::weak_ptr<char>(alive_)](const auto& error) {
                          if (error || alive.expired()) return;
                          wait_for_events();
                          collect();
                      });
}

void AioDisk::collect() {
    eventfd_t count = 0;
    // Reset before the ring is read: what completes from here on signals again.
    (void)::eventfd_read(event_.native_handle(), &count);
    std::vector<Finished> finished;
    std::array<io_event, 64> events{};
    for (;;) {
        timespec no_wait{};
        const int got =
            ::io_getevents(aio_, 0, static_cast<long>(events.size()), events.data(), &no_wait);
        if (got == -EINTR) continue;
        if (got <= 0) break;
        for (int i = 0; i < got; ++i)
            complete(events[i].obj, static_cast<long>(events[i].res), finished);
    }
    if (!waiting_.empty()) schedule_pump();
    deliver(std::move(finished));
}

void AioDisk::complete(iocb* control, long result, std::vector<Finished>& finished) {
    const auto found = running_.find(control);
    if (found == running_.end()) return;
    auto request = std::move(found->second);
    running_.erase(found);
    const auto what = [&] {
        return (request->is_write ? "write to " : "read from ") + options_.path;
    };
    Status status;
    if (result < 0) {
        status = system_fail(static_cast<int>(-result), what());
    } else if (static_cast<std::size_t>(result) < request->left) {
        const auto moved = static_cast<std::size_t>(result);
        if (moved > 0 && moved % logical_block_ == 0) {
            // Short: go on with the rest.
            request->offset += moved;
            request->memory += moved;
            request->left -= moved;
            waiting_.push_front(std::move(request));
            schedule_pump();
            return;
        }
        status = fail(ErrorCode::io, what() + ": short");
    }
    if (status && !request->copy_to.empty())
        std::memcpy(request->copy_to.data(), request->bounce.data(), request->copy_to.size());
    finished.push_back({std::move(request->done), std::move(status)});
}

void AioDisk::deliver(std::vector<Finished> finished) {
    // Any callback may destroy the disk, and then no further one may run.
    const std::weak_ptr<char> alive = alive_;
    for (auto& one : finished) {
        if (alive.expired()) return;
        one.done(std::move(one.status));
    }
}

void AioDisk::begin_partial(bool is_write, std::uint64_t offset, std::span<std::byte> memory,
                            env::StatusCallback done) {
    partial_->submit<void>(
        [this, is_write, offset, memory] { return partial_io(is_write, offset, memory); },
        std::move(done));
}

// Runs on the thread of partial_. A disk whose logical block is larger than a sector.
Status AioDisk::partial_io(bool is_write, std::uint64_t offset, std::span<std::byte> memory) const {
    const std::uint64_t begin = offset / logical_block_ * logical_block_;
    const std::uint64_t end =
        (offset + memory.size() + logical_block_ - 1) / logical_block_ * logical_block_;
    Buffer cover(end - begin);
    const auto transfer = [&](auto call, const char* what) -> Status {
        std::size_t moved = 0;
        while (moved < cover.size()) {
            const ssize_t got = call(file_.get(), cover.data() + moved, cover.size() - moved,
                                     static_cast<off_t>(begin + moved));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return system_fail(errno, what + options_.path);
            if (got == 0) return fail(ErrorCode::io, what + options_.path + ": short");
            moved += static_cast<std::size_t>(got);
        }
        return {};
    };
    if (auto status = transfer(::pread, "read from "); !status) return status;
    std::byte* const part = cover.data() + (offset - begin);
    if (!is_write) {
        std::memcpy(memory.data(), part, memory.size());
        return {};
    }
    std::memcpy(part, memory.data(), memory.size());
    return transfer(::pwrite, "write to ");
}

Status AioDisk::in_steps(const Worker& worker, std::uint64_t offset, std::uint64_t length,
                         const std::function<int(std::uint64_t, std::uint64_t)>& step,
                         const char* what) const {
    while (length > 0) {
        if (worker.stopping()) return fail(ErrorCode::cancelled, options_.path + " was closed");
        const std::uint64_t part = std::min(length, step_bytes);
        const int error = step(offset, part);
        if (error == EINTR) continue;
        if (error != 0) return system_fail(error, what + options_.path);
        offset += part;
        length -= part;
    }
    return {};
}

// Controllers without UNMAP, LSI Logic's among them, make their disks store what is zeroed: only
// where something else is, so that a thin disk stays thin.
int AioDisk::zero_what_is_not(std::uint64_t offset, std::uint64_t length) const {
    thread_local Buffer content(look_bytes);
    while (length > 0) {
        const std::uint64_t part = std::min(length, look_bytes);
        const ssize_t got = ::pread(file_.get(), content.data(), part, static_cast<off_t>(offset));
        if (got < 0) return errno;
        const bool whole = static_cast<std::uint64_t>(got) == part;
        std::array<std::uint64_t, 2> range{offset, part};
        if (!(whole && format::all_zero(content.span().first(part))) &&
            ::ioctl(file_.get(), BLKZEROOUT, range.data()) != 0)
            return errno;
        offset += part;
        length -= part;
    }
    return 0;
}

int AioDisk::zero_step(std::uint64_t offset, std::uint64_t length) const {
    if (block_device_) return zero_what_is_not(offset, length);
    // The size stays: ranges are within it.
    if (::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(offset), static_cast<off_t>(length)) == 0)
        return 0;
    return errno;
}

int AioDisk::discard_step(std::uint64_t offset, std::uint64_t length) const {
    if (!block_device_) return zero_step(offset, length);
    std::array<std::uint64_t, 2> range{offset, length};
    if (::ioctl(file_.get(), BLKDISCARD, range.data()) == 0) return 0;
    // A disk that cannot discard keeps what it has.
    return errno == EOPNOTSUPP ? 0 : errno;
}

void AioDisk::write_zeroes(std::uint64_t offset, std::uint64_t length, env::StatusCallback done) {
    if (auto status = check(offset, length); !status)
        return fail_later(status.error(), std::move(done));
    if (!fits_blocks(offset, length)) {
        // Parts of a block: write real zeroes.
        partial_->submit<void>(
            [this, &worker = *partial_, offset, length]() -> Status {
                std::uint64_t at = offset;
                Buffer zeroes(std::min<std::uint64_t>(length, 1 << 20));
                std::memset(zeroes.data(), 0, zeroes.size());
                while (at < offset + length && !worker.stopping()) {
                    const auto part = std::min<std::uint64_t>(zeroes.size(), offset + length - at);
                    if (auto status = partial_io(true, at, zeroes.span().first(part)); !status)
                        return status;
                    at += part;
                }
                return {};
            },
            std::move(done));
        return;
    }
    blocking_->submit<void>(
        [this, &worker = *blocking_, offset, length] {
            return in_steps(
                worker, offset, length, [this](auto at, auto part) { return zero_step(at, part); },
                "zero ");
        },
        std::move(done));
}

void AioDisk::discard(std::uint64_t offset, std::uint64_t length, env::StatusCallback done) {
    if (auto status = check(offset, length); !status)
        return fail_later(status.error(), std::move(done));
    // Only whole logical blocks can be discarded; the rest keeps its content, which is allowed.
    const std::uint64_t begin = (offset + logical_block_ - 1) / logical_block_ * logical_block_;
    const std::uint64_t end = (offset + length) / logical_block_ * logical_block_;
    const std::uint64_t whole = end > begin ? end - begin : 0;
    blocking_->submit<void>(
        [this, &worker = *blocking_, begin, whole] {
            return in_steps(
                worker, begin, whole, [this](auto at, auto part) { return discard_step(at, part); },
                "discard of ");
        },
        std::move(done));
}

void AioDisk::flush(std::string_view /*site*/, env::StatusCallback done) {
    blocking_->submit<void>(
        [this]() -> Status {
            int result = 0;
            do result = ::fdatasync(file_.get());
            while (result != 0 && errno == EINTR);
            if (result != 0) return system_fail(errno, "flush of " + options_.path);
            return {};
        },
        std::move(done));
}

}  // namespace ebb::platform
