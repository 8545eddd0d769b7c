// SPDX-License-Identifier: Apache-2.0
// Live passes ahead of a cut: docs/decisions/0407-live-passes-ahead-of-the-cut.md.
#include <algorithm>

#include "core/source_impl.h"

namespace ebb::core {

namespace {

// Spread over a disk, whatever the pattern of the writes.
bool is_sampled(std::uint64_t block, std::uint64_t one_in) {
    constexpr std::uint64_t golden = 0x9e3779b97f4a7c15;
    return ((block * golden) >> 32) % one_in == 0;
}

}  // namespace

// Until the cut is due, or for a while. True: a live pass is to go ahead of it. What is dirty is
// looked at a few times in an interval, so no more passes than that go ahead of one cut.
Task<Result<bool>> Source::Impl::wait_for_cut() {
    if (config_.interval.count() == 0) {
        co_await wait_until(clock_.now() + config_.silence_limit);
        co_return false;
    }
    if (verification_ || rewritten_ || config_.looks_ahead == 0) {
        co_await wait_until(next_cut_);
        co_return false;
    }
    if (clock_.now() < next_look_) {
        co_await wait_until(std::min(next_cut_, next_look_));
        co_return false;
    }
    next_look_ = clock_.now() + config_.interval / config_.looks_ahead;
    auto status = co_await look_at_tracker();
    if (!status) co_return std::unexpected(status.error());
    if (fresh_) co_return fail(ErrorCode::resync_required, "the tracking module was loaded anew");
    co_return wants_ahead(dirty_bytes());
}

std::uint64_t Source::Impl::dirty_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& disk : tracked_) bytes += disk.dirty_blocks * block_bytes;
    return bytes;
}

// More than a frozen pass may have is there already, or will be at the cut if it goes on like this.
bool Source::Impl::wants_ahead(std::uint64_t dirty) const {
    if (dirty <= config_.frozen_limit_bytes / 2) return false;
    const auto since = std::max(clock_.now() - dirty_since_, Duration{1});
    const auto left = std::max(next_cut_ - clock_.now(), Duration{0});
    const double growth = static_cast<double>(left.count()) / static_cast<double>(since.count());
    return static_cast<double>(dirty) * (1 + growth) >
           static_cast<double>(config_.frozen_limit_bytes);
}

void Source::Impl::sample_ahead(const Sent& sent) {
    for (std::uint64_t at = sent.range.offset; at < sent.range.end(); at += block_bytes) {
        if (!is_sampled(at / block_bytes, config_.sampled_ahead * ahead_thinned_)) continue;
        ++pass_->sampled;
        if (!sent_ahead_.emplace(sent.disk, at).second) ++pass_->sent_again;
        if (sent_ahead_.size() > config_.samples_ahead) thin_samples();
    }
    status_.samples_ahead = sent_ahead_.size();
}

// A large machine with a long interval may bring any number of blocks for one cut. Those that stay
// are what would be there if fewer had been sampled from the beginning.
void Source::Impl::thin_samples() {
    ahead_thinned_ *= 2;
    std::erase_if(sent_ahead_, [&](const auto& one) {
        return !is_sampled(one.second / block_bytes, config_.sampled_ahead * ahead_thinned_);
    });
    pass_->sampled /= 2;
    pass_->sent_again /= 2;
}

// Where most of it had been sent for this cut before, another pass would bring it once more.
void Source::Impl::ahead_ended() {
    rewritten_ = 2 * pass_->sent_again > pass_->sampled;
    if (rewritten_) ++status_.passes_ahead_again;
}

void Source::Impl::forget_ahead() {
    ahead_ = rewritten_ = false;
    sent_ahead_.clear();
    ahead_thinned_ = 1;
    status_.samples_ahead = 0;
}

}  // namespace ebb::core
