// SPDX-License-Identifier: Apache-2.0
// How the source finds out what of a resync the target has already: docs/wire-protocol.md,
// "Comparing".
#include "core/block_runs.h"
#include "core/compute.h"
#include "core/source_impl.h"

namespace ebb::core {

bool Source::Impl::can_compare() const {
    return welcome_ && welcome_->version >= format::version_with_compare;
}

bool Source::Impl::wants_compare(DiskIndex disk, std::uint64_t begin, std::uint64_t end) const {
    return can_compare() && !compare_[disk].common(begin, end).empty();
}

void Source::Impl::compare_all(DiskIndex disk) {
    compare_[disk].add(0, config_.disks[disk].size);
}

std::shared_ptr<Source::Impl::Comparison> Source::Impl::ask(std::uint32_t pass, DiskIndex disk,
                                                            const Extent& range,
                                                            const format::Sha256& digest) {
    auto comparison = std::make_shared<Comparison>();
    comparison->asked = {
        pass, compare_id_++, disk, range.offset, static_cast<std::uint32_t>(range.length), digest};
    comparisons_[comparison->asked.id] = comparison;
    send(format::encode(comparison->asked, sent_));
    return comparison;
}

void Source::Impl::start_hash(const std::shared_ptr<Chunk>& chunk) {
    chunk->hashing = true;
    sha256(
        cpus_, chunk->content->span(),
        [weak = weak_from_this(), chunk, content = chunk->content](Result<format::Sha256> digest) {
            chunk->digest = *digest;
            if (auto self = weak.lock()) self->wake_.notify();
        });
}

// As soon as they are read: the answers come while others are still being read. How much is under
// way is bounded by start_reads().
void Source::Impl::ask_for_chunks(const std::shared_ptr<Cursor>& cursor) {
    for (const auto& chunk : cursor->chunks) {
        if (!connection_ || !chunk->started) return;
        if (!chunk->compare || chunk->comparison || !chunk->done || !chunk->status) continue;
        if (!chunk->digest) {
            if (!chunk->hashing) start_hash(chunk);
            continue;
        }
        chunk->comparison = ask(pass_->number, chunk->disk, chunk->range, *chunk->digest);
        pass_->compared = true;
    }
}

// False: it answers nothing that was asked.
bool Source::Impl::take_compared(format::Compared message) {
    const auto found = comparisons_.find(message.id);
    if (found == comparisons_.end()) return false;
    const auto comparison = found->second;
    const std::uint64_t blocks = (comparison->asked.length + block_bytes - 1) / block_bytes;
    if (message.verdict == format::Verdict::differs && message.blocks.size() != blocks)
        return false;
    comparisons_.erase(found);
    comparison->answer = std::move(message);
    comparison->answered = true;
    return true;
}

void Source::Impl::send_compared(const Chunk& chunk) {
    using format::ExtentKind;
    const format::Compared& answer = chunk.comparison->answer;
    if (answer.verdict != format::Verdict::differs) {
        const bool same = answer.verdict == format::Verdict::same;
        return send_extent(chunk, chunk.range, same ? ExtentKind::same : ExtentKind::data);
    }
    for_each_run(chunk.range, format::block_digests(chunk.content->span()), answer.blocks,
                 [&](const Extent& part, bool same) {
                     send_extent(chunk, part, same ? ExtentKind::same : ExtentKind::data);
                 });
}

}  // namespace ebb::core
