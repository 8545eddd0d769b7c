// SPDX-License-Identifier: Apache-2.0
// Source and replica are compared while both go on. Between two epochs the replica is the newest
// point; what is read of the source's disks then, and is not written before the next cut begins, is
// as it was at that point's cut. What is written all the time is compared at the point of a pass in
// which it was sent, by the digest of what was sent.
#include <algorithm>

#include "core/block_runs.h"
#include "core/compute.h"
#include "core/source_impl.h"

namespace ebb::core {

namespace {

constexpr unsigned stuck_max = 64;  // epochs in which nothing more was settled

}  // namespace

std::uint64_t Source::Impl::Looked::bytes() const {
    return bytes_of(equal) + bytes_of(differs) + bytes_of(unreadable) + bytes_of(unreadable_there);
}

void Source::Impl::verify(VerifyRequest request, env::Callback<VerifyResult> done) {
    const bool over = stopping_ || status_.state == SourceState::fenced;
    if (over || verification_) {
        const Error error = over ? Error{ErrorCode::cancelled, "replication is stopped", {}, {}}
                                 : Error{ErrorCode::busy, "it is being verified already", {}, {}};
        post([done = std::move(done), error]() mutable { done(std::unexpected(error)); });
        return;
    }
    verification_ = std::make_shared<Verification>();
    Verification& it = *verification_;
    it.what = request;
    it.done = std::move(done);
    it.begun = clock_.now();
    const std::size_t disks = config_.disks.size();
    it.open.resize(disks);
    it.singly.resize(disks);
    it.repaired.resize(disks);
    it.to_mark.resize(disks);
    for (Looked* looked : {&it.seen, &it.pending}) {
        for (auto* ranges : looked->all()) ranges->resize(disks);
    }
    for (DiskIndex i = 0; i < disks; ++i) {
        it.total += config_.disks[i].size;
        it.open[i].add(0, config_.disks[i].size);
        for (const Extent& range : discarded_[i].extents())
            it.open[i].remove(range.offset, range.end());
    }
    it.result.discarded_bytes = it.total - bytes_of(it.open);
    it.open_before = it.total;
    wake();
}

bool Source::Impl::slice_is_over(std::uint64_t before) const {
    return cut_due() && verification_->examined - before >= verification_->what.slice_bytes;
}

Duration Source::Impl::ahead_of_rate() const {
    const std::uint64_t rate = verification_->what.bytes_per_s;
    if (rate == 0) return Duration{0};
    const double wanted = static_cast<double>(verification_->examined) / static_cast<double>(rate);
    return Duration{static_cast<std::int64_t>(wanted * 1e9)} -
           (clock_.now() - verification_->begun);
}

Task<Status> Source::Impl::verify_slice() {
    if (!can_compare()) {
        post([done = std::move(verification_->done)]() mutable {
            done(fail(ErrorCode::version, "the target is too old to compare",
                      "Install the same release of Ebb on both"));
        });
        verification_.reset();
        co_return Status{};
    }
    verification_->result.last_epoch = confirmed_;
    if (verification_->result.first_epoch == 0) verification_->result.first_epoch = confirmed_;
    verification_->result.cut_time = status_.last_cut;
    leave_out_discarded();
    auto looks = std::make_shared<Looks>();
    const std::uint64_t before = verification_->examined;
    Status status;
    while (true) {
        status = take_frames();
        if (status && stopping_) status = fail(ErrorCode::cancelled, "stopped");
        if (!status) break;
        if (take_looks(*looks)) continue;
        const Duration ahead = ahead_of_rate();
        const bool over = slice_is_over(before) || (ahead.count() > 0 && cut_due());
        if (!over && ahead.count() <= 0) start_looks(looks);
        if (!looks->empty()) {
            co_await wake_.wait();
        } else if (over || ahead.count() <= 0) {
            break;
        } else {
            // Not beyond the next cut, if one is due by the clock.
            MonoTime until = clock_.now() + ahead;
            if (config_.interval.count() > 0) until = std::min(until, next_cut_);
            co_await wait_until(until);
        }
    }
    for (const auto& look : *looks) {
        if (look->content)
            verification_->open[look->disk].add(look->range.offset, look->range.end());
    }
    if (!status) co_return status;
    status = co_await mark_found();
    if (status) end_verification();
    co_return status;
}

// In passes before the one that closed the epoch.
void Source::Impl::leave_out_discarded() {
    Verification& it = *verification_;
    if (!std::exchange(it.discarded, false)) return;
    for (DiskIndex disk = 0; disk < it.open.size(); ++disk) {
        for (const Extent& range : discarded_[disk].extents()) {
            for (const auto& [begin, end] : it.open[disk].common(range.offset, range.end())) {
                it.open[disk].remove(begin, end);
                it.result.discarded_bytes += end - begin;
            }
        }
    }
}

void Source::Impl::start_looks(const std::shared_ptr<Looks>& looks) {
    std::uint64_t bytes = 0;
    for (const auto& look : *looks) bytes += look->range.length;
    const std::uint64_t window = std::min(config_.window_bytes, welcome_->window_bytes);
    while (looks->size() < config_.reads_in_flight && bytes < window) {
        auto look = next_look();
        if (!look) return;
        bytes += look->range.length;
        verification_->examined += look->range.length;
        looks->push_back(look);
        if (look->content) {
            start_look(look);
        } else {
            look->comparison = ask(0, look->disk, look->range, look->digest);
        }
    }
}

// What was sent comes first: it is known for this point alone.
std::shared_ptr<Source::Impl::Look> Source::Impl::next_look() {
    Verification& it = *verification_;
    auto look = std::make_shared<Look>();
    while (!it.expected.empty()) {
        Expected expected = std::move(it.expected.back());
        it.expected.pop_back();
        if (it.open[expected.disk].common(expected.range.offset, expected.range.end()).empty())
            continue;
        look->disk = expected.disk;
        look->range = expected.range;
        look->blocks = std::move(expected.blocks);
        look->ready = true;
        look->digest = expected.digest;
        return look;
    }
    const std::uint64_t most = std::min(config_.extent_bytes, welcome_->extent_bytes);
    for (DiskIndex i = 0; i < it.open.size(); ++i) {
        const bool singly = !it.singly[i].empty();
        Ranges& from = singly ? it.singly[i] : it.open[i];
        if (from.empty()) continue;
        look->disk = i;
        look->range = from.front(singly ? block_bytes : most);
        from.remove(look->range.offset, look->range.end());
        look->content = std::make_shared<Buffer>(look->range.length);
        return look;
    }
    return nullptr;
}

void Source::Impl::start_look(const std::shared_ptr<Look>& look) {
    tracker_.read_disk(look->disk, look->range.offset, look->content->span(),
                       [weak = weak_from_this(), look](Status status) {
                           const auto self = weak.lock();
                           if (!self) return;
                           if (status) return self->hash_look(look);
                           look->ready = true;
                           look->status = std::move(status);
                           self->wake_.notify();
                       });
}

void Source::Impl::hash_look(const std::shared_ptr<Look>& look) {
    sha256(cpus_, look->content->span(),
           [weak = weak_from_this(), look](Result<format::Sha256> digest) {
               look->digest = *digest;
               look->ready = true;
               if (auto self = weak.lock()) self->wake_.notify();
           });
}

// True: something has come of it.
bool Source::Impl::take_looks(Looks& looks) {
    bool any = false;
    for (const auto& look : looks) {
        if (!look->ready || look->comparison || !look->status) continue;
        look->comparison = ask(0, look->disk, look->range, look->digest);
        any = true;
    }
    while (!looks.empty() && looks.front()->ready &&
           (!looks.front()->status || looks.front()->comparison->answered)) {
        const auto look = looks.front();
        looks.pop_front();
        note(*look);
        any = true;
    }
    return any;
}

void Source::Impl::note(const Look& look) {
    Verification& it = *verification_;
    if (!look.content) return note_expected(look);
    if (look.status) return note_read(look);
    if (look.range.length <= block_bytes) {
        it.seen.unreadable[look.disk].add(look.range.offset, look.range.end());
        return;
    }
    // Whatever of it can be read is compared.
    it.singly[look.disk].add(look.range.offset, look.range.end());
}

void Source::Impl::note_read(const Look& look) {
    Looked& seen = verification_->seen;
    const format::Compared& answer = look.comparison->answer;
    const auto add = [&](std::vector<Ranges>& to, const Extent& range) {
        to[look.disk].add(range.offset, range.end());
    };
    switch (answer.verdict) {
        case format::Verdict::same: return add(seen.equal, look.range);
        case format::Verdict::unreadable: return add(seen.unreadable_there, look.range);
        case format::Verdict::differs: break;
    }
    for_each_run(
        look.range, format::block_digests(look.content->span()), answer.blocks,
        [&](const Extent& part, bool same) { add(same ? seen.equal : seen.differs, part); });
}

// At the newest point, by what was sent for it: this is the last word.
void Source::Impl::note_expected(const Look& look) {
    Verification& it = *verification_;
    const format::Compared& answer = look.comparison->answer;
    const auto settle = [&](const Extent& part, bool same, DifferenceKind kind) {
        for (const auto& [begin, end] : it.open[look.disk].common(part.offset, part.end())) {
            it.open[look.disk].remove(begin, end);
            if (same) {
                it.result.equal_bytes += end - begin;
            } else {
                found(kind, look.disk, {begin, end - begin, false});
            }
        }
    };
    switch (answer.verdict) {
        case format::Verdict::same: return settle(look.range, true, {});
        case format::Verdict::unreadable:
            return settle(look.range, false, DifferenceKind::unreadable_there);
        case format::Verdict::differs: break;
    }
    for_each_run(look.range, look.blocks, answer.blocks, [&](const Extent& part, bool same) {
        settle(part, same, DifferenceKind::differs);
    });
}

void Source::Impl::expect(const Chunk& chunk, const Extent& range,
                          std::span<const std::byte> content) {
    if (!verification_ || !pass_->frozen()) return;
    if (verification_->open[chunk.disk].common(range.offset, range.end()).empty()) return;
    verification_->expected.push_back(
        {chunk.disk, range, format::sha256(content), format::block_digests(content)});
}

// Of a pass: what cannot be compared by its content.
void Source::Impl::verify_acknowledged(const Sent& sent) {
    Ranges& discarded = discarded_[sent.disk];
    const bool gone = sent.kind == format::ExtentKind::discard;
    if (gone) {
        discarded.add(sent.range.offset, sent.range.end());
    } else if (!discarded.empty()) {
        discarded.remove(sent.range.offset, sent.range.end());
    }
    const bool unread = sent.kind == format::ExtentKind::unreadable;
    if (!verification_ || (!gone && !unread)) return;
    Verification& it = *verification_;
    if (!pass_->frozen()) {
        it.discarded = it.discarded || gone;
        return;
    }
    for (const auto& [begin, end] :
         it.open[sent.disk].common(sent.range.offset, sent.range.end())) {
        it.open[sent.disk].remove(begin, end);
        if (gone) {
            it.result.discarded_bytes += end - begin;
        } else {
            found(DifferenceKind::unreadable, sent.disk, {begin, end - begin, false});
        }
    }
}

// What differs is marked once, if it is to be repaired, and looked at again.
void Source::Impl::found(DifferenceKind kind, DiskIndex disk, const Extent& range) {
    Verification& it = *verification_;
    if (kind == DifferenceKind::differs) {
        for (const auto& [begin, end] : it.repaired[disk].common(range.offset, range.end()))
            found(DifferenceKind::persists, disk, {begin, end - begin, false});
        for (const auto& [begin, end] : it.repaired[disk].missing(range.offset, range.end())) {
            if (it.result.differences.size() < differences_max)
                it.result.differences.push_back({kind, disk, begin, end - begin});
            if (it.what.repair) {
                it.to_mark[disk].add(begin, end);
            } else {
                it.result.different_bytes += end - begin;
            }
        }
        return;
    }
    it.result.different_bytes += range.length;
    if (it.result.differences.size() < differences_max)
        it.result.differences.push_back({kind, disk, range.offset, range.length});
}

Task<Status> Source::Impl::mark_found() {
    for (DiskIndex disk = 0; verification_ && disk < verification_->to_mark.size(); ++disk) {
        Ranges& wanted = verification_->to_mark[disk];
        if (wanted.empty()) continue;
        auto extents = std::make_shared<std::vector<Extent>>(wanted.extents());
        wanted.clear();
        Op<void> marked;
        tracker_.mark(disk, *extents, marked.callback(extents));
        auto status = co_await marked;
        if (!status) co_return status;
        if (!verification_) break;
        for (const Extent& range : *extents) {
            verification_->repaired[disk].add(range.offset, range.end());
            verification_->open[disk].add(range.offset, range.end());
            verification_->result.repaired_bytes += range.length;
        }
    }
    co_return Status{};
}

// What was written since the point, before anything of the pass is let go of: its map is all of it.
Task<Status> Source::Impl::list_for_verification() {
    const auto pass = pass_;
    if (!verification_ || pass->listed) co_return Status{};
    for (DiskIndex disk = 0; disk < tracked_.size(); ++disk) {
        std::uint64_t offset = 0;
        bool more = true;
        while (more) {
            Op<env::PassMap> asked;
            tracker_.pass_map(pass->info.id, disk, offset, asked.callback());
            auto map = co_await asked;
            if (!map) co_return std::unexpected(map.error());
            if (!verification_) co_return Status{};
            more = map->more;
            offset = map->next_offset;
            for (const Extent& extent : map->extents) {
                for (auto* ranges : verification_->seen.all()) {
                    for (const auto& [begin, end] :
                         (*ranges)[disk].common(extent.offset, extent.end())) {
                        (*ranges)[disk].remove(begin, end);
                        verification_->open[disk].add(begin, end);
                    }
                }
            }
        }
    }
    const auto seen = verification_->seen.all();
    const auto pending = verification_->pending.all();
    for (std::size_t kind = 0; kind < seen.size(); ++kind) {
        for (DiskIndex disk = 0; disk < tracked_.size(); ++disk) {
            for (const Extent& range : (*seen[kind])[disk].extents())
                (*pending[kind])[disk].add(range.offset, range.end());
            (*seen[kind])[disk].clear();
        }
    }
    pass->listed = true;
    co_return Status{};
}

// An epoch is closed, and no disk was flagged meanwhile.
Task<Status> Source::Impl::verification_closed() {
    if (!verification_) co_return Status{};
    Verification& it = *verification_;
    const std::array kinds{DifferenceKind::differs, DifferenceKind::differs,
                           DifferenceKind::unreadable, DifferenceKind::unreadable_there};
    const auto pending = it.pending.all();
    for (std::size_t kind = 0; kind < pending.size(); ++kind) {
        for (DiskIndex disk = 0; disk < pending[kind]->size(); ++disk) {
            Ranges& ranges = (*pending[kind])[disk];
            if (pending[kind] == &it.pending.equal) {
                it.result.equal_bytes += ranges.bytes();
            } else {
                for (const Extent& range : ranges.extents()) found(kinds[kind], disk, range);
            }
            ranges.clear();
        }
    }
    const std::uint64_t open = bytes_of(it.open);
    it.stuck = open < it.open_before || it.open_before == 0 ? 0 : it.stuck + 1;
    it.open_before = open;
    if (it.stuck >= stuck_max) {
        for (DiskIndex disk = 0; disk < it.open.size(); ++disk) {
            for (const Extent& range : it.open[disk].extents())
                found(DifferenceKind::unsettled, disk, range);
            it.open[disk].clear();
        }
    }
    auto status = co_await mark_found();
    if (status) end_verification();
    co_return status;
}

void Source::Impl::look_again(Looked& looked, DiskIndex disk) {
    for (auto* ranges : looked.all()) {
        for (const Extent& range : (*ranges)[disk].extents())
            verification_->open[disk].add(range.offset, range.end());
        (*ranges)[disk].clear();
    }
}

void Source::Impl::look_again() {
    if (!verification_) return;
    verification_->expected.clear();
    for (DiskIndex disk = 0; disk < verification_->open.size(); ++disk) {
        look_again(verification_->seen, disk);
        look_again(verification_->pending, disk);
    }
}

// All was looked at that could be, and only a cut tells what it is worth.
bool Source::Impl::verification_needs_cut() const {
    if (!verification_ || bytes_of(verification_->to_mark) != 0) return false;
    const std::uint64_t open = bytes_of(verification_->open) + bytes_of(verification_->singly);
    return open == 0 && verification_->seen.bytes() != 0;
}

void Source::Impl::end_verification() {
    if (!verification_) return;
    Verification& it = *verification_;
    if (bytes_of(it.open) + bytes_of(it.singly) + it.seen.bytes() + it.pending.bytes() != 0) return;
    for (const Difference& difference : it.result.differences) {
        if (difference.kind == DifferenceKind::persists)
            it.result.repaired_bytes -= std::min(it.result.repaired_bytes, difference.length);
    }
    post([done = std::move(it.done), result = std::move(it.result)]() mutable {
        done(std::move(result));
    });
    verification_.reset();
}

}  // namespace ebb::core
