// SPDX-License-Identifier: Apache-2.0
// What merged files must say of the extents of their epochs: those are noted while each has a file
// of its own, and which of them count is found out by another way than the journal's.
#include <algorithm>
#include <tuple>

#include "core/journal.h"
#include "journal_records.h"
#include "world.h"

namespace ebb::sim {

namespace {

using format::ExtentKind;
using format::ManifestEntry;
using format::RecordType;

// A sector, and what is said of it: the digest of an extent, of which it is a part.
using Word = std::tuple<std::uint64_t, std::uint64_t, ExtentKind, format::Digest128>;
using Words = std::map<std::pair<DiskIndex, std::uint64_t>, Word>;

bool of_the_whole(ExtentKind kind) {
    return kind == ExtentKind::data || kind == ExtentKind::same;
}

// A part of an extent without a digest says what the whole says.
Word word(const ManifestEntry& extent) {
    if (!of_the_whole(extent.kind)) return {0, 0, extent.kind, {}};
    return {extent.offset, extent.length, extent.kind, extent.digest};
}

void speak(Words& words, const ManifestEntry& extent) {
    for (std::uint64_t at = extent.offset; at < extent.end(); at += sector_bytes)
        words[{extent.disk, at}] = word(extent);
}

// Those that have the last word on all of themselves, and of the others what can be divided.
Words last_words(const std::vector<std::span<const ManifestEntry>>& epochs) {
    std::map<std::pair<DiskIndex, std::uint64_t>, const ManifestEntry*> owners;
    for (const auto& extents : epochs) {
        for (const ManifestEntry& extent : extents) {
            for (std::uint64_t at = extent.offset; at < extent.end(); at += sector_bytes)
                owners[{extent.disk, at}] = &extent;
        }
    }
    std::map<const ManifestEntry*, std::uint64_t> left;
    for (const auto& [place, extent] : owners) left[extent] += sector_bytes;
    Words words;
    for (const auto& [place, extent] : owners) {
        if (!of_the_whole(extent->kind) || left[extent] >= extent->length)
            words[place] = word(*extent);
    }
    return words;
}

}  // namespace

std::vector<JournalRecord> records_of(const Bytes& file) {
    std::vector<JournalRecord> records;
    std::size_t at = 0;
    while (file.size() - at >= format::record_header_bytes) {
        const auto here = std::span(file).subspan(at);
        auto header = format::decode_record_header(here);
        if (!header) break;
        const auto rest = here.subspan(format::record_header_bytes);
        const std::uint64_t size = header->payload_bytes + format::record_trailer_bytes;
        if (rest.size() < size || !format::check_record(*header, rest.first(size))) break;
        records.push_back({at, *header, rest.first(header->payload_bytes)});
        at = records.back().end();
    }
    return records;
}

// As it is in the file; nothing where the file is not closed.
std::optional<World::Sent> World::sent_of(const Bytes& file) {
    const auto records = records_of(file);
    Sent sent;
    for (const JournalRecord& record : records) {
        if (record.header.type == RecordType::manifest) {
            auto manifest = format::decode_manifest_record(record.payload);
            if (!manifest) return std::nullopt;
            const auto& more = manifest->extents;
            sent.extents.insert(sent.extents.end(), more.begin(), more.end());
        }
        if (record.header.type != RecordType::closed) continue;
        sent.before = records.front().header.previous;
        sent.after =
            format::chain_after(std::span(file).subspan(record.at, format::record_header_bytes));
        return sent;
    }
    return std::nullopt;
}

// Whenever there is a new point, which has a file of its own.
void World::watch_for_manifests() {
    if (!target_run_ || !target_run_->open) return;
    const std::uint64_t newest = target_run_->target->status().newest.epoch;
    if (newest == noted_) return;
    noted_ = newest;
    for (const auto& [name, file] : volume_.names) {
        const auto span = core::Journal::span_of(name);
        if (!span) continue;
        if (span->first != span->last) {
            if (checked_.insert(*span).second) check_manifests(*span, file->current);
        } else if (span->last == newest) {
            if (auto sent = sent_of(file->current)) sent_.insert_or_assign(newest, *sent);
        }
    }
}

void World::check_manifests(const core::EpochSpan& span, const Bytes& file) {
    std::vector<const Sent*> epochs;
    for (std::uint64_t epoch = span.first; epoch <= span.last; ++epoch) {
        const auto known = sent_.find(epoch);
        // Of another history, or never seen.
        if (known == sent_.end()) return;
        if (!epochs.empty() && epochs.back()->after != known->second.before) return;
        epochs.push_back(&known->second);
    }
    const auto merged = sent_of(file);
    if (!merged || merged->before != epochs.front()->before) return;
    hit("merged-manifests");
    Words there;
    for (const ManifestEntry& extent : merged->extents) {
        const std::size_t before = there.size();
        speak(there, extent);
        const std::uint64_t sectors = (extent.length + sector_bytes - 1) / sector_bytes;
        if (there.size() != before + sectors)
            return problem("a merged file has two digests of a block");
    }
    std::vector<std::span<const ManifestEntry>> extents;
    for (const Sent* sent : epochs) extents.emplace_back(sent->extents);
    const Words wanted = last_words(extents);
    for (const auto& [place, said] : wanted) {
        const auto found = there.find(place);
        if (found == there.end()) return problem("a merged file lacks a digest");
        if (found->second != said)
            return problem("a merged file has a digest that is not the last");
    }
    // What has been merged before may lack extents that had written what was there already: then
    // older ones still say what is there. Certifying must agree with them.
    if (there.size() > wanted.size()) ++faults_.hits["merged-again"];
}

}  // namespace ebb::sim
