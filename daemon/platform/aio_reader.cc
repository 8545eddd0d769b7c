// SPDX-License-Identifier: Apache-2.0
#include "platform/aio_reader.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "base/units.h"
#include "platform/system_error.h"

namespace ebb::platform {

namespace {

constexpr auto retry_delay = std::chrono::milliseconds(10);

}  // namespace

AioReader::AioReader(EventLoop& loop, Options options)
    : options_(std::move(options)),
      event_(loop.context()),
      retry_(loop.context()),
      submitter_(std::make_unique<Worker>(loop, 1, options_.name)) {}

AioReader::~AioReader() {
    alive_.reset();
    submitter_.reset();
    boost::system::error_code ignored;
    event_.close(ignored);
    // Returns when all requests have ended.
    if (aio_ != nullptr) ::io_destroy(aio_);
}

Result<std::unique_ptr<AioReader>> AioReader::open(EventLoop& loop, Options options) {
    auto reader = std::unique_ptr<AioReader>(new AioReader(loop, std::move(options)));
    if (auto status = reader->setup(); !status) return std::unexpected(status.error());
    return reader;
}

Status AioReader::setup() {
    const int result = ::io_setup(static_cast<int>(options_.depth), &aio_);
    if (result < 0) return system_fail(-result, "io_setup for " + options_.name);
    const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) return system_fail(errno, "eventfd");
    event_.assign(event);
    wait_for_events();
    return {};
}

void AioReader::read(int file, std::uint64_t offset, std::span<std::byte> into, Done done) {
    auto request = std::make_unique<Request>();
    request->file = file;
    request->offset = offset;
    request->memory = into.data();
    request->left = into.size();
    request->done = std::move(done);
    waiting_.push_back(std::move(request));
    submit();
}

// One batch at a time is with the submitter.
void AioReader::submit() {
    if (submitting_ || waiting_.empty() || running_.size() >= options_.depth) return;
    std::vector<iocb*> batch;
    while (batch.size() < options_.together && !waiting_.empty() &&
           running_.size() < options_.depth) {
        auto request = std::move(waiting_.front());
        waiting_.pop_front();
        iocb* const control = &request->control;
        ::io_prep_pread(control, request->file, request->memory, request->left,
                        static_cast<long long>(request->offset));
        ::io_set_eventfd(control, event_.native_handle());
        running_.emplace(control, std::move(request));
        batch.push_back(control);
    }
    submitting_ = true;
    submitter_->submit<Submitted>(
        [aio = aio_, batch,
         most = options_.one_by_one ? 1 : batch.size()]() mutable -> Result<Submitted> {
            Submitted sent;
            while (sent.count < batch.size() && sent.error == 0) {
                const long count = static_cast<long>(std::min(most, batch.size() - sent.count));
                const int result = ::io_submit(aio, count, batch.data() + sent.count);
                if (result > 0) sent.count += static_cast<std::size_t>(result);
                if (result <= 0 && result != -EINTR) sent.error = result == 0 ? EAGAIN : -result;
            }
            return sent;
        },
        [this, batch](const Result<Submitted>& result) { submitted(batch, *result); });
}

// Those that were may have ended since.
void AioReader::submitted(std::span<iocb* const> batch, const Submitted& result) {
    submitting_ = false;
    std::vector<Finished> finished;
    for (std::size_t i = batch.size(); i > result.count; --i) {
        const auto found = running_.find(batch[i - 1]);
        auto request = std::move(found->second);
        running_.erase(found);
        // The error is of the first of them alone.
        if (i - 1 == result.count && result.error != EAGAIN)
            finished.push_back({std::move(request->done), -result.error});
        else
            waiting_.push_front(std::move(request));
    }
    // Out of slots: the next that ends tries again, or the timer if there is none.
    if (result.error == EAGAIN) {
        if (running_.empty()) retry_later();
    } else {
        submit();
    }
    deliver(std::move(finished));
}

void AioReader::retry_later() {
    retry_.expires_after(retry_delay);
    retry_.async_wait([this, alive = std::weak_ptr<char>(alive_)](const auto& error) {
        if (!error && !alive.expired()) submit();
    });
}

void AioReader::wait_for_events() {
    event_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this, alive = std::weak_ptr<char>(alive_)](const auto& error) {
                          if (error || alive.expired()) return;
                          wait_for_events();
                          collect();
                      });
}

void AioReader::collect() {
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
            complete(events.at(i).obj, static_cast<long>(events.at(i).res), finished);
    }
    submit();
    deliver(std::move(finished));
}

void AioReader::complete(const iocb* control, long result, std::vector<Finished>& finished) {
    const auto found = running_.find(control);
    auto request = std::move(found->second);
    running_.erase(found);
    if (result > 0) {
        const auto moved = static_cast<std::size_t>(result);
        request->offset += moved;
        request->memory += moved;
        request->left -= moved;
        request->got += moved;
        // Short: goes on with the rest, unless it is the end.
        if (request->left > 0 && moved % sector_bytes == 0) {
            waiting_.push_front(std::move(request));
            return;
        }
    }
    const long got = result < 0 ? result : static_cast<long>(request->got);
    finished.push_back({std::move(request->done), got});
}

void AioReader::deliver(std::vector<Finished> finished) {
    // Any callback may be the end of us, and then no further one may run.
    const std::weak_ptr<char> alive = alive_;
    for (auto& one : finished) {
        if (alive.expired()) return;
        one.done(one.result);
    }
}

}  // namespace ebb::platform
