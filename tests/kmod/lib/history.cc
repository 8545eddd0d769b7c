// SPDX-License-Identifier: Apache-2.0
#include "lib/history.h"

#include <algorithm>

#include "lib/text.h"

namespace ebb::kmodtest {
namespace {

using Writes = std::vector<WriteOfBlock>;

// Number of writes of the block that the stamp stands for: 0 empty, n the nth; -1 no such write.
long position(const Writes& writes, const Stamp& stamp) {
    if (stamp.sequence == 0) return 0;
    for (std::size_t i = writes.size(); i-- > 0;)
        if (writes[i].writer == stamp.writer && writes[i].sequence == stamp.sequence)
            return static_cast<long>(i) + 1;
    return -1;
}

std::string name(const BlockKey& key) {
    return text("disk %u block %llu", key.first, static_cast<unsigned long long>(key.second));
}

struct Span {
    long lowest = 0;
    long highest = 0;
    bool known = true;
};

Span span_of(const Writes& writes, const FoundBlock& block) {
    Span span;
    for (std::size_t i = 0; i < sectors_of_block; ++i) {
        long at = position(writes, block.sectors[i]);
        if (at < 0) span.known = false;
        span.lowest = i ? std::min(span.lowest, at) : at;
        span.highest = i ? std::max(span.highest, at) : at;
    }
    return span;
}

}  // namespace

void History::add(const std::vector<LogRecord>& records) {
    for (const auto& record : records) {
        auto& writes = writes_[{record.disk, record.block}];
        if (record.kind == LogKind::issued) {
            writes.push_back({record.writer, record.sequence, record.ticket, never});
        } else if (record.kind == LogKind::acknowledged) {
            // A writer's log holds the issue before the acknowledgement.
            for (std::size_t i = writes.size(); i-- > 0;)
                if (writes[i].writer == record.writer && writes[i].sequence == record.sequence) {
                    writes[i].acknowledged = record.ticket;
                    break;
                }
        }
    }
}

void History::finish() {
    for (auto& [key, writes] : writes_)
        std::sort(writes.begin(), writes.end(),
                  [](const auto& a, const auto& b) { return a.issued < b.issued; });
}

std::vector<std::string> History::check(const Found& found, std::uint64_t asked,
                                        std::uint64_t granted, std::size_t limit) const {
    std::vector<std::string> faults;
    auto fault = [&](const BlockKey& key, const std::string& what) {
        if (faults.size() < limit) faults.push_back(name(key) + ": " + what);
    };
    static const FoundBlock empty;
    auto block_of = [&](const BlockKey& key) -> const FoundBlock& {
        auto at = found.find(key);
        return at == found.end() ? empty : at->second;
    };
    // Everything acknowledged before this must be there: before the cut was asked for, or before
    // the latest write that is there was issued.
    std::uint64_t must = asked;
    std::map<BlockKey, Span> spans;
    for (const auto& [key, writes] : writes_) {
        const FoundBlock& block = block_of(key);
        Span span = span_of(writes, block);
        spans[key] = span;
        if (block.discarded) continue;
        if (!span.known) {
            fault(key, "holds what nobody wrote");
            continue;
        }
        if (span.highest == 0) continue;
        const auto& last = writes[static_cast<std::size_t>(span.highest) - 1];
        if (last.issued > granted)
            fault(key, text("write %llu of writer %u was issued after the cut had been granted",
                            static_cast<unsigned long long>(last.sequence), last.writer));
        must = std::max(must, last.issued);
    }
    for (const auto& [key, writes] : writes_) {
        const Span& span = spans[key];
        if (!span.known || block_of(key).discarded) continue;
        for (std::size_t i = static_cast<std::size_t>(span.lowest); i < writes.size(); ++i) {
            const auto& missing = writes[i];
            if (missing.acknowledged >= must) continue;
            bool before = missing.acknowledged < asked;
            fault(key, text("write %llu of writer %u %s is missing",
                            static_cast<unsigned long long>(missing.sequence), missing.writer,
                            before ? "acknowledged before the cut"
                                   : "that one in the cut was issued after"));
            break;
        }
        // A torn block is judged by its oldest sector: the newer writes must have been under way.
    }
    for (const auto& [key, block] : found)
        if (!writes_.contains(key))
            for (const auto& sector : block.sectors)
                if (sector.sequence != 0 && sector.sequence != never) {
                    fault(key, "holds a stamp that no log knows");
                    break;
                }
    return faults;
}

}  // namespace ebb::kmodtest
